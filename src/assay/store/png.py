"""Adversarial images as PNG files, read back and shown to the model again."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from assay.attacks.eight_bit import EightBitImages, eight_bit
from assay.core.call_context import in_neutral_context
from assay.core.combinators import AnyAttack
from assay.core.geometry import Geometry
from assay.core.model_calls import Classifier, classify
from assay.core.model_state import model_device, preserve_state, seeded
from assay.core.outcome import Outcome
from assay.util.validate import described, reject

TABLE = "images.csv"
_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        files: the PNG files, one for each image that fools the model as it was read back.
        images: the images and what was lost.
    """

    folder: Path
    files: tuple[Path, ...]
    images: EightBitImages

    def __str__(self) -> str:
        """How many were written, how many samples have no 8-bit image, and what that makes of the robust accuracy."""
        lost = len(self.images.lost)
        return (
            f"{len(self.files)} images in {self.folder}, all fool the model as they were read back; {lost} broken "
            f"samples have no 8-bit image within the budget; robust accuracy with 8-bit images "
            f"{100 * self.images.robust_accuracy:.1f} %"
        )


@in_neutral_context
def export_png(
    model: Classifier,
    outcome: Outcome,
    folder: str | Path,
    budget: Geometry | AnyAttack,
    *,
    mask: Tensor | None = None,
    seed: int = 0,
) -> Exported:
    """Write the adversarial images of an outcome as PNG files that fool the model when they are read again.

    Rounding to 8 bits takes some images out of the budget, or back over the boundary; for those another image is
    searched for on the grid (`assay.attacks.eight_bit.eight_bit`). A sample for which there is none is not written.

    Args:
        model: as in `attack`.
        outcome: of the attack, with its images of 1, 3 or 4 channels.
        folder: a new or empty folder: ``NUMBER_LABEL_PREDICTED.png`` and ``images.csv``.
        budget: the set that the images have to stay in, such as ``assay.Ball("linf", 8 / 255)``, or the attack.
        mask: foreground, where the budget has one.
        seed: of the draws.

    Returns:
        The files, and what was lost.

    Raises:
        TypeError, ValueError: a wrong argument; a folder that is not empty.
        RuntimeError: an image is read back otherwise than it was written.

    Example:
        >>> import tempfile
        >>> from assay import PGD, attack
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x = torch.randint(256, (8, 1, 2, 2), generator=torch.Generator().manual_seed(0)) / 255
        >>> pgd = PGD(64 / 255)
        >>> exported = export_png(model, attack(model, x, model(x).argmax(1), pgd), tempfile.mkdtemp(), pgd)
        >>> len(exported.files) == len(exported.images.index)
        True
    """
    channels = outcome.images.shape[1]
    if channels not in _CHANNELS:
        reject("outcome", "images of 1, 3 or 4 channels", described(f"{channels}"))
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        reject("folder", "a new or empty folder", str(folder))
    images = eight_bit(model, outcome, budget, mask=mask, seed=seed)
    place.mkdir(parents=True, exist_ok=True)
    files = [_write(place, images, outcome, row) for row in range(len(images.index))]
    if files:
        _check(model, files, images, seed)
    with (place / TABLE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("file", "sample", "label", "predicted"))
        for path, sample, predicted in zip(files, images.index.tolist(), images.predicted.tolist(), strict=True):
            table.writerow((path.name, sample, int(outcome.y[sample]), predicted))
    return Exported(place, tuple(files), images)


def _write(folder: Path, images: EightBitImages, outcome: Outcome, row: int) -> Path:
    sample, levels = int(images.index[row]), images.images[row]
    path = folder / f"{sample:06d}_{int(outcome.y[sample])}_{int(images.predicted[row])}.png"
    pixels = levels[0].numpy() if len(levels) == 1 else levels.permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path


def _read(path: Path) -> NDArray[np.uint8]:
    """The pixels of a file, ``(c, h, w)``."""
    with Image.open(path) as image:
        return np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)


def _check(model: Classifier, files: list[Path], images: EightBitImages, seed: int) -> None:
    """Read the files as anybody would, and ask the model again."""
    again = torch.from_numpy(np.stack([_read(path) for path in files]))
    if not torch.equal(again, images.images):
        raise RuntimeError("folder: the files hold other pixels than were written; check the disk and export again")
    device = model_device(model, torch.device("cpu"))
    with preserve_state(model), seeded(seed, {device}), torch.no_grad():
        parts = [classify(model, part.to(device).float() / 255).argmax(1).cpu() for part in again.split(128)]
    predicted = torch.cat(parts)
    changed = int((predicted != images.predicted).sum())
    if changed:
        raise RuntimeError(f"model: {changed} images are classified otherwise when they are read again: is it random?")
