"""The training loop: one run with its model, optimiser, averages, history and checkpoints."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.fingerprint import fingerprint
from assay.data.dataset import Dataset
from assay.models.load import digest
from assay.models.load import save as save_model
from assay.models.registry import build
from assay.training.average import Average
from assay.training.checkpoint import read_checkpoint, write_checkpoint
from assay.training.meters import Recorder, Tally
from assay.training.objectives.batch import Batch, Bounded, TrainingObjective, updates
from assay.training.recipe import Recipe
from assay.training.records import Epoch, Moment, Trained
from assay.training.sampling import batches, flip_randomly, seed_of
from assay.training.transfer import begin_from
from assay.training.validation import best_epoch, collapse, epochs_waited, hold_out
from assay.util.code_digest import code_digest, warn_of_other_code
from assay.util.files import atomic_write
from assay.util.validate import reject

_MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def trail_name(epoch: int) -> str:
    """The file of an epoch's weights, relative to the run's folder."""
    return f"trail/epoch-{epoch:04d}.safetensors"


class TrainingRun:
    """The state of a training run.

    Args:
        data: images, labels and, where the objective needs them, masks.
        recipe: how to train.
        objective: the loss.
        out: the run's folder.
        trail: epochs whose weights are kept.
        device: where; None for an accelerator if there is one.
    """

    def __init__(
        self,
        data: Dataset,
        recipe: Recipe,
        objective: TrainingObjective,
        out: Path,
        trail: tuple[int, ...],
        device: str | None,
    ) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs  # half a second of import time

        self.recipe, self.objective, self.out, self.trail = recipe, objective, out, trail
        self.data, self.held = hold_out(data, recipe, objective.certifiers if isinstance(objective, Bounded) else "")
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
        start_digest = "" if recipe.start is None else begin_from(model, recipe.start)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions
        # Buffers stay each process's own: an objective may pass several times before it goes back.
        settings = DistributedDataParallelKwargs(broadcast_buffers=False)
        here = torch.device(device) if device is not None else None
        if here is not None and here.type == "cuda" and here.index is not None:
            torch.cuda.set_device(here)
        self.accelerator = Accelerator(
            mixed_precision=_MIXED[recipe.precision],
            kwargs_handlers=[settings],
            cpu=here is not None and here.type == "cpu",
        )
        if self.accelerator.num_processes > 1 and self.accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model, self.optimiser = self.accelerator.prepare(model, _optimiser(model, recipe))
        self.average = Average(self._bare(), recipe.average)
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] | None = None
        teacher = getattr(objective, "teacher", None)
        self.code = _code_of(objective)
        self.identity = {
            "data": data.digest,
            "start": start_digest,
            "teacher": "" if teacher is None else digest(teacher),
        }

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or patience is."""
        patience = self.recipe.patience
        return len(self.history) >= self.recipe.epochs or bool(patience and epochs_waited(self.history) >= patience)

    def resume(self) -> None:
        """Take up the checkpoint of the folder, if there is one of this very run."""
        state = read_checkpoint(self.out / "checkpoint.pt", self.identity, self.recipe)
        if state is None:
            self._keep(0)
            return
        warn_of_other_code(state.get("code", ""), self.code, self.out)
        self.code = state.get("code", "")  # of what was trained so far
        self._bare().load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.recipe.average:
            self.average.load(state["average"])
        if state.get("scaler") and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.history, self.best = state["history"], state.get("best")

    def epoch(self, live: Callable[[Moment], None] | None) -> Epoch:
        """One pass over the data."""
        recipe, done, began = self.recipe, len(self.history), time.monotonic()
        rate = recipe.learning_rate(done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        recorder, tally, carry, last_update = Recorder(self.model), Tally(), {}, began  # type: ignore[var-annotated]
        with torch.random.fork_rng():
            for step, index in enumerate(batches(len(self.data), recipe, done)):
                self._step(recorder, tally, index, step, carry)
                now = time.monotonic()
                if live is not None and self.main and (now - last_update > 0.3 or tally.seen == len(self.data)):
                    last_update, speed = now, recorder.passes / max(now - began, 1e-9)
                    live(Moment(done + 1, recipe.epochs, tally.seen, len(self.data), *tally.means(), speed))
        seconds = time.monotonic() - began
        loss, accuracy = tally.means()
        accuracies: tuple[float | None, float | None, float | None] = (None, None, None)
        if self.held is not None:
            with self.average.applied() as model:
                accuracies = self.held.measure(model, self.accelerator.device)
            self.model.train()
        clean, robust, certified = accuracies
        passes = recorder.passes * self.accelerator.num_processes / max(seconds, 1e-9)
        epoch = Epoch(done + 1, recipe.epochs, loss, accuracy, rate, round(seconds, 3), clean, robust, round(passes, 1))
        reached = self.objective.share((done + 1) / recipe.epochs) if isinstance(self.objective, Bounded) else 1.0
        epoch = replace(epoch, certified=certified, budget=reached, note=collapse(self.history, epoch))
        self.history.append(epoch)
        if recipe.patience and best_epoch(self.history) == epoch.epoch:
            with self.average.applied() as model:
                self.best = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
        self._save()
        self._keep(epoch.epoch)
        return epoch

    def _step(self, recorder: Recorder, tally: Tally, index: Tensor, step: int, carry: dict[str, Any]) -> None:
        """One batch: this process's part of it."""
        world, place = self.accelerator.num_processes, self.accelerator.process_index
        seed, total, device = seed_of(self.recipe.seed, len(self.history), step), len(index), self.accelerator.device
        index = index[place::world]
        torch.manual_seed(seed + place)  # dropout and other draws of the model itself
        x, y = self.data.images(index).to(device), self.data.y[index].to(device)
        mask = None if self.data.masks is None else self.data.masks[index].to(device)
        steps = max(-(-len(self.data) // self.recipe.batch), 1)
        done = min((len(self.history) + step / steps) / max(self.recipe.epochs, 1), 1.0)
        batch = Batch(x, y, index, seed, mask, carry, done)
        batch = flip_randomly(batch) if self.recipe.flip else batch
        share = world * len(index) / max(total, 1)  # so that the mean over processes is the mean over the batch
        loss = torch.zeros((), device=device)
        for update in updates(self.objective, recorder, batch):
            loss = update.loss.detach()
            if not bool(loss.isfinite()):
                reject("rate", "a learning rate at which the loss stays finite", self.recipe.rate)
            self.optimiser.zero_grad(set_to_none=True)
            self.accelerator.backward(update.loss * share if world > 1 else update.loss)
            if update.undo is not None:
                update.undo()
            self.optimiser.step()
            self.average.update()
        right = recorder.right(y)
        values = torch.stack([loss * len(index), right.to(loss)])
        values = self.accelerator.reduce(values, "sum") if world > 1 else values
        tally.add(float(values[0]), int(values[1]), total)

    def finish(self) -> Trained:
        """Write the weights: the best where there was patience, else the last."""
        model = self._bare()
        if self.best is not None:
            model.load_state_dict(self.best)
        elif self.recipe.average:
            with self.average.applied():
                state = {name: t.clone() for name, t in model.state_dict().items()}
            model.load_state_dict(state)
        path = self.out / "model.safetensors"
        if self.main:
            save_model(model, path, self.plan)
            atomic_write(self.out / "history.json", json.dumps([vars(e) for e in self.history], indent=1))
        self.accelerator.wait_for_everyone()
        kept = {e: self._trail_path(e) for e in self.trail if self._trail_path(e).exists()}
        best = best_epoch(self.history) if self.best is not None else len(self.history)
        return Trained(model.cpu().eval(), path, tuple(self.history), kept, best)

    def _save(self) -> None:
        if not all(bool(t.isfinite().all()) for t in self._bare().state_dict().values() if t.is_floating_point()):
            reject("rate", "a learning rate at which the weights stay finite", self.recipe.rate)
        scaler = self.accelerator.scaler
        state: dict[str, Any] = {
            **self.identity,
            "recipe": self.recipe.canonical(),
            "code": self.code,
            "model": self._bare().state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "best": self.best,
            "history": self.history,
        }
        if self.main:
            write_checkpoint(self.out / "checkpoint.pt", state)
        self.accelerator.wait_for_everyone()

    def _keep(self, epoch: int) -> None:
        if self.main and epoch in self.trail and not self._trail_path(epoch).exists():
            with self.average.applied() as model:
                save_model(model, self._trail_path(epoch), self.plan)

    def _trail_path(self, epoch: int) -> Path:
        return self.out / trail_name(epoch)

    def _bare(self) -> nn.Module:
        bare: nn.Module = self.accelerator.unwrap_model(self.model)
        return bare


def _code_of(objective: TrainingObjective) -> str:
    """Digest of the code that trains."""
    made_of = fingerprint(objective)
    return f"{code_digest(*made_of.modules, alone=('assay.training.*',))} {made_of.code}".strip()


def _optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimiser == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    return torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=0.9, weight_decay=recipe.decay)
