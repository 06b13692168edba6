"""Networks whose answers are not one row of class logits: one logit, independent labels, a fixed batch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.model_calls import call, call_in_groups
from assay.util.validate import described, number, reject, whole


class BinaryLogit(nn.Module):
    """Two class logits from a network with one: ``(−(z − t)/2, (z − t)/2)``.

    Class 1 is ``z > threshold``; the margin between the two classes is ``|z − t|``.

    Args:
        model: maps images ``(b, c, h, w)`` to one logit each, ``(b,)`` or ``(b, 1)``.
        threshold: the logit t above which the answer is class 1. For a threshold p on the probability it is
            ``log(p / (1 − p))``.

    Raises:
        ValueError: ``threshold`` is not finite; or, when called, the model returns another shape.

    Example:
        >>> import assay
        >>> model = BinaryLogit(lambda x: x.mean((1, 2, 3)) - 0.5)
        >>> x = torch.full((1, 1, 2, 2), 0.75)
        >>> model(x).tolist()
        [[-0.125, 0.125]]
        >>> assay.attack(model, x, torch.tensor([1]), assay.PGD(0.3, steps=5), preflight=False).robust_accuracy
        0.0
    """

    def __init__(self, model: Callable[[Tensor], Any], threshold: float = 0.0) -> None:
        super().__init__()
        self.model = _checked(model)
        self.threshold = number("threshold", threshold)

    def extra_repr(self) -> str:
        """The threshold, so that it is part of what is recorded."""
        return f"threshold={self.threshold}"

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the two classes, ``(b, 2)``."""
        logit = call(self.model, x)
        if logit.numel() != len(x) or logit.dim() > 2 or not logit.is_floating_point():
            reject("model", f"one logit an image, shape ({len(x)},) or ({len(x)}, 1)", _shape(logit))
        half = (logit.reshape(len(x)) - self.threshold) / 2
        return torch.stack((-half, half), 1)


