"""Segment-6: 32×32 objects of MS-COCO in six classes, with their masks.

Source: Cong & Prakash, "Masked MS-COCO for robust image classification", github.com/superctj/Masked_MSCOCO, 2019: the
version of six classes, an archive with a folder of images, a folder of masks and a table of the parts. Tong et al.,
2020, appendix B.1: 18,000 training and 1,200 test images.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.decode import SUFFIXES, decode_image
from assay.data.recipes.archives import Archive, Files, members, parts_of
from assay.data.recipes.arrays import resized, save_arrays, stacked
from assay.util.progress import WorkCallback
from assay.util.validate import described, reject

ARCHIVES = (Archive("masked_mscoco_6.zip", "https://github.com/superctj/Masked_MSCOCO (the 6-class version, zipped)"),)
SIDE = 32
_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "file": ("filename", "file", "image", "name"),
    "class": ("label", "class", "category"),
    "part": ("partition", "split", "set"),
}


def prepare(files: Files, out: Path, work: WorkCallback) -> None:
    """Write both parts with their masks."""
    images: dict[str, NDArray[Any]] = {}
    masks: dict[str, NDArray[Any]] = {}
    table: list[dict[str, str]] = []
    for name, read in members(files[ARCHIVES[0].name]):
        place = parts_of(name)
        if place[-1].endswith(".csv"):
            table = list(csv.DictReader(io.StringIO(read().decode())))
        elif place[-1].lower().endswith(SUFFIXES):
            stem = place[-1].rpartition(".")[0]
            if any("mask" in folder.lower() for folder in place[-2:-1]):
                masks[stem] = decode_image(read(), name, mode="l", size=(SIDE, SIDE))[None] >= 128
            else:
                images[stem] = resized(read(), name, SIDE)
            work("reading images", len(images) + len(masks), 2 * 19_200)
    rows = _rows(table)
    classes = sorted({kind for _, kind, _ in rows})
    arrays: dict[str, NDArray[Any]] = {}
    for part in ("train", "test"):
        chosen = [(stem, kind) for stem, kind, own in rows if own == part]
        absent = [stem for stem, _ in chosen if stem not in images or stem not in masks]
        if absent:
            reject(ARCHIVES[0].name, f"an image and a mask of {absent[0]}", described("one is missing"))
        arrays |= {
            f"{part}_x": stacked(part, [images[stem] for stem, _ in chosen]),
            f"{part}_masks": stacked(part, [masks[stem] for stem, _ in chosen]),
            f"{part}_y": np.array([classes.index(kind) for _, kind in chosen], np.int64),
        }
    save_arrays(out, "segment6", arrays, classes)


def _rows(table: Sequence[Mapping[str, str]]) -> list[tuple[str, str, str]]:
    """Stem, class and part of each image."""
    there = {column.strip().lower(): column for column in (table[0] if table else ())}
    names = {}
    for role, known in _COLUMNS.items():
        column = next((there[word] for word in known if word in there), None)
        if column is None:
            reject(ARCHIVES[0].name, f"a table with a column of the {role} ({', '.join(known)})", list(there))
        names[role] = column
    return [
        (row[names["file"]].rpartition("/")[2].rpartition(".")[0], row[names["class"]], row[names["part"]].lower())
        for row in table
    ]
