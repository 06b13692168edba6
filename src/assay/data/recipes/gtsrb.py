"""GTSRB: German traffic signs in 43 classes, resized to 32×32.

Source: Stallkamp, Schlipsing, Salmen & Igel, "Man vs. computer", Neural Networks 32, 2012. The division is that of
Metzen, 2018, appendix H: 35,000 images of the training set to train, the other 4,209 to test, drawn at random. Images
of one sign are taken in a row of thirty, so such a division has near-duplicates on both sides.
"""

from pathlib import Path

import numpy as np

from assay.data.recipes.archives import Archive, Files, members, parts_of
from assay.data.recipes.arrays import resized, save_arrays, stacked
from assay.util.progress import WorkCallback

ARCHIVES = (
    Archive(
        "GTSRB_Final_Training_Images.zip",
        "https://benchmark.ini.rub.de/gtsrb_dataset.html",
        "f33fd80ac59bff73c82d25ab499e03a3",
    ),
)
SIDE, _COUNT = 32, 39_209
_TRAIN_SHARE = 35_000 / 39_209


def prepare(files: Files, out: Path, work: WorkCallback) -> None:
    """Write both parts; the order is drawn with a fixed seed."""
    images, labels = [], []
    for name, read in members(files[ARCHIVES[0].name]):
        place = parts_of(name)
        if place[-1].endswith(".ppm"):
            images.append(resized(read(), name, SIDE))
            labels.append(int(place[-2]))
            work("reading images", len(images), _COUNT)
    x, y = stacked("GTSRB", images), np.array(labels, np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    count = round(len(x) * _TRAIN_SHARE)
    train, test = np.sort(order[:count]), np.sort(order[count:])
    arrays = {"train_x": x[train], "train_y": y[train], "test_x": x[test], "test_y": y[test]}
    save_arrays(out, "gtsrb", arrays, [f"sign {i}" for i in range(int(y.max()) + 1)])
