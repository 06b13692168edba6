"""``assay train``: train a classifier."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assay.attacks.registry import make as make_attack
from assay.cli.data import load_data
from assay.cli.output import print_json, print_line
from assay.core.combinators import AnyAttack
from assay.masks.sources import with_foreground
from assay.models.load import load as load_model
from assay.training.objectives.batch import needs_of
from assay.training.objectives.registry import OPTIONS, check_options
from assay.training.recipe import Recipe
from assay.training.records import Epoch, Moment, Trained
from assay.training.stored import with_stored
from assay.training.trainer import COMMAND, FILES, is_training, require_accelerate
from assay.training.trainer import train as run_training
from assay.util.console import print_note
from assay.util.output_folder import check_claim, out_folder
from assay.util.validate import described, name_argument, reject, whole


def train(
    *,
    data: str,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),
    foreground: str = "auto",
    stored: str | None = None,
    stored_attack: str = "pgd",
    limit: int | None = None,
    trail: str = "",
    track: list[str] | None = None,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Train a classifier, or resume its training.

    Parameters
    ----------
    data
        Where images come from (see: assay ls data); its training part is used.
    out
        The run's folder: checkpoint.pt, model.safetensors, history.json, trail/.
    foreground
        Where at-dual's masks come from: data, saliency, intensity, folder:PATH, or auto (data, else saliency).
    stored
        A trained model: adversarial examples against it are made once and added to the data.
    stored_attack
        The attack that makes them.
    limit
        At most so many images.
    trail
        Epochs whose weights are kept, such as 0,1,5,10, or all.
    track
        tensorboard or mlflow, where installed.
    json
        Print the history as JSON.
    quiet
        No progress.
    """
    require_accelerate()
    trail_epochs = _kept_epochs(trail, recipe.epochs)
    check_claim(out_folder(out), COMMAND, FILES, is_training)
    chosen = {name for name in OPTIONS if getattr(recipe, name) != getattr(Recipe, name)}
    if recipe.validate or stored is not None:  # which read a budget, too
        chosen -= {"eps", "norm"}
    check_options(recipe.objective, chosen, recipe.attack)
    recipe.require_milestones()
    dataset = load_data(
        data, split="train", limit=None if foreground.startswith("folder:") else limit, seed=recipe.seed
    )
    attack_for_stored = None if stored is None else _stored_attack(recipe, stored_attack)
    if "mask" in recipe.needs or (attack_for_stored is not None and "mask" in needs_of(attack_for_stored)):
        dataset = with_foreground(dataset, foreground)
    dataset = dataset.head(limit, recipe.seed)
    if stored is not None and attack_for_stored is not None:
        with name_argument("stored", inner="model"):
            network = load_model(stored)
        dataset = with_stored(dataset, network, attack_for_stored, seed=recipe.seed)
    was_trained, epochs_run = (out / "model.safetensors").is_file(), list[Epoch]()
    with _bar(quiet or json) as live:
        result = run_training(
            dataset,
            recipe,
            out,
            trail=trail_epochs,
            track=tuple(track or ()),
            progress=_epoch_callback(epochs_run, quiet or json),
            live=live,
        )
    if json:
        print_json([vars(epoch) for epoch in result.history])
    else:
        _show(result, finished=was_trained and not epochs_run)
    return 0


def _stored_attack(recipe: Recipe, spec: str) -> AnyAttack:
    """The attack that makes stored examples, at the recipe's budget."""
    if recipe.eps is None:
        return reject("eps", "a budget, which stored examples need", None)
    return make_attack(spec, eps=recipe.eps, norm=recipe.norm, eps_background=recipe.eps_background)


def _epoch_callback(ran: list[Epoch], silent: bool) -> Callable[[Epoch], None]:
    """A callback that collects the epochs of this call and prints each."""

    def report(epoch: Epoch) -> None:
        ran.append(epoch)
        if not silent:
            print_epoch(epoch)

    return report


def _show(result: Trained, *, finished: bool) -> None:
    """Say where the model is; ``finished``: an earlier call has trained it."""
    if result.best < len(result.history):
        print_note(f"the weights are those of epoch {result.best}, the best on the images held out")
    if finished:
        count = len(result.history)
        print_note(f"already finished: {count} epoch{'s' * (count != 1)} (raise --epochs to continue)")
    print_line(f"model: {result.path}")


def print_epoch(epoch: Epoch) -> None:
    """One line an epoch."""
    held_out_text = "" if epoch.clean is None else f"held out {100 * epoch.clean:.1f} %"
    held_out_text += "" if epoch.robust is None else f", {100 * epoch.robust:.1f} % under PGD-10"
    held_out_text += "" if epoch.certified is None else f", {100 * epoch.certified:.1f} % certified"
    print_note(
        f"epoch {epoch.epoch}/{epoch.epochs}  loss {epoch.loss:.4f}  training accuracy {100 * epoch.accuracy:.1f} %  "
        f"{held_out_text}{'  ' if held_out_text else ''}rate {epoch.rate:g}  "
        f"{epoch.passes:.0f} passes/s  {epoch.seconds:.1f} s"
    )
    if epoch.note:
        print_note(epoch.note)


@contextmanager
def _bar(silent: bool) -> Iterator[Callable[[Moment], None] | None]:
    """Progress inside an epoch, on a terminal; elsewhere a line an epoch has to do."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns_text = "loss {task.fields[loss]:.3f}  {task.fields[right]:.1f} %  {task.fields[speed]:.0f} passes/s"
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(columns_text),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("epoch", total=None, loss=0.0, right=0.0, speed=0.0)

        def live(now: Moment) -> None:
            bar.update(
                task,
                description=f"epoch {now.epoch}/{now.epochs}",
                completed=now.done,
                total=now.total,
                loss=now.loss,
                right=100 * now.accuracy,
                speed=now.passes,
            )

        yield live


def _kept_epochs(trail: str, epochs: int) -> tuple[int, ...]:
    """The epochs whose weights are kept."""
    if trail == "all":
        return tuple(range(whole("epochs", epochs) + 1))
    chosen = _epochs("trail", trail)
    wrong = [epoch for epoch in chosen if not 0 <= epoch <= whole("epochs", epochs)]
    if wrong:
        reject("trail", f"epochs from 0 to {epochs} (--epochs), or all", described(", ".join(map(str, wrong))))
    return chosen


def _epochs(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        return reject(name, "whole numbers separated by commas", text)
