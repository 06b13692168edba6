"""CIFAR-10: 32×32 photographs in ten classes.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009; www.cs.toronto.edu/~kriz/cifar.html.
"""

import tempfile
from pathlib import Path

from assay.data.cifar import load as read_batches
from assay.data.recipes.archives import Archive, Files, members, parts_of
from assay.data.recipes.arrays import save_arrays
from assay.data.spec import Request
from assay.util.progress import WorkCallback

ARCHIVES = (
    Archive(
        "cifar-10-python.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar.html", "c58f30108f718f92721af3b95e74349a"
    ),
)
_BATCHES = 7


def prepare(files: Files, out: Path, work: WorkCallback) -> None:
    """Write training and test images; the batches are unpacked for the time of reading them."""
    with tempfile.TemporaryDirectory() as folder:
        count = 0
        for name, read in members(files[ARCHIVES[0].name]):
            last = parts_of(name)[-1]
            if last.startswith(("data_batch_", "test_batch", "batches.meta")):
                (Path(folder) / last).write_bytes(read())
                count += 1
                work("reading", count, _BATCHES)
        parts = {part: read_batches(Request("cifar", folder, {}, part)) for part in ("train", "test")}
    arrays = {f"{part}_x": data.x.numpy() for part, data in parts.items()}
    arrays |= {f"{part}_y": data.y.numpy() for part, data in parts.items()}
    save_arrays(out, "cifar10", arrays, parts["train"].classes)
