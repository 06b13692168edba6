"""With ASSAY_SHAPES=1 annotations of shapes are executed: calls between the parts are checked against them.

It doubles the time, so `test_shapes.py` does it for a part of the tests that goes through every attack. Modules whose
arguments come straight from users are left out: there the tests look for assay's own errors.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

CHECKED = (
    "core.objective",
    "core.oracle",
    "core.rng",
    "core.rows",
    "core.tree",
    "engine.active_rows",
    "engine.engine",
    "engine.referee",
    "engine.row_scheduler",
    "masks.saliency",
    "parts.losses",
    "parts.perturbation",
    "parts.projections",
)
TYPECHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"

if os.environ.get("ASSAY_SHAPES"):
    from jaxtyping import install_import_hook

    install_import_hook([f"assay.{name}" for name in CHECKED], TYPECHECKER)

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """What takes longest comes first, so that no worker waits for another at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/test_shapes.py", "tests/trust/")))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
