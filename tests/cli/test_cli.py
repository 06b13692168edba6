"""The commands as a user types them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from assay.cli import main
from assay.data import load
from assay.masks.sources import with_foreground


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("model")
    assert main(["train", "--data", "scenes:size=16,count=200", "-o", str(out), "--epochs", "3", "--quiet"]) == 0
    return str(out / "model.safetensors")


def evaluate(model, out, *more):
    return main(
        [
            "evaluate",
            "--model",
            model,
            "--data",
            "scenes:size=16,count=120",
            "--limit",
            "24",
            "--eps",
            "8/255",
            "-o",
            str(out),
            "--quiet",
            *more,
        ]
    )


def test_the_main_job(model, tmp_path, capsys):
    assert evaluate(model, tmp_path, "--suite", "quick", "--curve", "2/255") == 0
    printed = capsys.readouterr()
    assert "FGSM linf 8/255" in printed.out
    assert "report:" in printed.out
    names = {p.name for p in tmp_path.iterdir()}
    assert {
        "report.html",
        "summary.json",
        "samples.csv",
        "samples.parquet",
        "ledger.sqlite",
        "images",
        "manifest.json",
    } <= names
    rows = (tmp_path / "samples.csv").read_text().splitlines()
    assert len(rows) == 1 + 24 * 4
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "NaN" not in json.dumps(summary)


def test_the_same_command_again_reuses_everything(model, tmp_path, capsys):
    assert evaluate(model, tmp_path) == 0
    first = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "images").iterdir()}
    table = (tmp_path / "samples.csv").read_bytes()
    assert evaluate(model, tmp_path) == 0
    assert "stored result" in capsys.readouterr().err
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "images").iterdir()} == first
    assert (tmp_path / "samples.csv").read_bytes() == table
    assert evaluate(model, tmp_path, "--seed", "1") == 0
    assert len(list((tmp_path / "images").iterdir())) == 2 * len(first)


@pytest.mark.parametrize("how", ["truncated", "gone"])
def test_images_that_are_lost_are_made_again(model, tmp_path, capsys, how):
    assert evaluate(model, tmp_path) == 0
    file = next((tmp_path / "images").iterdir())
    whole, table = file.read_bytes(), (tmp_path / "samples.csv").read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    if how == "gone":
        file.unlink()
    assert evaluate(model, tmp_path) == 0
    assert "is lost or damaged: samples 0 to 23 are attacked again" in capsys.readouterr().err
    assert file.read_bytes() == whole
    assert (tmp_path / "samples.csv").read_bytes() == table


def test_json_is_strict_and_alone_on_standard_output(model, tmp_path, capsys):
    assert evaluate(model, tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["cells"]


@pytest.mark.parametrize("source", ["auto", "data", "saliency", "intensity"])
def test_dual_attacks_with_masks_from_anywhere(model, tmp_path, source):
    assert (
        evaluate(model, tmp_path, "--attack", "dual:steps=3", "--foreground", source, "--curve-background", "8/255")
        == 0
    )


def test_masks_of_data_without_any():
    data = load("digits", limit=8)
    assert with_foreground(data, "auto").masks.shape == (8, 1, 8, 8)
    with pytest.raises(ValueError, match="foreground: expected saliency, intensity"):
        with_foreground(data, "data")


BAD = {
    "no such model": (["--model", "nothing.safetensors"], "model: expected a weights file, but there is none"),
    "unknown model spec": (["--model", "resnet"], "model: expected a .safetensors"),
    "same name twice": (["--model", "a=M", "--model", "a=M"], "model: expected a name for each model, all different"),
    "unknown data": (["--data", "scnes"], "did you mean 'scenes'?"),
    "unknown suite": (["--suite", "standrd"], "(did you mean 'standard'?)"),
    "unknown attack": (["--attack", "pdg"], "did you mean 'pgd'?"),
    "unknown argument of an attack": (["--attack", "pgd:stesp=3"], "did you mean 'steps'?"),
    "argument that is no number": (["--attack", "pgd:steps=many"], "pgd:steps: expected a whole number, as in"),
    "argument without a value": (["--attack", "pgd:steps"], "pgd:steps: expected a value, as in steps=40"),
    "budget that is no number": (["--eps", "eight"], "eps: expected a number or a fraction such as 8/255, got 'eight'"),
    "budget below zero": (["--eps", "-0.1"], "eps: expected a number that is at least 0"),
    "unknown norm": (["--norm", "l7"], "norm: expected one of"),
    "curve with a typo": (["--curve", "1/255;2/255"], "curve: expected a number"),
    "unknown foreground": (["--attack", "dual", "--foreground", "sky"], "foreground: expected auto"),
    "no such mask folder": (["--attack", "dual", "--foreground", "folder:none"], "folder: expected a folder"),
    "unknown device": (["--device", "abacus"], "device: expected auto, cpu"),
    "unknown search": (["--search", "int8"], "search: expected one of"),
    "unknown stop": (["--stop", "soon"], "stop: expected one of"),
    "no passes": (["--max-forwards", "0"], "max-forwards: expected a whole number"),
    "no slots": (["--slots", "0"], "slots: expected a whole number"),
}


@pytest.mark.parametrize("case", BAD, ids=lambda name: name.replace(" ", "-"))
def test_bad_input_is_a_sentence_and_exit_code_two(case, model, tmp_path, capsys):
    words, message = BAD[case]
    words = [w.replace("=M", f"={model}") for w in words]
    given = {"--model": model, "--data": "scenes:size=16,count=40", "--out": str(tmp_path)}
    for name, value in given.items():
        if name not in words:
            words = [*words, name, value]
    assert main(["evaluate", *words, "--quiet"]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_a_budget_of_queries_holds_and_is_told(model, tmp_path, capsys):
    words = ["evaluate", "--model", model, "--data", "scenes:size=16,count=40", "--out", str(tmp_path / "run")]
    assert main([*words, "--attack", "square:queries=50", "--eps", "1", "--max-queries", "3"]) == 0
    printed = capsys.readouterr().err
    assert "data: scenes" in printed
    with (tmp_path / "run" / "samples.csv").open() as file:
        assert all(int(row["forwards"]) <= 3 for row in csv.DictReader(file))


def test_a_defence_is_attacked_as_it_declares_and_the_report_says_so(model, tmp_path, capsys):
    words = ["--defence", "bits:bits=2", "--attack", "pgd:steps=10"]
    assert evaluate(model, tmp_path, *words) == 0
    printed = capsys.readouterr()
    assert "attacked adaptively: BPDA" in printed.err
    adaptive = json.loads((tmp_path / "summary.json").read_text())
    assert "BPDA" in (tmp_path / "report.html").read_text()
    assert evaluate(model, tmp_path, *words, "--no-adaptive") == 0
    printed = capsys.readouterr()
    assert "not attacked adaptively, so the numbers overstate its robustness" in printed.err
    assert "(not adaptive)" in printed.out
    flattered = json.loads((tmp_path / "summary.json").read_text())
    assert adaptive["models"][0]["robust_accuracy"] < flattered["models"][0]["robust_accuracy"]


def test_unknown_flags_and_commands(capsys):
    assert main(["evaluate", "--modle", "x"]) == 2
    assert main(["evalute"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys):
    assert main(["ls", "nothing", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_ls_and_doctor(capsys):
    assert main(["ls", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {
        "attacks",
        "corruptions",
        "diagnostics",
        "suites",
        "certifiers",
        "data",
        "recipes",
        "models",
        "training",
        "defences",
    } == set(listed)
    assert main(["ls", "attacks"]) == 0
    assert "apgd-t" in capsys.readouterr().out
    assert main(["ls", "models", "--markdown"]) == 0
    assert "| `resnet34` |" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    checks = {c["name"]: c["state"] for c in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["self-test"] == "ok"


def test_demo_small(tmp_path, capsys):
    assert main(["demo", "--small", "--quiet", "--json", "-o", str(tmp_path)]) == 0
    studies = json.loads(capsys.readouterr().out)["studies"]
    assert len(studies) == 2
    assert (tmp_path / "report.html").stat().st_size > 100_000


def heeding():
    """A child heeds Ctrl-C even where the tests run in the background of a shell, which makes children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.kill
