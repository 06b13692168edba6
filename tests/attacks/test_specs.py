"""Attack specs that are wrong: one sentence each, which names the option and says what to type."""

import math

import pytest

import assay
from assay.attacks.peers.libraries import LIBRARIES
from assay.attacks.plan import curve
from assay.attacks.registry import ATTACKS, make
from assay.training.objectives import make as make_objective
from assay.util.parse import parse_number, parse_whole

BAD = {
    # no value, or no key
    "pgd:steps": "pgd:steps: expected a value, as in steps=40, got none",
    "pgd:steps=": "pgd:steps: expected a value, as in steps",
    "pgd:loss=": "pgd:loss: expected a value",
    "pgd:eps": "pgd:eps: expected a value, as in eps=8/255",
    "pgd:random_start": "pgd:random_start: expected a value, as in random_start=true",
    "pgd:random-start": "pgd:random_start: expected a value",
    "pgd:steps,loss=dlr": "pgd:steps: expected a value, as in steps=40",
    "deepfool:classes": "deepfool:classes: expected a value, as in classes=10",
    "pgd:=5": "attack: expected a key before = after pgd:, got '=5'",
    "pgd:40": "attack: expected key=value after pgd:, got '40' in '40'",
    "pgd:steps=5,dlr": "attack: expected key=value after pgd:, got 'dlr' in 'steps=5,dlr'",
    "pgd:eps=1,2": "attack: expected key=value after pgd:, got '2' in 'eps=1,2'",
    # nothing
    "": "attack: expected a name, as in name:key=value, got ''",
    ":steps=5": "attack: expected a name",
    "pgd:": "attack: expected key=value after pgd:, or pgd alone",
    "pgd: ": "attack: expected key=value after pgd:, or pgd alone",
    "pgd:,": "attack: expected key=value between commas after pgd:",
    "pgd:steps=5,": "attack: expected key=value between commas after pgd:",
    "pgd:,steps=5": "attack: expected key=value between commas after pgd:",
    "pgd:steps=5,,loss=dlr": "attack: expected key=value between commas after pgd:",
    "pgd:steps=5, ,loss=dlr": "attack: expected key=value between commas after pgd:",
    # twice
    "pgd:steps=5,steps=6": "pgd:steps: expected one value, got steps twice in 'steps=5,steps=6'",
    "pgd:steps=5,steps=5": "pgd:steps: expected one value",
    "pgd:step-size=0.1,step_size=0.2": "pgd:step_size: expected one value",
    "dual:eps-foreground=0.1,eps_foreground=0.1": "dual:eps_foreground: expected one value",
    # numbers that are none
    "pgd:eps=1e309": "pgd:eps: expected a number or a fraction such as 8/255, as in .*, got '1e309', which is too",
    "pgd:eps=-1e309": "pgd:eps: expected a number or a fraction",
    "pgd:eps=1e999999999": "pgd:eps: expected a number .* too large",
    "pgd:eps=1e-999999999": "pgd:eps: expected a number .* too small",
    "pgd:eps=1e-400": "pgd:eps: expected a number .* too small",
    "pgd:eps=1e300/1e-300": "pgd:eps: expected a number .* too large",
    "pgd:eps=1e-300/1e300": "pgd:eps: expected a number .* too small",
    "pgd:eps=nan": "pgd:eps: expected a number or a fraction",
    "pgd:eps=NaN": "pgd:eps: expected a number or a fraction",
    "pgd:eps=inf": "pgd:eps: expected a number or a fraction",
    "pgd:eps=-inf": "pgd:eps: expected a number or a fraction",
    "pgd:eps=infinity": "pgd:eps: expected a number or a fraction",
    "pgd:eps=8/0": "pgd:eps: expected a number .* divides by zero",
    "pgd:eps=0/0": "pgd:eps: expected a number .* divides by zero",
    "pgd:eps=8/-0": "pgd:eps: expected a number .* divides by zero",
    "pgd:eps=8//255": "pgd:eps: expected a number or a fraction",
    "pgd:eps=8/255/2": "pgd:eps: expected a number or a fraction",
    "pgd:eps=8/": "pgd:eps: expected a number or a fraction",
    "pgd:eps=/255": "pgd:eps: expected a number or a fraction",
    "pgd:eps=٨/255": "pgd:eps: expected a number or a fraction",
    "pgd:eps=８/255": "pgd:eps: expected a number or a fraction",
    "pgd:eps=½": "pgd:eps: expected a number or a fraction",
    "pgd:eps=0x10": "pgd:eps: expected a number or a fraction",
    "pgd:eps=1_0": "pgd:eps: expected a number or a fraction",
    "pgd:eps=--1": "pgd:eps: expected a number or a fraction",
    "pgd:eps=1e": "pgd:eps: expected a number or a fraction",
    "pgd:eps=e5": "pgd:eps: expected a number or a fraction",
    "pgd:eps=.": "pgd:eps: expected a number or a fraction",
    "pgd:eps=0.1 5": "pgd:eps: expected a number or a fraction",
    "pgd:eps='0.1'": "pgd:eps: expected a number or a fraction",
    "pgd:eps=0.1\x00": "pgd:eps: expected a number or a fraction",
    "pgd:eps=8:255": "pgd:eps: expected a number or a fraction",
    "pgd:eps=8÷255": "pgd:eps: expected a number or a fraction",
    "pgd:eps=three": "pgd:eps: expected a number or a fraction",
    "pgd:eps=none": "pgd:eps: expected a number or a fraction",
    "pgd:eps=1" + 3000 * "0": "pgd:eps: expected a number or a fraction",
    "pgd:eps==0.1": "pgd:eps: expected a number or a fraction",
    "pgd:step_size=fast": "pgd:step_size: expected a number or a fraction such as 8/255, as in step_size=0.1",
    "mim:decay=big": "mim:decay: expected a number .*, as in decay=1, got 'big'",
    # whole numbers
    "pgd:steps=5.5": "pgd:steps: expected a whole number, as in steps=40, got '5.5'",
    "pgd:steps=8/255": "pgd:steps: expected a whole number",
    "pgd:steps=1e-3": "pgd:steps: expected a whole number",
    "pgd:steps=many": "pgd:steps: expected a whole number, as in steps=40",
    "pgd:steps=none": "pgd:steps: expected a whole number",
    "pgd:steps=true": "pgd:steps: expected a whole number",
    "pgd:steps=nan": "pgd:steps: expected a whole number",
    "pgd:steps=99999999999999999999": "pgd:steps: expected a whole number of at most 10,000,000",
    "pgd:steps=1e30": "pgd:steps: expected a whole number of at most 10,000,000",
    "apgd:steps=1e9": "apgd:steps: expected a whole number of at most 10,000,000",
    "pgd:steps=-1": "steps: expected a whole number that is at least 0, got -1",
    "pgd:restarts=0": "restarts: expected a whole number that is at least 1, got 0",
    "pgd:restarts=-2": "restarts: expected a whole number that is at least 1",
    "pgd:restarts=9999999": "restarts: expected at most 1048576 restarts",
    "apgd:restarts=0": "restarts: expected a whole number that is at least 1",
    "mim:restarts=0": "restarts: expected a whole number that is at least 1",
    "dual:restarts=0": "restarts: expected a whole number that is at least 1",
    "dual-apgd:restarts=0": "restarts: expected a whole number that is at least 1",
    "fab:restarts=0": "restarts: expected a whole number that is at least 1",
    "apgd:targets=-1": "targets: expected a whole number that is at least 0",
    "apgd-t:targets=9999999": "targets: expected at most 1048576 target classes",
    "fab-t:targets=1.5": "fab-t:targets: expected a whole number",
    "square:queries=0": "queries: expected a whole number that is at least 1",
    "noise:draws=0": "draws: expected a whole number that is at least 1",
    "gaussian-noise:sigma=-1": "sigma: expected a finite number that is at least 0",
    # budgets
    "pgd:eps=8": r"pgd:eps: expected at most 1 for linf, as pixels are in \[0, 1\] \(did you mean 8/255\?\), got 8",
    "apgd:eps=1.5": "apgd:eps: expected at most 1 for linf",
    "fgsm:eps=300": r"fgsm:eps: expected at most 1 for linf, as pixels are in \[0, 1\], got 300",
    "square:eps=8": "square:eps: expected at most 1 for linf",
    "fmn:eps=8": "fmn:eps: expected at most 1 for linf",
    "cw-linf:eps=8": "cw-linf:eps: expected at most 1 for linf",
    "dual:eps_background=20": "dual:eps_background: expected at most 1 for linf",
    "dual:eps_foreground=2,eps_background=1": "dual:eps_foreground: expected at most 1 for linf",
    "pgd:eps=-0.1": "pgd:eps: expected a finite number that is at least 0, got -0.1",
    "pgd:eps=-8/255": "pgd:eps: expected a finite number that is at least 0",
    "pgd:norm=l2": "pgd:eps: expected a budget in l2",
    # words
    "pgd:random_start=maybe": "pgd:random_start: expected true or false, got 'maybe'",
    "pgd:random_start=1": "pgd:random_start: expected true or false",
    "pgd:norm=Linf": "pgd:norm: expected one of 'linf', .*did you mean 'linf'",
    "pgd:norm=2,eps=1": "pgd:norm: expected one of 'linf'",
    "pgd:norm=l3,eps=1": "pgd:norm: expected one of 'linf'",
    "pgd:loss=CE": "loss: expected .*did you mean 'ce'",
    "pgd:loss=cross-entropy": "loss: expected .*did you mean 'ce'",
    "pgd:loss=5": "loss: expected .*, got '5'",
    "patch:side=4,place=3": "patch:place: expected nothing here: text cannot give it",
    "cw-l2:variable=tanh": "cw-l2:variable: expected nothing here: text cannot give it",
    "dual:saliency=x": "saliency: expected spectral-residual, or a file that assay fit saliency wrote",
    # names
    "PGD": "attack: expected one of .*did you mean 'pgd'",
    "Pgd:steps=5": "attack: expected one of .*did you mean 'pgd'",
    "pdg": "attack: expected one of .*did you mean 'pgd'",
    "AutoAttack": "attack: expected one of .*did you mean 'standard'",
    "aa": "attack: expected one of .*did you mean 'standard'",
    "cw": "attack: expected one of .*did you mean 'cw-l2'",
    "CW": "attack: expected one of .*did you mean 'cw-l2'",
    "cw_linf": "attack: expected one of .*did you mean 'cw-linf'",
    "apgd_t": "attack: expected one of .*did you mean 'apgd-t'",
    "APGD-CE": "attack: expected one of .*did you mean 'apgd'",
    "PGD-L2": "attack: expected one of .*did you mean 'pgd:norm=l2'",
    "HopSkipJump": "attack: expected one of .*did you mean 'hopskipjump'",
    "MI-FGSM": "attack: expected one of .*did you mean 'mim'",
    "I-FGSM": "attack: expected one of .*did you mean 'bim'",
    "one_pixel": "attack: expected one of .*did you mean 'one-pixel'",
    "sigmazero": "attack: expected one of .*did you mean 'sigma-zero'",
    "pgd;steps=5": "attack: expected one of .*did you mean 'pgd'",
    "pgd steps=5": "attack: expected one of",
    "pgd:alpha=0.1": r"attack: expected arguments of pgd .*, got 'alpha=0.1' \(did you mean 'step_size'",
    "pgd:iterations=10": "attack: expected arguments of pgd .*did you mean 'steps'",
    "pgd:epsilon=0.1": "attack: expected arguments of pgd .*did you mean 'eps'",
    "pgd:STEPS=5": "attack: expected arguments of pgd .*did you mean 'steps'",
    "pgd:Loss=ce": "attack: expected arguments of pgd .*did you mean 'loss'",
    "pgd:n_restarts=5": "attack: expected arguments of pgd .*did you mean 'restarts'",
    "pgd:stepss=5": "attack: expected arguments of pgd .*did you mean 'steps'",
    # other libraries
    "foolbox": "attack: expected the name of an attack after foolbox:",
    "foolbox:": "attack: expected key=value after foolbox:",
    "foolbox:steps=5": "attack: expected the name of an attack after foolbox:",
    "foolbox:LinfPGD,": "attack: expected key=value after foolbox:LinfPGD,",
    "foolbox:LinfPGD,steps": "attack: expected key=value after foolbox:LinfPGD:, got 'steps'",
    "torchattacks:PGD,steps=": "torchattacks:PGD:steps: expected a value",
    "art:PGD,a=1,a=2": "art:PGD:a: expected one value",
}


