"""Defences and saliency models that have to be trained first: what each needs, and the file that it is kept in."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.combinators import AnyAttack
from assay.core.fingerprint import fingerprint
from assay.data.dataset import Dataset
from assay.defences.checkpoint import save_part
from assay.defences.detectors import Detector, Reconstruction, threshold_at
from assay.defences.fit import EpochCallback, fit_autoencoder, fit_cleaner, fit_density, fit_detector, fit_generator
from assay.defences.saliency import fit_saliency
from assay.models.load import digest
from assay.util.code_digest import code_digest, warn_of_other_code
from assay.util.files import atomic_write
from assay.util.output_folder import check_claim, claim, foreign_files, locked, out_folder
from assay.util.registry import Registry
from assay.util.validate import described, number, reject, whole

COMMAND, FILES = "fit", ("fit.json", "checkpoint.pt", "defence.safetensors", "saliency.safetensors")
"""What the folder's record says, and what is written there."""
_CODE = tuple(f"assay.defences.{name}" for name in ("fit", "fitted", "purifiers", "detectors", "saliency"))


@dataclass(frozen=True)
class Fitting:
    """How one defence is trained.

    Attributes:
        part: the network that it consists of, a name of `checkpoint.PARTS`.
        fit: a function of `defences.fit`.
        epochs: passes over the data, if not said otherwise.
        attacked: whether it needs a classifier and adversarial images.
        describe: the arguments that build the network again.
        scores: scores of clean images, of which a threshold is made; None for a defence that refuses nothing.
        file: the file of its weights.
    """

    part: str
    fit: Callable[..., Any]
    epochs: int
    describe: Callable[[Any, Dataset], dict[str, int]]
    attacked: bool = False
    scores: Callable[[Any, Tensor], Tensor] | None = None
    file: str = "defence.safetensors"


FITTINGS: Registry[Fitting] = Registry(
    "defence",
    {
        "magnet": Fitting(
            "autoencoder",
            fit_autoencoder,
            10,
            lambda _, d: {"channels": _channels(d)},
            scores=lambda net, x: Reconstruction(net, 1.0).error(x),
        ),
        "ape-gan": Fitting("cleaner", fit_cleaner, 5, lambda _, d: {"channels": _channels(d)}, attacked=True),
        "defense-gan": Fitting(
            "generator",
            fit_generator,
            20,
            lambda net, d: {"channels": _channels(d), "size": int(d.x.shape[2]), "latent": net.latent},
        ),
        "pixel-defend": Fitting(
            "density", fit_density, 5, lambda net, d: {"channels": _channels(d), "levels": net.levels}
        ),
        "detector": Fitting(
            "detector",
            fit_detector,
            5,
            lambda _, d: {"channels": _channels(d), "size": int(d.x.shape[2])},
            attacked=True,
            scores=lambda net, x: net(x),
        ),
        "saliency": Fitting("saliency", fit_saliency, 10, lambda net, _: net.arguments(), file="saliency.safetensors"),
    },
)


def check_fitting(
    name: str, *, epochs: int | None = None, refuse: float = 0.01, seed: int = 0, data: Dataset | None = None
) -> None:
    """Reject arguments of `fit_defence` that are out of range, and data that it cannot learn from.

    Args:
        name: a name of `FITTINGS`.
        epochs: passes over the data; None for the defence's own number.
        refuse: share of clean images that may be refused.
        seed: of weights and draws.
        data: clean images; None if they are not loaded yet.

    Raises:
        ValueError: an unknown name, a number out of range, too few images, or images of a side that does not fit.
    """
    FITTINGS.find(name)
    if epochs is not None:
        whole("epochs", epochs, least=1)
    number("refuse", refuse, least=0, most=1)
    whole("seed", seed)
    if data is None:
        return
    if FITTINGS[name].part == "saliency" and data.masks is None:
        reject("data", "images with foreground masks", described(f"{data.name or 'images'} without masks"))
    if len(data) < 10:
        reject("data", "at least 10 images", len(data))
    side = int(data.x.shape[2])
    if FITTINGS[name].part == "generator" and side % 4:
        reject("data", "images whose side is a multiple of 4", f"{side} pixels")


