"""Training a classifier: resumable by the same command, each checkpoint whole or not there."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.arguments import described, reject
from assay.core.files import atomic_write, sweep
from assay.data import Dataset
from assay.models import build
from assay.models import save as save_model
from assay.training.objectives import TrainingObjective, training_objective
from assay.training.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """What an epoch ended with.

    Attributes:
        epoch: how many epochs are done.
        epochs: of how many.
        loss: mean training loss.
        accuracy: share of the training images that were right when they were met (adversarial ones, if any).
        rate: learning rate.
        seconds: wall time.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    rate: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A trained classifier.

    Attributes:
        model: on the CPU, in evaluation mode.
        path: its weights.
        history: one `Epoch` an epoch.
        trail: weights of the epochs that were kept, by epoch.
    """

    model: nn.Module
    path: Path
    history: tuple[Epoch, ...]
    trail: dict[int, Path]


def train(
    data: Dataset,
    recipe: Recipe,
    out: str | Path,
    *,
    trail: tuple[int, ...] = (),
    progress: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train by a recipe, or go on where an earlier call with the same arguments (but for fewer epochs) stopped.

    After each epoch ``checkpoint.pt`` (weights, optimiser, random state, history) is replaced atomically; at the end
    ``model.safetensors`` is written. On the CPU a resumed run ends with the weights of an uninterrupted one.

    Args:
        data: images, labels and, for AT-Dual, masks.
        recipe: how to train.
        out: the run's folder.
        trail: epochs whose weights are kept in ``trail/`` for later study (0 is the start).
        progress: called after each epoch.

    Returns:
        The result.

    Raises:
        ValueError: a folder of another run (the field that differs is named), data without the masks that the
            objective needs, or a loss that is not finite.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    objective = training_objective(
        recipe.objective,
        eps=recipe.eps,
        eps_background=recipe.eps_background,
        norm=recipe.norm,
        steps=recipe.attack_steps,
    )
    if objective.needs_mask and data.masks is None:
        reject("data", "foreground masks, which at-dual needs", described(f"{data.name} has none"))
    run = _Run(data, recipe, objective, out, trail)
    run.resume()
    while run.done < recipe.epochs:
        run.epoch(progress)
    return run.finish()


class _Run:
    """The state of a training run."""

    def __init__(
        self, data: Dataset, recipe: Recipe, objective: TrainingObjective, out: Path, trail: tuple[int, ...]
    ) -> None:
        from accelerate import Accelerator  # half a second of import time, needed only here

        self.data, self.recipe, self.objective, self.out, self.trail = data, recipe, objective, out, trail
        channels, height, _ = data.x.shape[1:]
        self.plan = {
            "arch": recipe.arch,
            "channels": int(channels),
            "classes": len(data.classes),
            "size": int(height),
            "normalize": recipe.normalize,
        }
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            model = build(**self.plan)  # type: ignore[arg-type]
            self.random = torch.get_rng_state()
        self.accelerator = Accelerator()
        self.model, self.optimiser = self.accelerator.prepare(model, _optimiser(model, recipe))
        self.history: list[Epoch] = []
        self.identity = {"recipe": replace(recipe, epochs=0).canonical(), "data": data.digest}

    @property
    def done(self) -> int:
        return len(self.history)

    def resume(self) -> None:
        """Take up the checkpoint of the folder, if there is one of this very run."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            self._keep(0)
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, mine in self.identity.items():
            if state[name] != mine:
                reject(
                    "out", f"a new folder or one of the same run ({_difference(name, state[name], mine)})", str(path)
                )
        epochs = len(json.loads(state["history"]))
        if epochs > self.recipe.epochs:
            reject("epochs", f"at least {epochs}, which the run in this folder has done", self.recipe.epochs)
        self._bare().load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.random = state["random"]
        self.history = [Epoch(**entry) for entry in json.loads(state["history"])]

    def epoch(self, progress: Callable[[Epoch], None] | None) -> None:
        """One pass over the data."""
        recipe, began = self.recipe, time.monotonic()
        rate = recipe.learning_rate(self.done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        total = right = seen = 0.0
        with torch.random.fork_rng():
            torch.set_rng_state(self.random)
            for step, index in enumerate(_batches(len(self.data), recipe, self.done)):
                loss, correct = self._step(index, _seed(recipe.seed, self.done, step))
                total, right, seen = total + loss * len(index), right + correct, seen + len(index)
            self.random = torch.get_rng_state()
        self.history.append(
            Epoch(
                epoch=self.done + 1,
                epochs=recipe.epochs,
                loss=total / max(seen, 1),
                accuracy=right / max(seen, 1),
                rate=rate,
                seconds=round(time.monotonic() - began, 3),
            )
        )
        self._save()
        self._keep(self.done)
        if progress is not None:
            progress(self.history[-1])

    def _step(self, index: Tensor, seed: int) -> tuple[float, int]:
        device = self.accelerator.device
        x, y = self.data.images(index).to(device), self.data.y[index].to(device)
        mask = None if self.data.masks is None else self.data.masks[index].to(device)
        if self.recipe.flip:
            turned = torch.rand(len(x), generator=torch.Generator().manual_seed(seed)).to(device) < 0.5
            x = torch.where(turned[:, None, None, None], x.flip(3), x)
            mask = None if mask is None else torch.where(turned[:, None, None, None], mask.flip(3), mask)
        recorder = _Recorder(self.model)
        loss = self.objective(recorder, x, y, mask, seed)
        value = float(loss.detach())
        if value != value or value in (float("inf"), float("-inf")):
            reject("rate", "a learning rate at which the loss stays finite", self.recipe.rate)
        self.optimiser.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.optimiser.step()
        return value, int((recorder.logits.argmax(1) == y).sum()) if recorder.logits is not None else 0

    def finish(self) -> Trained:
        """Write the weights."""
        model = self._bare()
        path = self.out / "model.safetensors"
        save_model(model, path, self.plan)
        atomic_write(self.out / "history.json", json.dumps([vars(e) for e in self.history], indent=1))
        kept = {e: self._trail_path(e) for e in self.trail if self._trail_path(e).exists()}
        return Trained(model.cpu().eval(), path, tuple(self.history), kept)

    def _save(self) -> None:
        content = io.BytesIO()
        state = {
            **self.identity,
            "model": self._bare().state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": self.random,
            "history": json.dumps([vars(e) for e in self.history]),
        }
        torch.save(state, content)
        if self.accelerator.is_main_process:
            atomic_write(self.out / "checkpoint.pt", content.getvalue())

    def _keep(self, epoch: int) -> None:
        if epoch in self.trail and not self._trail_path(epoch).exists():
            save_model(self._bare(), self._trail_path(epoch), self.plan)

    def _trail_path(self, epoch: int) -> Path:
        return self.out / "trail" / f"epoch-{epoch:04d}.safetensors"

    def _bare(self) -> nn.Module:
        bare: nn.Module = self.accelerator.unwrap_model(self.model)
        return bare


class _Recorder(nn.Module):
    """The model, remembering the logits of its last pass in training mode (those that the loss is about)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.logits: Tensor | None = None
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        if self.model.training:
            self.logits = logits.detach()
        return logits


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    return torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=0.9, weight_decay=recipe.decay)


def _batches(count: int, recipe: Recipe, epoch: int) -> Iterator[Tensor]:
    """The epoch's order, a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(_seed(recipe.seed, epoch, -1))
    yield from torch.randperm(count, generator=generator).split(recipe.batch)


def _seed(seed: int, epoch: int, step: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{epoch}/{step}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def _difference(name: str, theirs: str, mine: str) -> str:
    if name != "recipe":
        return "the data differ"
    old: dict[str, Any] = json.loads(theirs)
    new: dict[str, Any] = json.loads(mine)
    changed = [f"{key} was {old.get(key)!r}, is {new[key]!r}" for key in new if old.get(key) != new[key]]
    return ", ".join(changed)