@pytest.mark.parametrize("spec", BAD)
def test_a_wrong_spec_is_one_sentence_that_names_the_option(spec):
    with pytest.raises(ValueError, match="^" + BAD[spec]) as error:
        make(spec, eps=0.1)
    assert type(error.value) is ValueError
    assert len(str(error.value)) < 700
    assert "\n" not in str(error.value)


def test_there_are_enough_of_them():
    assert len(BAD) >= 100


@pytest.mark.parametrize("spec", [None, 5, b"pgd", ["pgd"]])
def test_a_spec_that_is_no_text(spec):
    with pytest.raises(TypeError, match="attack: expected text such as"):
        make(spec, eps=0.1)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("pgd:steps=1e3", "PGD-1000 linf 0.1"),
        ("pgd:steps=5.0", "PGD-5 linf 0.1"),
        ("pgd:steps=10/2", "PGD-5 linf 0.1"),
        ("pgd:steps=+5", "PGD-5 linf 0.1"),
        (" pgd : steps = 5 , loss = dlr ", "PGD-5 linf 0.1"),
        ("pgd:eps=-0", "PGD-40 linf 0"),
        ("pgd:eps=-0.0", "PGD-40 linf 0"),
        ("pgd:eps=0/255", "PGD-40 linf 0"),
        ("pgd:eps= 8 / 255 ", "PGD-40 linf 8/255"),
        ("pgd:eps=2e0,norm=l2", "PGD-40 l2 2"),
        ("pgd:eps=1", "PGD-40 linf 1"),
        ("pgd:random_start=FALSE", "BIM-40 linf 0.1"),
    ],
)
def test_specs_that_are_odd_and_right(spec, words):
    assert make(spec, eps=0.1).describe() == words


