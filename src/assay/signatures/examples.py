"""The data set of attacked images, with attack, setting and victim of each."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from assay.core.call_context import in_neutral_context
from assay.core.outcome import Status
from assay.core.types import Images
from assay.data.dataset import Dataset
from assay.diagnostics.trail import logits_of, run_attack_to_end
from assay.models.load import digest
from assay.signatures.innocent import innocent_changes, innocent_images
from assay.signatures.settings import CLEAN, Setting
from assay.util.files import atomic_write
from assay.util.progress import WorkCallback, no_progress
from assay.util.validate import described, one_of, reject

ROUNDINGS = ("nearest", "down")
_SLACK = 1e-3
"""Of a level: what a division by 255 and back may lose."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Clean and attacked images, as files would hold them: 8 bits a value.

    Attributes:
        images: ``(n, c, h, w)``, uint8.
        clean: the image that each was made from, likewise.
        kind: position in ``kinds``, ``(n,)``; 0 is clean.
        setting: position in ``settings``, ``(n,)``; -1 for clean images as they are.
        victim: position in ``victims``, ``(n,)``: the attacked classifier; -1 for clean images.
        y: labels of the images, ``(n,)``.
        fooled: whether the victim is wrong about the image after rounding, ``(n,)``.
        kinds: ``"clean"`` and the attacks.
        settings: in words; behind those of the attacks the changes of innocent images, which are clean too.
        victims: names.
    """

    images: Tensor
    clean: Tensor
    kind: Tensor
    setting: Tensor
    victim: Tensor
    y: Tensor
    fooled: Tensor
    kinds: tuple[str, ...]
    settings: tuple[str, ...]
    victims: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def innocent(self) -> Tensor:
        """Which are clean images that something else than an attack has changed, ``(n,)``."""
        return (self.kind == 0) & (self.setting >= 0)

    def take(self, at: Tensor) -> "Examples":
        """Some of them."""
        parts = {name: getattr(self, name)[at] for name in _TENSORS}
        return replace(self, **parts)

    def pair(self, at: Tensor, device: torch.device | str = "cpu") -> tuple[Images, Images]:
        """Attacked and clean images as float32 in [0, 1], channels last, on a device."""
        images, clean = (part[at].contiguous(memory_format=torch.channels_last) for part in (self.images, self.clean))
        return images.to(device).float() / 255, clean.to(device).float() / 255


_TENSORS = ("images", "clean", "kind", "setting", "victim", "y", "fooled")


@in_neutral_context
def make_examples(
    victims: Mapping[str, nn.Module],
    data: Dataset,
    settings: Sequence[Setting],
    *,
    out: str | Path | None = None,
    salt: str = "",
    seed: int = 0,
    kinds: Sequence[str] = (),
    rounding: str = "nearest",
    innocent: bool = False,
    progress: WorkCallback = no_progress,
) -> Examples:
    """Attack every image by every kind of attack, each in one of its settings and on one of the victims, in turn.

    Images are brought to 8 bits, as files have them: an image that no file can hold would be known by its values alone.
    What an attack left as it was (the victim was wrong about it already, or the attack found nothing) is left out.

    Args:
        victims: classifiers by name.
        data: clean images.
        settings: of the attacks; those of one kind share the images among them.
        out: a folder, in which each part is kept as it comes, and reused by the same call.
        salt: part of the identity of what is kept, such as the version of the code.
        seed: of the attacks.
        kinds: the order of the kinds; by default the one in which ``settings`` names them.
        rounding: how values come to 8 bits: ``"nearest"``, or ``"down"``, as where bytes are cut off; smallest
            perturbations survive the second more often.
        innocent: whether each clean image comes once more, with noise or another corruption (`innocent_images`).
        progress: progress.

    Returns:
        The clean images, and all that were attacked.

    Raises:
        ValueError: no victim, no setting, or no image; another rounding.

    Source: Souri et al., 2021, sections 3.2 and 4.6.
    """
    if not victims or not settings or not len(data):
        missing = "victims" if not victims else "settings" if not settings else "data"
        reject(missing, "at least one", described("none"))
    one_of("rounding", rounding, ROUNDINGS)
    names = (CLEAN, *(kinds or dict.fromkeys(s.kind for s in settings)))
    base = _eight_bits(data.images())
    n = len(base)
    parts = [_clean(base, data.y)]
    combinations = [(v, s) for s in range(len(settings)) for v in range(len(victims))]
    models, labels = list(victims.values()), tuple(victims)
    for done, (v, s) in enumerate(combinations):
        progress(f"{settings[s].attack.describe()} on {labels[v]}", done, len(combinations))
        own = [i for i, other in enumerate(settings) if other.kind == settings[s].kind]
        turn = own.index(s) * len(victims) + v
        at = torch.arange(n)[turn :: len(own) * len(victims)]
        attacked = _attack_part(models[v], base[at], data.y[at], settings[s], out, salt, seed, rounding)
        parts.append(
            {
                **attacked,
                "kind": torch.full_like(attacked["y"], names.index(settings[s].kind)),
                "setting": torch.full_like(attacked["y"], s),
                "victim": torch.full_like(attacked["y"], v),
            }
        )
    progress("attacks", len(combinations), len(combinations))
    words = [s.words for s in settings]
    if innocent:
        images, which = innocent_images(base, seed)
        parts.append({**_clean(base, data.y), "images": images, "setting": which + len(words)})
        words += [change.words for change in innocent_changes()]
    joined = {name: torch.cat([part[name] for part in parts]) for name in _TENSORS}
    return Examples(**joined, kinds=names, settings=tuple(words), victims=labels)


def _eight_bits(x: Images, rounding: str = "nearest") -> Tensor:
    levels = x * 255
    whole = levels.round() if rounding == "nearest" else (levels + _SLACK).floor()
    return whole.clamp(0, 255).to(torch.uint8)


def _clean(base: Tensor, y: Tensor) -> dict[str, Tensor]:
    none = torch.full_like(y, -1)
    return {
        "images": base,
        "clean": base,
        "kind": torch.zeros_like(y),
        "setting": none,
        "victim": none,
        "y": y,
        "fooled": torch.zeros(len(y), dtype=torch.bool),
    }


def _attack_part(
    model: nn.Module,
    base: Tensor,
    y: Tensor,
    setting: Setting,
    out: str | Path | None,
    salt: str,
    seed: int,
    rounding: str,
) -> dict[str, Tensor]:
    """The images of one setting on one victim: from disk, or made."""
    from safetensors.torch import load_file, save

    key_parts = [digest(model), repr(setting.attack), str(seed), salt, torch.__version__, rounding]
    key = hashlib.sha256("\n".join(key_parts).encode() + base.numpy().tobytes() + y.numpy().tobytes()).hexdigest()[:32]
    path = None if out is None else Path(out) / f"{key}.safetensors"
    if path is not None and path.is_file():
        return load_file(path)
    x = base.float() / 255
    outcome = run_attack_to_end(model, x, y, setting.attack, stop="never", seed=seed, errors="raise")
    images = _eight_bits(outcome.images, rounding)
    fooled = logits_of(model, images.float() / 255).argmax(1) != y
    moved = (images != base).flatten(1).any(1) & (outcome.status != int(Status.MISCLASSIFIED))
    tensors = {"images": images[moved], "clean": base[moved].clone(), "y": y[moved], "fooled": fooled[moved]}
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, save({name: t.contiguous() for name, t in tensors.items()}))
    return tensors
