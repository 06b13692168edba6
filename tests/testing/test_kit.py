"""The conformance kit: right attacks pass, and each mistake is found by the property that is about it."""

import pytest

import assay
from assay.testing import PROPERTIES, AttackCase, ConformanceError, check_attack
from conformance.test_mutants import Plain, Search

RIGHT = {
    "pgd": (lambda eps: assay.PGD(eps, steps=10), "linf", 0.03),
    "apgd-l2": (lambda eps: assay.APGD(eps, norm="l2", steps=10), "l2", 0.25),
    "square": (lambda eps: assay.Square(eps, queries=60), "linf", 0.05),
    "noise": (lambda eps: assay.UniformNoise(eps, draws=10), "linf", 0.1),
    "nes": (lambda eps: assay.NES(eps, queries=105, samples=20), "linf", 0.05),
    "sigma-zero": (lambda eps: assay.SigmaZero(40, eps=round(eps)), "l0", 8),
    "fgsm": (lambda eps: assay.FGSM(eps), "linf", 0.03),
    "vmi": (lambda eps: assay.VMIFGSM(eps, samples=3), "linf", 0.03),
    "plain": (lambda eps: Plain(eps), "l2", 0.25),
    "search": (lambda eps: Search(eps), "linf", 0.05),
}

MISTAKES = {
    "random numbers of the batch": (Plain, "does-not-depend-on-the-batch"),
    "one norm for the batch": (Plain, "does-not-depend-on-the-batch"),
    "a price that is not told": (Plain, "costs-what-it-declares"),
    "a step too many": (Plain, "costs-what-it-declares"),
    "downhill": (Plain, "gets-somewhere"),
    "next to no steps": (Plain, "gets-somewhere"),
    "no projection": (Plain, "stays-within-budget-and-box"),
    "every image is a hit": (Plain, "claims-what-it-reaches"),
    "draws of no row": (Search, "draws-by-seed"),
    "a state changed in place": (Search, "stays-within-budget-and-box"),
    "hits that are not told": (Search, "claims-what-it-reaches"),
    "targets that are not looked at": (Search, "reaches-targets"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_attack_has_every_property(name):
    make, norm, eps = RIGHT[name]
    check_attack(make, norm=norm, eps=eps)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    kind, wanted = MISTAKES[mistake]
    norm, eps = ("l2", 0.25) if kind is Plain else ("linf", 0.05)
    with pytest.raises(ConformanceError) as raised:
        check_attack(lambda eps: kind(eps, mistake=mistake), norm=norm, eps=eps)
    assert wanted in {line.partition(":")[0] for line in str(raised.value).splitlines()}


def test_what_is_no_attack_is_named():
    with pytest.raises(ConformanceError, match="a function that makes one single attack"):
        check_attack(lambda eps: assay.Standard(eps))


def test_a_property_may_be_left_out():
    with pytest.raises(ConformanceError) as raised:
        check_attack(lambda eps: Plain(eps, mistake="a step too many"), norm="l2", eps=0.25)
    names = {line.partition(":")[0] for line in str(raised.value).splitlines()}
    check_attack(lambda eps: Plain(eps, mistake="a step too many"), norm="l2", eps=0.25, skip=names)
    assert names < {*PROPERTIES}
    assert AttackCase(lambda eps: Plain(eps), "l2", 0.25).y.unique().numel() > 1