def test_negative_zero_is_zero():
    assert math.copysign(1, assay.PGD(-0.0).geometry.eps) == 1
    assert math.copysign(1, parse_number("-0")) == 1


def test_long_numbers_are_read_exactly():
    assert parse_whole("12345678901234567890") == 12345678901234567890
    assert parse_whole("9007199254740993") == 9007199254740993
    with pytest.raises(ValueError, match="expected a number"):
        parse_number("1" * 100)


LINF = {
    "FGSM": assay.FGSM,
    "BIM": assay.BIM,
    "PGD": assay.PGD,
    "MIM": assay.MIM,
    "APGD": assay.APGD,
    "NES": assay.NES,
    "UniformNoise": assay.UniformNoise,
    "GaussianNoise": lambda eps: assay.GaussianNoise(eps, norm="linf"),
    "Dual": lambda eps: assay.DualPerturbation(0.1, eps),
}


@pytest.mark.parametrize("name", LINF)
def test_a_budget_in_units_of_255_is_refused_in_python(name):
    with pytest.raises(ValueError, match=r"eps(_background)?: expected at most 1 for linf, .*did you mean 8/255"):
        LINF[name](8)
    LINF[name](1.0)
    assert assay.PGD(8, norm="l2").geometry.eps == 8
    assert assay.PGD(8, norm="l1").geometry.eps == 8


