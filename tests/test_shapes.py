"""Calls between the parts are checked against their annotations of shapes, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
_AGAIN = "interrupted or out_of_memory or slots or kinds_of_models or writes_into or masked_on or smoothed or start"
"""Tests that make the calls of others again, with other settings or in another order."""
PARTS = {
    "every attack": ("conformance/test_attacks.py", "-k", "test_shape_box_and_budget and hit"),
    "the core and the engine": ("core", "engine", "parts", "masks", "-k", f"not ({_AGAIN})"),
    "checks": ("runs/test_checks.py", "-k", "test_what_they_cost_is_said_beforehand"),
}
WHOLE = {
    "every attack with targets": ("conformance/test_attacks.py", "-k", "test_targeted"),
    "all of the core and the engine": ("core", "engine", "parts", "masks", "-k", "not (interrupted or out_of_memory)"),
    "all of a run's checks": ("runs/test_checks.py",),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", [*PARTS, *(pytest.param(part, marks=pytest.mark.slow) for part in WHOLE)])
def test_shapes_are_as_annotated(part):
    words = [*(str(TESTS / word) if (TESTS / word).exists() else word for word in (PARTS | WHOLE)[part])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *words],
        env={**os.environ, "ASSAY_SHAPES": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


def test_a_wrong_shape_is_found():
    """The check is at work: a row's label where images belong."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import conftest, torch; from assay.core.rows import Rows, untargeted;"
        "y = torch.zeros(2, dtype=torch.int64); Rows(y, untargeted(y), y)"
    )
    for value, ends in (("1", "TypeCheckError"), ("", "")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "ASSAY_SHAPES": value},
            cwd=TESTS.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ends in done.stderr
        assert bool(done.returncode) == bool(ends), done.stderr
