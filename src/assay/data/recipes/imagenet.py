"""ImageNet's validation images in folders by class, and ImageNet-10, ten of its classes with training images.

Source: Russakovsky et al., "ImageNet large scale visual recognition challenge", IJCV 115, 2015. ImageNet-10: Tong et
al., 2020, appendix B.3: airplane, car, cat, dog, truck, elephant, zebra, bus, bear and bicycle, 500 training and 10
test images each, 224×224. The paper does not say which of ImageNet's classes these are; `TEN` is our choice.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.data.recipes.archives import Archive, Files, members, parts_of
from assay.data.recipes.arrays import centre_cropped, save_arrays, stacked
from assay.util.files import atomic_write
from assay.util.progress import WorkCallback
from assay.util.validate import described, reject

_PAGE = "https://image-net.org/download-images"
_VAL = Archive("ILSVRC2012_img_val.tar", _PAGE, "29b22e2961454d5413ddabcf34fc5622")
_KIT = Archive("ILSVRC2012_devkit_t12.tar.gz", _PAGE, "fa75699e90414af021442c21a62c3abf")
_TRAIN = Archive("ILSVRC2012_img_train.tar", _PAGE, "1d675b47d978889d74fa0da5fadfb00e")
ARCHIVES = (_VAL, _KIT)
ARCHIVES_OF_TEN = (_VAL, _KIT, _TRAIN)
SIDE, _TRAINING, _TESTING = 224, 500, 10
TEN: Mapping[str, str] = MappingProxyType(
    {
        "n02690373": "airplane",
        "n04285008": "car",
        "n02123045": "cat",
        "n02099601": "dog",
        "n04467665": "truck",
        "n02504458": "elephant",
        "n02391049": "zebra",
        "n04146614": "bus",
        "n02132136": "bear",
        "n03792782": "bicycle",
    }
)
"""ImageNet's airliner, sports car, tabby, golden retriever, trailer truck, African elephant, zebra, school bus, brown
bear and mountain bike."""


def prepare(files: Files, out: Path, work: WorkCallback) -> None:
    """Write the validation images to ``<out>/val/<class>/``; those that are there already are kept."""
    truth = _truth(files)
    for done, (name, read) in enumerate(members(files[_VAL.name]), 1):
        last = parts_of(name)[-1]
        path = out / "val" / truth[_number(last, len(truth)) - 1] / last
        if not path.is_file():
            atomic_write(path, read())
        work("writing images", done, len(truth))


def prepare_ten(files: Files, out: Path, work: WorkCallback) -> None:
    """Write ten classes, cut to 224×224; nested archives of the other classes are passed over."""
    truth, codes = _truth(files), list(TEN)
    test: dict[str, list[NDArray[Any]]] = {code: [] for code in codes}
    for name, read in members(files[_VAL.name]):
        code = truth[_number(parts_of(name)[-1], len(truth)) - 1]
        if code in test and len(test[code]) < _TESTING:
            test[code].append(centre_cropped(read(), name, SIDE))
    train: dict[str, list[NDArray[Any]]] = {}
    for name, read in members(files[_TRAIN.name]):
        code = parts_of(name)[-1].partition(".")[0]
        if code not in TEN:
            continue
        train[code] = []
        for inner, image in members(io.BytesIO(read()), name):
            if len(train[code]) < _TRAINING:
                train[code].append(centre_cropped(image(), inner, SIDE))
        work("reading classes", len(train), len(TEN))
    missing = [code for code in codes if not train.get(code) or not test[code]]
    if missing:
        reject(_TRAIN.name, f"images of {TEN[missing[0]]} ({missing[0]}) in both parts", described("none"))
    arrays: dict[str, NDArray[Any]] = {}
    for part, images in (("train", train), ("test", test)):
        arrays[f"{part}_x"] = stacked(part, [image for code in codes for image in images[code]])
        arrays[f"{part}_y"] = np.repeat(np.arange(len(codes)), [len(images[code]) for code in codes])
    save_arrays(out, "imagenet10", arrays, list(TEN.values()))


def _number(name: str, count: int) -> int:
    """Which validation image, from 1: ``ILSVRC2012_val_00000293.JPEG``."""
    digits = name.rpartition("_")[2].partition(".")[0]
    if not digits.isdigit() or not 1 <= int(digits) <= count:
        reject(_VAL.name, f"images named ILSVRC2012_val_1 to {count}", name)
    return int(digits)


def _truth(files: Files) -> list[str]:
    """The class of each validation image, as ``n01440764``."""
    from scipy.io import loadmat

    content = {}
    for name, read in members(files[_KIT.name]):
        if parts_of(name)[-1] in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
            content[parts_of(name)[-1]] = read()
    if len(content) < 2:
        reject(_KIT.name, "meta.mat and ILSVRC2012_validation_ground_truth.txt in it", described("one without"))
    synsets = loadmat(io.BytesIO(content["meta.mat"]), squeeze_me=True)["synsets"]
    code = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(synsets)}
    return [code[int(line)] for line in content["ILSVRC2012_validation_ground_truth.txt"].split()]