def test_the_background_of_dual_attacks_is_at_most_everything():
    planned = curve([0.1], "background", eps=0.3)
    assert [p.eps for p in planned] == [0.0, 0.1]
    assert make("dual", eps=0.3).geometry.background.eps == 1.0
    assert make("dual:norm=l2", eps=0.3, norm="l2").geometry.background.eps == 1.5


def test_suggestions_name_attacks_that_are_there():
    for word, name in ATTACKS.aliases.items():
        assert name.partition(":")[0] in ATTACKS
        assert repr(name) in ATTACKS.suggest(word.upper())
        assert word not in ATTACKS
        make(
            name, eps=0.1, norm="l2" if "l2" in name else "l1" if "l1" in name else "linf"
        ) if name != "patch" else None
    assert not set(ATTACKS) & set(LIBRARIES)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("trades:", "objective: expected key=value after trades:"),
        ("trades:beta", "trades:beta: expected a value, as in beta=6"),
        ("trades:beta=1,beta=2", "trades:beta: expected one value"),
        ("trades:beta=1e309", "trades:beta: expected a number .* too large"),
        ("TRADES", "objective: expected one of .*did you mean 'trades'"),
        ("free:replays=1.5", "free:replays: expected a whole number"),
        ("pgd-at:steps=5", "objective: expected no arguments, as pgd-at has none, got 'steps=5'"),
    ],
)
def test_wrong_words_of_training_objectives(spec, message):
    with pytest.raises(ValueError, match="^" + message):
        make_objective(spec, eps=0.1)