class MultiLabel(nn.Module):
    """Label sets as classes, for a network with independent labels.

    With ``m_jl = s_jl (z_l − t)``, where ``s_jl`` is 1 if set j contains label l and else −1, the logit of set j is
    ``min_l m_jl`` where that is positive, and else the sum of the negative ``m_jl``: by how much the set is met, or how
    far its labels are from it, all together (so that a gradient moves all wrong labels at once). One last class, "any
    other set", has the logit 0. So the answer is class j exactly if the thresholded labels are set j: an untargeted
    attack succeeds as soon as one label flips, a targeted one when the whole set is reached. (With a logit exactly at
    the threshold classes tie.)

    Args:
        model: maps images ``(b, c, h, w)`` to one logit a label, ``(b, L)``.
        sets: the m distinct label sets that matter, those of the data and of the targets, ``(m, L)`` of 0 and 1 or
            bool; see `MultiLabel.of`.
        threshold: the logit t above which a label is on.

    Raises:
        ValueError: ``sets`` is not a matrix of 0 and 1 with different rows; or, when called, the model returns another
            shape.

    Example:
        >>> import assay
        >>> network = lambda x: x.flatten(1)[:, :3] - 0.5
        >>> x, labels = torch.tensor([[0.9, 0.2, 0.8, 0.5]]).reshape(1, 1, 2, 2), torch.tensor([[1, 0, 1]])
        >>> model = MultiLabel.of(network, labels)
        >>> outcome = assay.attack(model, x, model.index(labels), assay.FMN(norm="linf", steps=100), preflight=False)
        >>> round(outcome.norm("linf").item(), 2)  # the second label and the third are nearest to flipping
        0.3
    """

    signs: Tensor

    def __init__(self, model: Callable[[Tensor], Any], sets: Tensor, threshold: float = 0.0) -> None:
        super().__init__()
        self.model = _checked(model)
        self.threshold = number("threshold", threshold)
        on = _label_sets("sets", sets)
        if len(torch.unique(on, dim=0)) != len(on):
            reject("sets", "different rows (MultiLabel.of keeps one of each)", described("a set that occurs twice"))
        self.register_buffer("signs", torch.where(on, 1.0, -1.0))

    @classmethod
    def of(cls, model: Callable[[Tensor], Any], *labels: Tensor, threshold: float = 0.0) -> "MultiLabel":
        """The adapter for the label sets that occur in some labels.

        Args:
            model: as for the class.
            labels: label sets ``(n, L)`` of 0 and 1 or bool: those of the data, and those of the targets, if any.
            threshold: as for the class.
        """
        if not labels:
            reject("labels", "the label sets of the data", described("none"))
        parts = [_label_sets("labels", part) for part in labels]
        if len({part.shape[1] for part in parts}) > 1:
            reject("labels", "as many labels in all of them", described(str([part.shape[1] for part in parts])))
        return cls(model, torch.unique(torch.cat(parts), dim=0), threshold)

    def index(self, labels: Tensor) -> Tensor:
        """Classes of label sets, for ``assay.attack``.

        Args:
            labels: ``(n, L)`` of 0 and 1 or bool.

        Returns:
            Positions in ``sets``, int64 ``(n,)``.

        Raises:
            ValueError: a label set that is not among ``sets``.
        """
        on = _label_sets("labels", labels).to(self.signs.device)
        if on.shape[1] != self.signs.shape[1]:
            reject("labels", f"{self.signs.shape[1]} labels a row", _shape(labels))
        same = (on[:, None] == (self.signs > 0)).all(2)
        if not bool(same.any(1).all()):
            row = int((~same.any(1)).nonzero()[0])
            reject(
                "labels",
                "label sets that are among `sets` (MultiLabel.of(model, labels, targets))",
                described(f"row {row}: {on[row].int().tolist()}"),
            )
        return same.to(torch.int8).argmax(1)

    def extra_repr(self) -> str:
        """Number of sets and labels, and the threshold."""
        return f"sets={len(self.signs)}, labels={self.signs.shape[1]}, threshold={self.threshold}"

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the sets and of "any other set", ``(b, m + 1)``."""
        logits = call(self.model, x)
        if logits.dim() == 1 and len(x) == 1:
            logits = logits[None]  # a network that squeezes its output
        if tuple(logits.shape) != (len(x), self.signs.shape[1]) or not logits.is_floating_point():
            reject("model", f"one logit a label, shape ({len(x)}, {self.signs.shape[1]})", _shape(logits))
        margins = self.signs.to(logits) * (logits - self.threshold)[:, None]
        least, wrong = margins.amin(2), margins.clamp_max(0).sum(2)
        of_sets = torch.where(least > 0, least, wrong)
        return torch.cat((of_sets, torch.zeros_like(of_sets[:, :1])), 1)


class FixedBatch(nn.Module):
    """A model that takes exactly ``size`` images at a time, for any number of them.

    Images are passed on in groups; the last group is filled up by repeating its last image, and what the model returns
    for the repetitions is dropped. They count where the model counts queries.

    Args:
        model: maps exactly ``size`` images to ``size`` rows.
        size: images a call, at least 1.

    Raises:
        ValueError: when called, the model returns another number of rows.

    Example:
        >>> model = FixedBatch(lambda x: x.flatten(1).reshape(2, 3), size=2)
        >>> model(torch.rand(5, 3, 1, 1)).shape
        torch.Size([5, 3])
    """

    def __init__(self, model: Callable[[Tensor], Any], size: int) -> None:
        super().__init__()
        self.model = _checked(model)
        self.size = whole("size", size, least=1)

    def extra_repr(self) -> str:
        """The size."""
        return f"size={self.size}"

    def forward(self, x: Tensor) -> Tensor:
        """What the model returns, row by row."""
        return call_in_groups(self.model, x, self.size)


def _checked(model: Any) -> Callable[[Tensor], Any]:
    if not callable(model):
        reject("model", "a torch.nn.Module, or another callable from images to logits", model, error=TypeError)
    return model  # type: ignore[no-any-return]


def _label_sets(name: str, labels: Any) -> Tensor:
    """Label sets as bool ``(n, L)``."""
    if not isinstance(labels, Tensor) or labels.dim() != 2 or 0 in labels.shape:
        reject(
            name,
            "a tensor of 0 and 1 of shape (n, L), one row a label set",
            _shape(labels) if isinstance(labels, Tensor) else labels,
        )
    if not bool(((labels == 0) | (labels == 1)).all()):
        reject(name, "only 0 and 1 (or bool)", described(f"values from {labels.min().item()} to {labels.max().item()}"))
    return labels.bool()


def _shape(value: Tensor) -> str:
    return described(f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}")
