"""The recipes by name. A new one is one new file and one line in `RECIPES`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import assay.data.recipes.cifar10 as cifar10
import assay.data.recipes.gtsrb as gtsrb
import assay.data.recipes.imagenet as imagenet
import assay.data.recipes.segment6 as segment6
import assay.data.recipes.stl10 as stl10
import assay.data.recipes.tiny_imagenet as tiny_imagenet
from assay.data.recipes.archives import Archive, Files, compare_digests, locate
from assay.data.recipes.arrays import recipe_of
from assay.util.progress import WorkCallback, no_progress
from assay.util.registry import Registry
from assay.util.validate import described, reject


@dataclass(frozen=True)
class Recipe:
    """How a data set is made of the files in which it is distributed.

    Attributes:
        prepare: writes it, from the archives.
        archives: the files that it needs.
        help: one line.
        spec: how it is loaded then; ``{out}`` is where it was written.
    """

    prepare: Callable[[Files, Path, WorkCallback], None]
    archives: tuple[Archive, ...]
    help: str
    spec: str = "npz:{out}"


RECIPES: Registry[Recipe] = Registry(
    "recipe",
    {
        "cifar10": Recipe(cifar10.prepare, cifar10.ARCHIVES, "photographs, 32×32, 10 classes"),
        "stl10": Recipe(stl10.prepare, stl10.ARCHIVES, "photographs, 96×96, 10 classes"),
        "segment6": Recipe(segment6.prepare, segment6.ARCHIVES, "objects with masks, 32×32, 6 classes"),
        "gtsrb": Recipe(gtsrb.prepare, gtsrb.ARCHIVES, "traffic signs, 32×32, 43 classes"),
        "tiny-imagenet": Recipe(tiny_imagenet.prepare, tiny_imagenet.ARCHIVES, "photographs, 64×64, 200 classes"),
        "imagenet10": Recipe(
            imagenet.prepare_ten, imagenet.ARCHIVES_OF_TEN, "photographs, 224×224, ten classes of ImageNet"
        ),
        "imagenet": Recipe(
            imagenet.prepare,
            imagenet.ARCHIVES,
            "ImageNet's validation images by class",
            "folder:{out}/val?size=224&holdout=0",
        ),
    },
    {"tinyimagenet": "tiny-imagenet", "cifar-10": "cifar10", "stl-10": "stl10", "segment-6": "segment6"},
)


def prepare_data(
    name: str, source: Path, out: Path, *, unchecked: bool = False, work: WorkCallback = no_progress
) -> str:
    """Make a data set of the files in which it is distributed. Nothing is downloaded.

    Args:
        name: of `RECIPES`.
        source: the folder of the files.
        out: what is written: a NumPy archive, or a folder for ``imagenet``.
        unchecked: do not compare the files with their published digests.
        work: progress.

    Returns:
        The spec that loads it.

    Raises:
        ValueError: a file is missing, damaged or another one, or something else is at ``out``.
    """
    recipe = RECIPES.find(name)
    spec = recipe.spec.format(out=out)
    if out.is_file() and recipe_of(out) == name:
        return spec
    if out.is_file() or (out.is_dir() and recipe.spec.startswith("npz:")):
        reject("out", f"a new file, or one that this recipe ({name}) has written", described(str(out)))
    files = locate(recipe.archives, source)
    if not unchecked:
        compare_digests(recipe.archives, files, work)
    recipe.prepare(files, out, work)
    return spec
