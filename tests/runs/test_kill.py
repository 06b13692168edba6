"""Kill -9 at named points and at random moments, in this process, with workers and on Ray: nothing is lost."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from runs.builders import STUDY

pytestmark = [pytest.mark.kill, pytest.mark.timeout(900)]
POINTS = (
    "images-written:1",
    "images-written:5",
    "shard-committed:1",
    "shard-committed:7",
    "check-committed:1",
    "check-committed:9",
    "summary-written",
    "tables-written",
    "report-written",
)
SLOW = [
    "--set",
    "attacks=['pgd:steps=300,restarts=3', 'apgd:steps=200', 'square:queries=300']",
    "--set",
    "run.stop=never",
    "--set",
    "run.checks=none",
]


def assay(*words):
    return [sys.executable, "-m", "assay", *map(str, words)]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def quick(file):
    """The table of an uninterrupted run of the quick study."""
    out = file.parent / "quick"
    subprocess.run(assay("run", file, "-o", out, "--quiet"), check=True, capture_output=True)
    return (out / "samples.csv").read_bytes()


@pytest.fixture(scope="module")
def slow(file):
    """The same of the slow one, and how long it took."""
    out, began = file.parent / "slow", time.monotonic()
    subprocess.run(assay("run", file, "-o", out, "--quiet", *SLOW), check=True, capture_output=True)
    return (out / "samples.csv").read_bytes(), time.monotonic() - began


def left_over(folder):
    return [p.name for p in folder.rglob("*") if p.name.endswith((".part", "-wal", "-shm"))]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(file, quick, tmp_path, point):
    command = assay("run", file, "-o", tmp_path, "--quiet")
    done = subprocess.run(command, env={**os.environ, "ASSAY_FAULT": point}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "samples.csv").read_bytes() == quick
    assert left_over(tmp_path) == []
    checked = subprocess.run(assay("verify", tmp_path), capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("executor", ["inline", "workers"])
def test_killed_again_and_again_at_random_moments(file, slow, tmp_path, executor):
    table, seconds = slow
    draw = random.Random(executor)
    more = [] if executor == "inline" else ["--workers", "2"]
    command = assay("run", file, "-o", tmp_path, "--quiet", *SLOW, *more)
    for _ in range(4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.3, 0.7) * seconds)
        process.kill()
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "samples.csv").read_bytes() == table
    assert left_over(tmp_path) == []


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra ray)")
def test_killed_on_ray(file, quick, tmp_path):
    command = assay("run", file, "-o", tmp_path, "--quiet", "--executor", "ray", "--workers", "2")
    killed = subprocess.run(
        command, env={**os.environ, "ASSAY_FAULT": "shard-committed:3"}, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "samples.csv").read_bytes() == quick


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_after_the_samples_under_way(file, slow, tmp_path, number, code):
    command = assay("run", file, "-o", tmp_path, *SLOW)
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(tmp_path.glob("images/*")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    _, told = process.communicate(timeout=120)
    assert process.returncode == code
    assert "stopping after the running tasks" in told
    assert "run the same command to resume" in told
    status = subprocess.run(assay("status", tmp_path), capture_output=True, text=True, check=True).stdout
    assert "to resume: assay run" in status
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "samples.csv").read_bytes() == slow[0]


def test_a_second_signal_ends_it_at_once(file, slow, tmp_path):
    command = assay("run", file, "-o", tmp_path, *SLOW, "--set", "run.shard=24")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not list(tmp_path.glob("ledger.sqlite")):
        time.sleep(0.05)
    time.sleep(1.5)
    process.terminate()
    time.sleep(0.3)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode in (143, 0)
    subprocess.run(command, check=True, capture_output=True)


CERTIFIED = ["--set", "certify=[ibp, crown-ibp]", "--set", "budgets=[{eps: 0.001}]", "--set", "run.checks=none"]


def certificates(folder):
    """Both ends of each model, without seconds."""
    rows = json.loads((folder / "summary.json").read_text())["certificates"]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("executor", ["inline", "workers"])
def test_killed_between_certificates(file, tmp_path, executor):
    more = [] if executor == "inline" else ["--workers", "2"]
    command = assay("run", file, "-o", tmp_path / "killed", "--quiet", *CERTIFIED, *more)
    environment = {**os.environ, "ASSAY_FAULT": "certificate-committed:1"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run(assay("run", file, "-o", tmp_path / "whole", "--quiet", *CERTIFIED), check=True, capture_output=True)
    assert certificates(tmp_path / "killed") == certificates(tmp_path / "whole")
    assert [row["n"] for row in certificates(tmp_path / "whole")] == [24, 24]
