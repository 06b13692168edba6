"""``assay train``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.cli.foreground import with_foreground
from assay.cli.output import emit, note, say
from assay.core.arguments import reject
from assay.core.numbers import parse_number
from assay.data import load as load_data
from assay.training import Epoch, Recipe
from assay.training import train as run_training


def train(
    *,
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    objective: str = "clean",
    arch: str = "tiny-cnn",
    normalize: str = "half",
    eps: str | None = None,
    eps_background: str | None = None,
    norm: str = "linf",
    foreground: str = "auto",
    attack_steps: int = 10,
    epochs: int = 10,
    batch: int = 128,
    optimiser: str = "adam",
    rate: float = 1e-3,
    milestones: str = "",
    drop: float = 0.1,
    decay: float = 0.0,
    flip: bool = False,
    limit: int | None = None,
    seed: int = 0,
    trail: str = "",
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Train a classifier, or go on where the same command stopped.

    Parameters
    ----------
    data
        Where images come from (see: assay ls data); its training part is used.
    out
        The run's folder: checkpoint.pt, model.safetensors, history.json, trail/.
    objective
        clean, pgd-at or at-dual.
    arch
        Architecture (see: assay ls models).
    normalize
        Input normalisation, inside the model: half, imagenet, cifar10 or none.
    eps
        Budget of the inner attack, such as 8/255; the foreground's for at-dual.
    eps_background
        Background budget of at-dual.
    norm
        linf, l2 or l1.
    foreground
        Where at-dual's masks come from: data, salience, intensity, folder:PATH, or auto (data, else salience).
    attack_steps
        Steps of the inner attack.
    epochs
        Passes over the data.
    batch
        Images a step.
    optimiser
        adam or sgd.
    rate
        First learning rate.
    milestones
        Epochs after which the rate drops, such as 20,40.
    drop
        Factor of the drop.
    decay
        Weight decay.
    flip
        Mirror images at random.
    limit
        At most so many images.
    seed
        Of weights, order and attacks.
    trail
        Epochs whose weights are kept, such as 0,1,5,10, or all.
    json
        Print the history as JSON.
    quiet
        No progress.
    """
    loaded = load_data(data, split="train", limit=None if foreground.startswith("folder:") else limit, seed=seed)
    if objective == "at-dual":
        loaded = with_foreground(loaded, foreground)
    loaded = loaded.head(limit, seed)
    recipe = Recipe(
        arch=arch,
        normalize=normalize,
        objective=objective,
        eps=_budget("eps", eps),
        eps_background=_budget("eps_background", eps_background),
        norm=norm,
        attack_steps=attack_steps,
        epochs=epochs,
        batch=batch,
        optimiser=optimiser,
        rate=rate,
        milestones=_epochs("milestones", milestones),
        drop=drop,
        decay=decay,
        flip=flip,
        seed=seed,
    )
    kept = tuple(range(epochs + 1)) if trail == "all" else _epochs("trail", trail)
    found = run_training(loaded, recipe, out, trail=kept, progress=None if quiet or json else tell)
    if json:
        emit([vars(epoch) for epoch in found.history])
    else:
        say(f"model: {found.path}")
    return 0


def tell(epoch: Epoch) -> None:
    """One line an epoch."""
    note(
        f"epoch {epoch.epoch}/{epoch.epochs}  loss {epoch.loss:.4f}  training accuracy {100 * epoch.accuracy:.1f} %  "
        f"rate {epoch.rate:g}  {epoch.seconds:.1f} s"
    )


def _budget(name: str, text: str | None) -> float | None:
    try:
        return None if text is None else parse_number(text)
    except ValueError:
        return reject(name, "a number or a fraction such as 8/255", text)


def _epochs(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        return reject(name, "whole numbers separated by commas", text)
