"""STL-10: 96×96 photographs in ten classes.

Source: Coates, Ng & Lee, "An analysis of single-layer networks in unsupervised feature learning", AISTATS 2011; the
format of cs.stanford.edu/~acoates/stl10. Tong et al., 2020, appendix B.2: 5,000 training and 100 test images.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.recipes.archives import Archive, Files, members, parts_of
from assay.data.recipes.arrays import save_arrays
from assay.util.progress import WorkCallback
from assay.util.validate import described, reject

ARCHIVES = (
    Archive("stl10_binary.tar.gz", "https://cs.stanford.edu/~acoates/stl10", "91f7769df0f17e558f3565bffb0c7dfb"),
)
SIDE = 96
_NEEDED = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt")


def prepare(files: Files, out: Path, work: WorkCallback) -> None:
    """Write training and test images; the hundred thousand without labels are left out."""
    content = {}
    for name, read in members(files[ARCHIVES[0].name]):
        last = parts_of(name)[-1]
        if last in _NEEDED:
            content[last] = read()
            work("reading", len(content), len(_NEEDED))
        if len(content) == len(_NEEDED):
            break
    missing = [name for name in _NEEDED if name not in content]
    if missing:
        reject(ARCHIVES[0].name, f"an archive with {', '.join(missing)}", described("one without"))
    arrays: dict[str, NDArray[Any]] = {}
    for part in ("train", "test"):
        labels = np.frombuffer(content[f"{part}_y.bin"], np.uint8).astype(np.int64) - 1  # from 1 in the file
        columns = np.frombuffer(content[f"{part}_X.bin"], np.uint8).reshape(-1, 3, SIDE, SIDE)
        arrays |= {f"{part}_x": np.ascontiguousarray(columns.transpose(0, 1, 3, 2)), f"{part}_y": labels}
    save_arrays(out, "stl10", arrays, content["class_names.txt"].decode().split())