def fit_defence(
    name: str,
    data: Dataset,
    out: str | Path,
    *,
    model: nn.Module | None = None,
    attack: AnyAttack | None = None,
    epochs: int | None = None,
    refuse: float = 0.01,
    seed: int = 0,
    progress: EpochCallback | None = None,
) -> Path:
    """Train what a defence is made of, or a saliency model; the same call resumes.

    Args:
        name: a name of `FITTINGS`.
        data: clean images; where there is a threshold to be set, a tenth of them is kept aside for it.
        out: the folder, new or of an earlier call: ``checkpoint.pt`` after each epoch, ``defence.safetensors`` (or
            ``saliency.safetensors``) at the end.
        model: the classifier to protect, for ``ape-gan`` and ``detector``.
        attack: makes adversarial images, for the same two.
        epochs: passes over the data.
        refuse: share of clean images that may be refused, for ``magnet`` and ``detector``.
        seed: of weights and draws.
        progress: called after each epoch.

    Returns:
        The file, for ``defend(model, f"{name}:path={file}")``; of saliency for
            ``DualPerturbation(..., lam=1.0, saliency=str(file))``.

    Raises:
        ValueError: an unknown name, a missing model or attack, a number out of range, data that do not fit, or a folder
            with other files, of another call or one that another process is writing to.
    """
    check_fitting(name, epochs=epochs, refuse=refuse, seed=seed, data=data)
    fitting = FITTINGS[name]
    attack_arguments: dict[str, Any] = {}
    if fitting.attacked:
        if model is None or attack is None:
            reject("model" if model is None else "attack", f"one, as {name} learns from adversarial images", None)
        attack_arguments = {"model": model, "attack": attack}
    folder = out_folder(out)
    check_claim(folder, COMMAND, FILES, is_fit)
    made_of = fingerprint(attack)
    code = f"{code_digest(*made_of.modules, alone=_CODE)} {made_of.code}".strip()
    identity = {
        "defence": name,
        "data": data.digest,
        "seed": seed,
        "attack": made_of.text if attack_arguments else "",
        "model": digest(model) if attack_arguments and model is not None else "",
    }
    _require_same(folder, identity)
    with locked(folder):
        claim(folder, COMMAND, FILES, is_fit, remade=(fitting.file,))
        _require_same(folder, identity)
        begun = _begun(folder)
        if begun is not None and (folder / "checkpoint.pt").is_file():
            then = str(begun.get("code", ""))
            warn_of_other_code(then, code, folder)
            code = then  # of what was trained so far
        atomic_write(folder / "fit.json", json.dumps({**identity, "code": code}, indent=1))
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        aside = max(len(data) // 10, 1) if fitting.scores else 0
        net = fitting.fit(
            data.take(order[aside:]),
            **attack_arguments,
            epochs=fitting.epochs if epochs is None else epochs,
            seed=seed,
            out=folder / "checkpoint.pt",
            progress=progress,
        )
        facts = {}
        if fitting.scores is not None:
            with torch.no_grad():
                parts = [fitting.scores(net, data.images(at)) for at in order[:aside].split(256)]
            facts["threshold"] = threshold_at(torch.cat(parts), refuse)
        path = folder / fitting.file
        save_part(net, path, fitting.part, fitting.describe(net, data), **facts)
    return path


def is_fit(folder: Path) -> bool:
    """Whether a folder without a record is one of `fit_defence`, from a version that kept none."""
    return (folder / "fit.json").is_file() and set(foreign_files(folder)) <= set(FILES)


def _require_same(folder: Path, identity: Mapping[str, Any]) -> None:
    """A folder holds one run: another one is refused by what differs."""
    theirs = _begun(folder)
    if theirs is not None:
        differs = [f"{key} differs" for key, value in identity.items() if theirs.get(key) != value]
        if differs:
            reject("out", f"a new folder or one of the same run ({', '.join(differs)})", str(folder))


def _begun(folder: Path) -> dict[str, Any] | None:
    """What an earlier call noted of itself; None where there was none."""
    path = folder / "fit.json"
    results: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return results


def with_threshold(net: nn.Module, facts: Mapping[str, float]) -> nn.Module:
    """A detector with its threshold."""
    if isinstance(net, Detector):
        net.threshold = facts["threshold"]
    return net


def _channels(data: Dataset) -> int:
    return int(data.x.shape[1])
