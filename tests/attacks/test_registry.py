"""Attacks by name."""

import inspect
import re
from contextlib import suppress

import pytest

from assay import PGD, Restarts, Split
from assay.attacks import registry
from assay.attacks.plan import curve, plan
from assay.attacks.registry import ATTACKS, SUITES, Entry, make
from assay.core.combinators import unfold
from assay.util.registry import Registry


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_name_makes_an_attack_with_its_budget(name, norm):
    """In the norm that was asked for, or not at all: an attack of one norm refuses a radius in another."""
    entry = ATTACKS[name]
    known = inspect.signature(entry.make).parameters
    planned, refusal = None, ""
    try:
        planned = plan(name, eps=0.25, norm=norm)
    except ValueError as error:
        refusal = str(error)
    if planned is None:
        unknown_norm = "norm" in known and "norm: expected one of " in refusal and f"got {norm!r}" in refusal
        other_norm = entry.norm != norm and re.search("eps: expected|side: expected", refusal)
        assert unknown_norm or other_norm, refusal
        return
    if planned.eps is None and "eps_foreground" not in known:  # a budget in another unit, or none at all
        assert entry.norm not in (None, norm) or "eps" not in known
        return
    geometry = unfold(planned.attack)[0].attack.geometry
    assert planned.budget in geometry.describe()
    assert planned.budget in planned.attack.describe()
    if isinstance(geometry, Split):
        assert (geometry.foreground.eps, geometry.background.eps) == (0.25, 1.0 if norm == "linf" else 1.25)
    else:
        assert geometry.eps == planned.eps == 0.25
        assert geometry.norm == dict(entry.preset).get("norm", norm)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_name_has_a_norm(name):
    made = 0
    for norm in ("linf", "l2", "l1", "l0"):
        with suppress(ValueError):
            made += (
                make("patch:side=2" if name == "patch" else name, eps=20 if norm == "l0" else 0.25, norm=norm)
                is not None
            )
    assert made


def test_a_radius_is_never_taken_for_one_in_another_norm(monkeypatch):
    """Of an attack that has no norm to choose, and whose entry says none."""

    def one_norm(eps: float):
        return PGD(eps, steps=1)

    only_linf = Entry(one_norm, "for this test")
    monkeypatch.setattr(registry, "ATTACKS", Registry("attack", {**ATTACKS, "mine": only_linf}))
    assert make("mine", eps=0.25).geometry.norm == "linf"
    with pytest.raises(ValueError, match="mine:eps: expected a budget in linf, as the norm is l2: mine:eps=8/255"):
        make("mine", eps=0.25, norm="l2")
    assert make("mine:eps=8/255", eps=0.25, norm="l2").geometry.eps == 8 / 255


@pytest.mark.parametrize("suite", SUITES)
def test_suites_name_attacks(suite):
    counts = suite == "sparse"
    assert all(make(part, eps=20 if counts else 0.1, norm="l0" if counts else "linf") for part in SUITES[suite])


def test_arguments():
    attack = make("pgd:steps=7,eps=2/255,restarts=3,norm=l2,step_size=0.5", eps=1.0)
    assert isinstance(attack, Restarts)
    assert attack.describe() == "PGD-7 l2 2/255 ×3"
    assert make("pgd:random_start=false", eps=0.1).describe().startswith("BIM")
    assert make("apgd-t:targets=2", eps=0.1).k == 2
    dual = make("dual:eps-foreground=1/255,eps-background=9/255,lam=0.5", eps=1.0)
    assert dual.describe() == "Dual λ=0.5-20 linf F 1/255, B 9/255"


def test_curves_vary_one_budget():
    back = curve([0.1, 0.3, 0.2, 0.1], "background", eps=0.05)
    assert [p.eps for p in back] == [0.0, 0.1, 0.2, 0.3]
    assert len({p.curve for p in back}) == 1
    front = curve([0.1, 0.3], "foreground", eps=0.05, eps_background=0.4)
    assert all("B 0.4" in p.budget for p in front)
    assert [p.budget for p in curve([8 / 255], "eps", eps=0)] == ["linf 8/255"]


def test_bool_that_is_none():
    with pytest.raises(ValueError, match="pgd:random_start: expected true or false"):
        make("pgd:random_start=maybe", eps=0.1)


def test_a_budget_applies_in_its_own_norm():
    """8/255 is meant for linf: it is not an l2 radius, nor a number of values."""
    assert make("fmn:norm=l2", eps=8 / 255).eps is None
    assert make("fmn", eps=8 / 255).eps == 8 / 255
    assert make("fmn:eps=none", eps=8 / 255).eps is None
    assert make("ddn", eps=8 / 255).eps is None
    assert make("ddn", eps=0.5, norm="l2").eps == 0.5
    assert make("sparse", eps=20).describe() == "sparse l0 20"
    assert make("sigma-zero", eps=8 / 255).eps is None
    assert make("fgm", eps=0.5).describe() == "FGSM l2 0.5"
    with pytest.raises(ValueError, match="pgd:eps: expected a budget in l2"):
        make("pgd:norm=l2", eps=8 / 255)
    with pytest.raises(ValueError, match="sparse:eps: expected the number of values"):
        make("sparse", eps=8 / 255)
    with pytest.raises(ValueError, match="patch:side: expected a value"):
        make("patch", eps=8 / 255)
