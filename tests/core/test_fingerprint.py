"""What a value is made of: the same for the same content, another for any other content, code or global value."""

import functools
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from assay import PGD
from assay.core.fingerprint import fingerprint
from assay.data import Dataset
from assay.models import build, digest

SCALE = 1.0
TABLE = {"a": [1, 2]}
CALLS = 0


@dataclass(frozen=True)
class Part:
    held: Any


class Plain:
    def __init__(self, eps):
        self.eps = eps


class Slotted:
    __slots__ = ("eps",)

    def __init__(self, eps):
        self.eps = eps


class Pair(NamedTuple):
    a: Any
    b: Any


class Rule:
    factor = 2.0

    def __call__(self, x):
        return scaled(x) * self.factor

    @property
    def twice(self):
        return 2 * self.factor

    @staticmethod
    def halved(x):
        return x / 2


def scaled(x):
    return SCALE * x


def counted(x):
    global CALLS
    CALLS += 1
    return x


def looked_up(x):
    return TABLE["a"][0] * x


def closure(value):
    return lambda x: x * value


DATA = Dataset(x=torch.zeros(2, 1, 4, 4, dtype=torch.uint8), y=torch.tensor([0, 1]), classes=("a", "b"))
OTHER = Dataset(x=torch.ones(2, 1, 4, 4, dtype=torch.uint8), y=torch.tensor([0, 1]), classes=("a", "b"))


def differ(one, other):
    one, other = fingerprint(one), fingerprint(other)
    return (one.text, one.code) != (other.text, other.code)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: v,
        Part,
        Plain,
        Slotted,
        lambda v: [v],
        lambda v: {"k": v},
        closure,
        lambda v: functools.partial(scaled, v),
        lambda v: Pair(v, 1),
        lambda v: SimpleNamespace(v=v),
        lambda v: frozenset([v, 3]),
    ],
)
@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 2), (0.1, 0.1 + 1e-16), ("a", "b"), (scaled, counted), (Rule.halved, scaled), (None, 0), ((1,), (1, 1))],
)
def test_any_place_of_a_value_counts(wrap, one, other):
    assert not differ(wrap(one), wrap(one))
    assert differ(wrap(one), wrap(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(3), torch.ones(3)),
        (torch.zeros(3), torch.zeros(3, dtype=torch.float64)),
        (np.zeros(3), np.ones(3)),
        (DATA, OTHER),
        (closure(1.0), closure(2.0)),
        (Plain(1).__init__, Plain(2).__init__),
        (PGD(0.1), PGD(0.2)),
    ],
)
def test_contents_count(one, other):
    assert not differ(Part(one), Part(one))
    assert differ(Part(one), Part(other))


def test_an_objects_address_does_not():
    assert [fingerprint(Plain(0.1)).text for _ in range(3)] == ["Plain(eps=0.1)"] * 3


@pytest.mark.parametrize("held", [threading.Lock(), iter([1]), sys.stdin])
def test_what_cannot_be_told_is_never_the_same(held):
    assert differ(Part(held), Part(held))


def test_code_and_what_it_reads_counts(monkeypatch):
    rule = fingerprint(Rule()).code
    assert rule == fingerprint(Rule()).code
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 2.0)  # read by a function that a method calls
    assert fingerprint(Rule()).code != rule
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 1.0)
    assert fingerprint(Rule()).code == rule
    for name, value in (("factor", 3.0), ("twice", property(lambda _: 5.0)), ("halved", staticmethod(lambda x: x))):
        with monkeypatch.context() as patch:
            patch.setattr(Rule, name, value)
            assert fingerprint(Rule()).code != rule, name
    before = fingerprint(looked_up).code
    monkeypatch.setitem(TABLE, "a", [2, 2])
    assert fingerprint(looked_up).code != before


def test_a_state_that_code_keeps_does_not():
    before = fingerprint(counted).code
    counted(1)
    assert fingerprint(counted).code == before


def test_the_code_of_libraries_is_told_by_name():
    result = fingerprint(PGD(0.1))
    assert result.code == ""
    assert "assay.parts.first_order" in result.modules
    assert fingerprint(torch.relu).code == ""


def test_a_long_chain_of_functions_is_followed():
    lines = [f"def f{i}(x):\n    return f{i + 1}(x)" for i in range(40)]
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("\n".join((*lines, "def f40(x):\n    return K * x", "K = 1")), space)
    before = fingerprint(space["f0"]).code
    space["K"] = 2
    assert fingerprint(space["f0"]).code != before


def test_a_helper_module_is_followed_and_a_reload_is_seen(tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("SCALE = 1.0\n")
    (tmp_path / "mine.py").write_text("import helper_of_mine\n\ndef f(x):\n    return helper_of_mine.SCALE * x\n")
    script = """
        import importlib, pathlib, sys
        sys.path.insert(0, sys.argv[1])
        sys.dont_write_bytecode = True
        from assay.core.fingerprint import fingerprint
        import helper_of_mine, mine
        codes = [fingerprint(mine.f).code]
        file = pathlib.Path(sys.argv[1]) / "helper_of_mine.py"
        file.write_text("SCALE = 22.0\\n")
        codes.append(fingerprint(mine.f).code)  # what runs is still the old
        importlib.reload(helper_of_mine)
        codes.append(fingerprint(mine.f).code)
        class Main:
            def f(self): return 1
        codes.append(fingerprint(Main()).code)
        Main.f = lambda self: 2
        codes.append(fingerprint(Main()).code)
        print(*codes)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, edited, reloaded, main, changed = done.stdout.split()
    assert first == edited != reloaded
    assert main != changed


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.scale, self.others = nn.Linear(2, 2), 1.0, [nn.Linear(2, 2)]
        nn.init.ones_(self.inner.weight)

    def forward(self, x):
        return self.scale * scaled(self.inner(x))


def net():
    torch.manual_seed(0)
    return Net()


def rescale(model):
    model.scale = 2.0


def replace_forward(model):
    model.forward = lambda x: -x


def hook(model):
    model.inner.register_forward_hook(lambda *_: None)


def change_other_network(model):
    with torch.no_grad():
        model.others[0].weight.zero_()


def patch_part(model):
    model.inner.forward = scaled


@pytest.mark.parametrize("change", [rescale, replace_forward, hook, change_other_network, patch_part])
def test_a_models_digest_knows_what_is_no_weight(change):
    model = net()
    before = digest(model)
    assert before == digest(net()) == digest(model)
    change(model)
    assert digest(model) != before


def test_a_models_digest_knows_the_values_its_code_reads(monkeypatch):
    before = digest(net())
    monkeypatch.setattr(sys.modules[__name__], "SCALE", -1.0)
    assert digest(net()) != before


def test_a_patched_part_of_our_own_models_counts():
    model = build("tiny-cnn", channels=1, classes=3, size=8)
    before = digest(model)
    model.forward = lambda x: x.flatten(1)[:, :3]
    assert digest(model) != before
