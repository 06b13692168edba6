"""Training a classifier: resumable by the same command, each checkpoint whole or not there."""

from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

from assay.core.call_context import in_neutral_context
from assay.data.dataset import Dataset
from assay.models.load import load as load_model
from assay.training.checkpoint import load_checkpoint
from assay.training.log import TRACKERS, Guarded
from assay.training.loop import TrainingRun, trail_name
from assay.training.objectives.batch import Bounded
from assay.training.recipe import Recipe
from assay.training.records import Epoch, Moment, Trained
from assay.util.output_folder import check_claim, claim, locked, out_folder
from assay.util.validate import described, one_of, reject

COMMAND, FILES = "train", ("checkpoint.pt", "model.safetensors", "history.json", "tensorboard")
"""What the record of a training run's folder says; the weights of single epochs are named there, too."""

_TRACKED = ("loss", "accuracy", "rate", "clean", "robust", "certified", "passes")
"""What trackers get of an `Epoch`."""


@in_neutral_context
def train(
    data: Dataset,
    recipe: Recipe,
    out: str | Path,
    *,
    trail: tuple[int, ...] = (),
    track: tuple[str, ...] = (),
    progress: Callable[[Epoch], None] | None = None,
    live: Callable[[Moment], None] | None = None,
    device: str | None = None,
) -> Trained:
    """Train by a recipe, or go on where an earlier call with the same arguments (but for fewer epochs) stopped.

    Objectives whose budget grows over the whole of the training (``ibp``, ``crown-ibp``, ``sabr``) are another training
    with fewer epochs; interrupted, they go on like the others.

    After each epoch ``checkpoint.pt`` (weights, optimiser, history) is replaced atomically; at the end
    ``model.safetensors`` is written. On the CPU a resumed run ends with the weights of an uninterrupted one. Under
    ``torchrun`` or ``accelerate launch`` the batch is divided among the processes; the first one writes.

    Args:
        data: images, labels and, for AT-Dual, masks.
        recipe: how to train.
        out: the run's folder.
        trail: epochs whose weights are kept in ``trail/`` for later study (0 is the start).
        track: ``"tensorboard"``, ``"mlflow"``.
        progress: called after each epoch.
        live: called a few times a second.
        device: where, such as ``"cpu"`` or ``"cuda:1"``; by default an accelerator if there is one.

    Returns:
        The result.

    Raises:
        ImportError: accelerate is not installed.
        ValueError: a folder of another run (the field that differs is named) or with other files, one that another
            process is writing to, a damaged checkpoint, data without the masks that the objective needs, or a loss
            that is not finite.
    """
    out = out_folder(out)
    require_accelerate()
    _require_trackers(track)
    files = (*FILES, *(trail_name(epoch) for epoch in trail))
    check_claim(out, COMMAND, files, is_training)
    objective = recipe.make_objective(load_model)
    if "mask" in objective.needs and data.masks is None:
        reject("data", f"foreground masks, which {recipe.objective} needs", described(f"{data.name} has none"))
    if isinstance(objective, Bounded) and recipe.precision != "float32":
        reject("precision", f"float32, in which bounds of {recipe.objective} are computed", recipe.precision)
    run = TrainingRun(data, recipe, objective, out, trail, device)
    with locked(out) if run.main else nullcontext():
        if run.main:
            claim(out, COMMAND, files, is_training, remade=("model.safetensors", "history.json"))
        run.resume()
        trackers = Guarded(track if run.main else (), out)
        trackers.call("start", vars(recipe))
        while not run.over:
            epoch = run.epoch(live)
            if progress is not None and run.main:
                progress(epoch)
            named = {name: getattr(epoch, name) for name in _TRACKED}
            trackers.call("log", epoch.epoch, {name: value for name, value in named.items() if value is not None})
        trackers.call("finish")
        return run.finish()


def require_accelerate() -> None:
    """Refuse to begin without accelerate.

    Raises:
        ImportError: it is not installed; the message has the line that installs it.
    """
    try:
        missing = find_spec("accelerate") is None
    except (ImportError, ValueError):
        missing = True
    if missing:
        raise ImportError("training needs accelerate, which is not installed: pip install 'assay[train]'")


def _require_trackers(track: tuple[str, ...]) -> None:
    """Refuse trackers that there are not, or whose package is not installed, before anything is written."""
    for name in track:
        one_of("track", name, tuple(TRACKERS))
        if find_spec(name) is None:
            raise ImportError(f"track: expected {name}, which is not installed: pip install {name}")


def is_training(folder: Path) -> bool:
    """Whether a folder without a record is one of a training run of an earlier version."""
    try:
        load_checkpoint(folder / "checkpoint.pt")
    except ValueError:
        return False
    return True
