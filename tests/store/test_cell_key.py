"""Which results are the same, and which only versions tell apart."""

import pytest

from assay import PGD
from assay.core.objective import Objective
from assay.store.cell_key import FIELD_LABELS, differences, fields_of, key_of, made_by_other_versions
from assay.store.columns import Cell
from models_for_tests import mlp


def fields(attack=None, **changed):
    settings = {"adaptation": None, "stop": "hit", "search": "float32", "seed": 0, "max_forwards": 30, "device": "cpu"}
    return fields_of("m", "d", "c", attack or PGD(0.1), **{**settings, **changed})


def cell(number, about):
    return Cell(number, key_of(about), "d", 4, about, "x", ())


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"stop": "never"}, "stop"),
        ({"search": "float64"}, "search"),
        ({"seed": 1}, "seed"),
        ({"max_forwards": 31}, "max_forwards"),
        ({"device": "cuda:1"}, "device"),
        ({"start": "data"}, "start"),
        ({"attack": PGD(0.2)}, "attack"),
    ],
)
def test_each_setting_has_a_field(changed, name):
    assert differences(fields(), fields(**changed)) == (name,)
    assert set(fields()) == set(FIELD_LABELS)


class Term:
    needs = ()

    def __init__(self, sign):
        self.sign = sign

    def __call__(self, logits, image, rows):
        return self.sign * logits[:, 0]

    def describe(self):
        return "mine"


def with_term(term):
    return PGD(0.1, loss=Objective(((1.0, term),)))


def test_an_attack_of_ones_own_is_told_by_content_and_code(monkeypatch):
    assert fields(with_term(Term(1))) == fields(with_term(Term(1)))
    assert differences(fields(with_term(Term(1))), fields(with_term(Term(2)))) == ("attack",)
    before = fields(with_term(Term(1)))
    monkeypatch.setattr(Term, "__call__", lambda self, logits, image, rows: logits[:, 1])
    assert differences(before, fields(with_term(Term(1)))) == ("attack_code",)


def test_a_network_that_an_attack_holds_counts():
    class Holds(Term):
        pass

    one, same, other = (with_term(Holds(mlp(seed=seed))) for seed in (0, 0, 1))
    assert fields(one) == fields(same)
    assert differences(fields(one), fields(other)) == ("parts",)


def test_versions_alone_may_be_passed_over():
    old = {name: text for name, text in fields().items() if name not in ("max_forwards", "attack_code")}
    near = cell(1, {**old, "budget": "30", "code": "x", "torch": "2.0"})  # as 0.1 wrote it
    others = [cell(2, {**old, "budget": "31"}), cell(3, {**fields(), "seed": "1"})]
    assert made_by_other_versions(fields(), [near, *others]) is near
    assert made_by_other_versions(fields(), others) is None
