"""Tiny ImageNet: 64×64 photographs in 200 classes.

Source: Stanford CS231n, 2015. The labels of its test part were never published; as is usual, the validation part is
the test set here (Souri et al., 2021, section 3.1).
"""

from pathlib import Path

import numpy as np

from assay.data.recipes.archives import Archive, Files, members, parts_of
from assay.data.recipes.arrays import resized, save_arrays, stacked
from assay.util.progress import WorkCallback
from assay.util.validate import described, reject

ARCHIVES = (
    Archive(
        "tiny-imagenet-200.zip",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "90528d7ca1a48142e341f4ef8d21d0de",
    ),
)
SIDE, _COUNT = 64, 110_000


def prepare(files: Files, out: Path, work: WorkCallback) -> None:
    """Write the training and the validation images; grey ones get three channels."""
    train, val, answers, words = [], {}, {}, {}
    for name, read in members(files[ARCHIVES[0].name]):
        place = parts_of(name)
        if place[-1] == "words.txt":
            words = dict(line.split("\t", 1) for line in read().decode().splitlines() if "\t" in line)
        elif place[-1] == "val_annotations.txt":
            answers = dict(line.split("\t")[:2] for line in read().decode().splitlines() if "\t" in line)
        elif place[-1].endswith(".JPEG") and "train" in place:
            train.append((place[place.index("train") + 1], resized(read(), name, SIDE)))
        elif place[-1].endswith(".JPEG") and "val" in place:
            val[place[-1]] = resized(read(), name, SIDE)
        work("reading images", len(train) + len(val), _COUNT)
    codes = sorted({code for code, _ in train})
    number = {code: i for i, code in enumerate(codes)}
    unlabelled = [name for name in val if answers.get(name) not in number]
    if unlabelled:
        reject("val_annotations.txt", f"a class for {unlabelled[0]}", described("none"))
    arrays = {
        "train_x": stacked("train", [image for _, image in train]),
        "train_y": np.array([number[code] for code, _ in train], np.int64),
        "test_x": stacked("val", list(val.values())),
        "test_y": np.array([number[answers[name]] for name in val], np.int64),
    }
    save_arrays(out, "tiny-imagenet", arrays, [words.get(code, code).partition(",")[0] for code in codes])
