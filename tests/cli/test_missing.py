"""What is not installed, or cannot be, is told in a sentence before anything is written."""

import inspect
import shlex
import sys
from importlib import util

import pytest

from assay.cli import main
from assay.cli.attack_options import AttackOptions, CurveOptions
from assay.cli.evaluate import evaluate
from assay.cli.output import same_command
from assay.runs import Settings
from runs.builders import STUDY

DATA = ["--data", "scenes:size=16,count=60", "--limit", "8"]


def without(monkeypatch, *packages):
    """As if packages were not installed."""
    real = util.find_spec

    def find_spec(name, package=None):
        return None if name.partition(".")[0] in packages else real(name, package)

    for module in ("assay.training.trainer", "assay.study.run"):
        monkeypatch.setattr(f"{module}.find_spec", find_spec)
    for name in packages:
        monkeypatch.setitem(sys.modules, name, None)


CASES = {
    "train": (["train", *DATA], "accelerate", "pip install 'assay[train]'"),
    "run": (["run", "{study}"], "accelerate", "pip install 'assay[train]'"),
    "run with Ray": (["run", "{study}", "--executor", "ray"], "ray", "pip install 'assay[ray]'"),
    "run of a hub's model": (
        ["run", "{study}", "--set", "models.clean={load: 'timm:resnet18'}"],
        "timm",
        "pip install 'assay[vision]'",
    ),
    "run of the other hub's": (
        ["run", "{study}", "--set", "models.clean={load: 'hf:a/b'}"],
        "transformers",
        "pip install 'assay[hf]'",
    ),
    "train with a tracker": (["train", *DATA, "--track", "mlflow"], "mlflow", "pip install mlflow"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_missing_package_is_told_before_anything_is_written(tmp_path, monkeypatch, case, capsys):
    words, package, line = CASES[case]
    study = tmp_path / "study.yaml"
    study.write_text(STUDY)
    without(monkeypatch, package)
    assert (
        main(
            [word.format(study=study) if "{study}" in word else word for word in words] + ["-o", str(tmp_path / "out")]
        )
        == 2
    )
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--epochs", "10", "--milestones", "99"],
            "milestones: expected epochs below 10, the number of epochs, got [99]",
        ),
        (["--epochs", "10", "--milestones", "5,10"], "expected epochs below 10, the number of epochs, got [10]"),
        (["--milestones", "5", "--schedule", "cosine"], "milestones: expected none with the cosine schedule"),
        (["--track", "paper"], "track: expected one of 'tensorboard', 'mlflow'"),
    ],
)
def test_options_of_training_that_change_nothing_are_refused(tmp_path, words, told, capsys):
    assert main(["train", *DATA, *words, "-o", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_training_that_is_finished_says_so(tmp_path, capsys):
    words = ["train", *DATA, "--epochs", "2", "-o", str(tmp_path / "out")]
    assert main(words) == 0
    assert "finished before" not in capsys.readouterr().err
    assert main(words) == 0
    assert "already finished: 2 epochs" in capsys.readouterr().err
    assert main([*words, "--rate", "0.5"]) == 2
    assert "rate was 0.001, is 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evaluate", "--model", "m", "--data", "digits", "--budget", "3"], "(it is called '--max-forwards' now)"),
        (["evaluate", "--model", "m", "--data", "digits", "--unadapted"], "(it is called '--no-adaptive' now)"),
        (["evaluate", "--model", "m", "--data", "digits", "--alpha", "1"], "takes it as step_size, as in --attack"),
        (["diagnose", "m", "--data", "digits", "--alpha", "1"], "Unknown option: --alpha"),
        (["train", "--data", "digits", "-o", "m", "--passes", "1"], "Unknown option: --passes"),
    ],
)
def test_other_words_for_an_option_are_pointed_to(words, sentence, capsys):
    """Only where the command has the option that is pointed to."""
    assert main(words) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--curve", ""], "--curve: expected values separated by commas, got ''"),
        (["--curve", "[2/255,null]"], "--curve: expected a number or a fraction such as 8/255, got '[2/255'"),
        (["--curve", "1/255,-1/255"], "--curve: expected a number that is at least 0, got -1/255"),
        (["--curve", "1/255", "--curve", "-1/255"], "--curve: expected a number that is at least 0, got -1/255"),
        (["--start", ""], "--start: expected some text, got ''"),
        (["--max-queries=0"], "--max-forwards: expected a whole number that is at least 1, got 0"),
        (["--slots", "9999999999"], "--slots: expected a whole number that is at most 2147483647, got 9999999999"),
        (["--epsilon", "3"], "unknown option --epsilon (did you mean --eps?)"),
    ],
)
def test_the_value_that_is_wrong_is_named(words, sentence, capsys):
    assert main(["evaluate", "--model", "m", "--data", "digits", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_the_stored_command_can_be_pasted():
    """Every value comes back as it was, also one that looks like an option."""
    attacks = AttackOptions(attack=["pgd:steps=2", "fgsm"], eps=8 / 255, norm="l2")
    values = {
        "model": ["a b.pt", "-m=x.pt"],
        "data": "npz:it's.npz",
        "attacks": attacks,
        "curves": CurveOptions(curve=(2 / 255, 0.1 + 0.2)),
        "settings": Settings(adaptive=False, seed=3),
        "title": "--debug",
        "json": True,
    }
    defaults = {name: p.default for name, p in inspect.signature(evaluate).parameters.items()}
    line = same_command(evaluate, {**defaults, **values})
    assert shlex.split(line) == [
        *("assay", "evaluate", "--model", "a b.pt", "--model=-m=x.pt", "--data", "npz:it's.npz"),
        *("--attack", "pgd:steps=2", "--attack", "fgsm", "--norm", "l2", "--curve", "2/255,0.30000000000000004"),
        *("--seed", "3", "--no-adaptive", "--title=--debug"),
    ]
