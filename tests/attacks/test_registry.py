"""Attacks by name."""

import pytest

from assay import Restarts, Split
from assay.attacks.plan import curve, plan
from assay.attacks.registry import ATTACKS, SUITES, make
from assay.core.combinators import unfold


def _norms(name):
    """The norms that a name can be asked for."""
    if name in ("deepfool", "hopskipjump", "square"):
        return ("linf", "l2")
    return () if name in ("sparse", "patch") else ("linf", "l2", "l1")


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_name_makes_an_attack_with_its_budget(name, norm):
    if norm == "l1" and name.startswith("dual"):
        with pytest.raises(ValueError, match="norm: expected one of 'linf', 'l2'"):
            plan(name, eps=0.25, norm=norm)
        return
    if norm not in _norms(name):
        with pytest.raises(ValueError, match=r"norm: expected one of|eps: expected|side: expected"):
            plan(name, eps=0.25, norm=norm)
        return
    planned = plan(name, eps=0.25, norm=norm)
    if planned.eps is None and not name.startswith("dual"):  # a budget in another unit, or none at all
        assert ATTACKS[name].norm not in (None, norm) or name in ("one-pixel", "stadv", "rotation")
        return
    stage = unfold(planned.attack)[0]
    geometry = stage.attack.geometry
    assert planned.budget in geometry.describe()
    assert planned.budget in planned.attack.describe()
    if isinstance(geometry, Split):
        assert (geometry.foreground.eps, geometry.background.eps) == (0.25, 1.0 if norm == "linf" else 1.25)
    else:
        assert geometry.eps == planned.eps == 0.25
        assert geometry.norm == ("l2" if name == "fgm" else norm)


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
