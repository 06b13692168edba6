"""Adversarial weight perturbation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.combinators import AnyAttack
from assay.core.model_calls import classify
from assay.training.objectives.batch import Batch, Update, attacked, needs_of
from assay.util.validate import number


@dataclass(frozen=True)
class WeightPerturbation:
    """The adversarial loss at weights that were themselves moved uphill, layer by layer, by γ of their length.

    Args:
        attack: the inner maximiser.
        gamma: how far a layer's weights move, as a share of their norm (γ).
        warmup: no perturbation in the first so many steps of an epoch.

    Source: Wu, Xia & Wang, "Adversarial weight perturbation helps robust generalization", NeurIPS 2020, equations 8
    and 10 and algorithm 1 (one step; matrices and kernels only, as in the official code).
    """

    attack: AnyAttack
    gamma: float = 0.01
    warmup: int = 0

    def __post_init__(self) -> None:
        number("gamma", self.gamma, least=0)
        number("warmup", self.warmup, least=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the attack reads."""
        return needs_of(self.attack)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The adversarial loss at the weights as they are."""
        return F.cross_entropy(classify(model, attacked(model, batch, self.attack)), batch.y)

    def updates(self, model: nn.Module, batch: Batch) -> Iterator[Update]:
        """The loss at the moved weights; they go back before the optimiser moves."""
        moved = attacked(model, batch, self.attack)
        step = batch.carry["step"] = batch.carry.get("step", -1) + 1
        if step < self.warmup or self.gamma == 0:
            yield Update(F.cross_entropy(classify(model, moved), batch.y))
            return
        undo = self._climb(model, moved, batch)
        yield Update(F.cross_entropy(classify(model, moved), batch.y), undo)

    def _climb(self, model: nn.Module, x: Tensor, batch: Batch) -> Callable[[], None]:
        weights = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
        grads = torch.autograd.grad(F.cross_entropy(classify(model, x), batch.y), weights, allow_unused=True)
        shifts = [
            torch.zeros_like(w) if g is None else self.gamma * w.detach().norm() / g.norm().clamp_min(1e-20) * g
            for w, g in zip(weights, grads, strict=True)
        ]
        before = [w.detach().clone() for w in weights]

        def undo() -> None:
            with torch.no_grad():
                for weight, kept in zip(weights, before, strict=True):
                    weight.copy_(kept)

        with torch.no_grad():
            for weight, shift in zip(weights, shifts, strict=True):
                weight.add_(shift)
        return undo
