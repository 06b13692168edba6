"""Names and forms that people type: fractions as text, other libraries' names and arguments."""

import pytest

import assay

BUDGETED = {
    "linf": [assay.PGD, assay.BIM, assay.MIM, assay.FGSM, assay.APGD, assay.Square, assay.AutoAttack, assay.Fast],
    "transfer": [assay.DIFGSM, assay.TIFGSM, assay.SINIFGSM, assay.VMIFGSM, assay.PIFGSM],
    "noise": [assay.UniformNoise, assay.GaussianNoise, assay.NES, assay.Randomised],
}


@pytest.mark.parametrize("make", [make for group in BUDGETED.values() for make in group])
def test_a_fraction_as_text_is_the_number(make):
    assert repr(make("8/255")) == repr(make(8 / 255))


@pytest.mark.parametrize(
    "make",
    [
        lambda eps: assay.DDN(eps=eps),
        lambda eps: assay.DeepFool(norm="linf", eps=eps),
        lambda eps: assay.FMN(norm="linf", eps=eps),
        lambda eps: assay.CarliniWagnerLinf(eps=eps),
        lambda eps: assay.HopSkipJump(norm="linf", eps=eps),
        lambda eps: assay.FAB(eps),
        lambda eps: assay.PGD(0.5, step_size=eps),
        lambda eps: assay.DualPerturbation(eps, eps, step_foreground=eps, step_background=eps),
        lambda eps: assay.Patch(2, eps, step_size=eps),
        lambda eps: assay.ColorMap(eps),
        lambda eps: assay.UniversalSign(eps, step_size=eps),
        lambda eps: assay.Ball("l2", eps),
        lambda eps: assay.training.Recipe(objective="pgd-at", eps=eps),
    ],
)
def test_so_it_is_wherever_a_budget_or_step_is_taken(make):
    assert repr(make("2/255")) == repr(make(2 / 255))
    with pytest.raises(ValueError, match=r"a fraction such as '8/255', got '2//255'"):
        make("2//255")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assay.PGD(0.1, alpha=0.01), r"PGD: expected arguments among eps, .*did you mean 'step_size'"),
        (lambda: assay.PGD(0.1, num_steps=5), "did you mean 'steps'"),
        (lambda: assay.CarliniWagnerL2(kappa=0), "did you mean 'confidence'"),
        (lambda: assay.CarliniWagnerL2(c=1), "did you mean 'constant'"),
        (lambda: assay.CarliniWagnerL2(lr=0.1), "did you mean 'rate'"),
        (lambda: assay.DIFGSM(0.1, diversity_prob=0.3), "did you mean 'p'"),
        (lambda: assay.PGD(0.1, colour="red"), "got colour$"),
    ],
)
def test_arguments_of_other_libraries_are_answered_with_ours(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("name", "ours"),
    [("CW", "CarliniWagnerL2"), ("LinfPGD", "PGD"), ("MIFGSM", "MIM"), ("AutoAtack", "AutoAttack")],
)
def test_names_of_other_libraries_are_answered_with_ours(name, ours):
    with pytest.raises(AttributeError, match=rf"did you mean {ours}\?"):
        getattr(assay, name)


def test_autoattack_is_the_standard_suite():
    assert assay.AutoAttack is assay.Standard
