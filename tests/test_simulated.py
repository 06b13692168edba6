"""What runs on the CPU runs on another device, in a process of its own (`simulated.device` changes torch for good)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("part", "which"),
    [
        ("test_attacks.py", "not slow"),
        ("test_entries.py", "not slow"),
        pytest.param("test_attacks.py", "slow", marks=pytest.mark.slow),
    ],
)
def test_on_a_simulated_device(part, which):
    words = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", which, str(TESTS / "simulated" / part)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env={**os.environ, "ASSAY_SIMULATED": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