@pytest.mark.timeout(900)
def test_interrupted_evaluation_goes_on_where_it_stopped(model, tmp_path):
    """Ctrl-C, then kill -9, then the same command: the table is that of an uninterrupted run."""
    attacks = ["--attack", "pgd:steps=500,restarts=5", "--attack", "apgd:steps=300", "--eps", "3/255", "--slots", "8"]
    command = [sys.executable, "-m", "assay", "evaluate", "--model", model, "--data", "scenes:size=16,count=400"]
    command += attacks
    out = tmp_path / "parts"
    for stop, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = subprocess.Popen([*command, "-o", str(out)], stderr=subprocess.PIPE, text=True, preexec_fn=heeding)
        for line in process.stderr:  # it says what it will attack just before it begins
            if line.startswith("data:"):
                break
        time.sleep(2)
        assert process.poll() is None, "too fast to be interrupted"
        os.kill(process.pid, stop)
        _, errors = process.communicate()
        assert process.returncode == code
        if stop == signal.SIGINT:
            assert "run the same command to resume" in errors
    subprocess.run([*command, "-o", str(out)], check=True, capture_output=True)
    subprocess.run([*command, "-o", str(tmp_path / "whole")], check=True, capture_output=True)
    parts, whole = ((folder / "samples.csv").read_text().splitlines() for folder in (out, tmp_path / "whole"))
    assert len(parts) == len(whole)
    for mine, theirs in zip(csv.DictReader(parts), csv.DictReader(whole), strict=True):
        for name, value in mine.items():
            if name in ("margin", "size", "linf", "l2", "l1") and value:  # the model's own batched arithmetic rounds
                assert float(value) == pytest.approx(float(theirs[name]), rel=1e-3, abs=1e-4, nan_ok=True)
            elif name not in ("l0", "pixels"):
                assert value == theirs[name]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_training_is_an_interrupt(number, code, tmp_path, monkeypatch, capsys):
    """Where no attack runs, the first signal ends the command; the same command resumes it."""
    from assay.training import loop

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    words = ["train", "--data", "scenes:size=16,count=120", "-o", str(tmp_path / "m"), "--epochs", "2", "--quiet"]
    real, left = loop.updates, [3]

    def struck(*given):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), number)
        return real(*given)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "updates", struck)
            assert main([*words, "--batch", "40"]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert "run the same command to resume" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert main([*words, "--batch", "40"]) == 0
