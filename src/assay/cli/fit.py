"""``assay fit``: train a defence or a saliency model."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.attacks.registry import make as make_attack
from assay.cli.data import load_data
from assay.cli.output import print_json, print_line
from assay.defences.fitted import COMMAND, FILES, FITTINGS, check_fitting, fit_defence, is_fit
from assay.defences.registry import DEFENCES
from assay.models.load import load as load_model
from assay.util.console import print_note
from assay.util.output_folder import check_claim, out_folder
from assay.util.parse import parse_number
from assay.util.validate import reject


def fit(
    defence: str,
    *,
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    model: str | None = None,
    attack: str = "pgd:steps=10",
    eps: str | None = None,
    norm: str = "linf",
    epochs: int | None = None,
    refuse: float = 0.01,
    limit: int | None = None,
    seed: int = 0,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Train a defence, such as a detector, or a saliency model, or resume its training.

    Then: assay evaluate --defence NAME:path=OUT/defence.safetensors, or
    --attacks dual:lam=1,saliency=OUT/saliency.safetensors

    Parameters
    ----------
    defence
        magnet, ape-gan, defense-gan, pixel-defend or detector; saliency for a map of where people look, which learns
        from foreground masks.
    data
        Where images come from (see: assay ls data); its training part is used.
    out
        The run's folder: checkpoint.pt and defence.safetensors, or saliency.safetensors.
    model
        The classifier to protect, for ape-gan and detector.
    attack
        Creates their adversarial training images (see: assay ls attacks).
    eps
        Budget of the attack, such as 8/255.
    norm
        Norm of the budget: linf, l2 or l1.
    epochs
        How many times the data is gone through; the default depends on the defence.
    refuse
        Share of clean images that magnet and detector may refuse.
    limit
        At most so many images.
    seed
        Random seed.
    json
        Print the result as JSON.
    quiet
        No progress.
    """
    fitting = FITTINGS.find(defence)
    if fitting.attacked and (model is None or eps is None):
        reject("model" if model is None else "eps", f"one, as {defence} learns from adversarial images", None)
    try:
        radius = 0.0 if eps is None else parse_number(eps)
    except ValueError:
        reject("eps", "a number or a fraction such as 8/255", eps)
    check_fitting(defence, epochs=epochs, refuse=refuse, seed=seed)
    check_claim(out_folder(out), COMMAND, FILES, is_fit)
    dataset = load_data(data, split="train", limit=limit, seed=seed)
    check_fitting(defence, data=dataset)
    network = load_model(model) if fitting.attacked and model is not None else None
    inner_attack = make_attack(attack, eps=radius, norm=norm) if fitting.attacked else None
    path = fit_defence(
        defence,
        dataset,
        out,
        epochs=epochs,
        refuse=refuse,
        seed=seed,
        model=network,
        attack=inner_attack,
        progress=None if quiet or json else print_epoch,
    )
    if json:
        print_json({"defence": defence, "path": str(path)})
    else:
        print_line(f"defence: {defence}:path={path}" if defence in DEFENCES else f"{defence}: {path}")
    return 0


def print_epoch(done: int, of: int, loss: float) -> None:
    """One line an epoch."""
    print_note(f"epoch {done}/{of}  loss {loss:.4f}")
