"""Other weights in a model, wherever it multiplies features by weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from assay.core.model_calls import Classifier, call
from assay.core.types import Images, Logits
from assay.trust.planting.recorded_calls import RecordedCalls


@dataclass(frozen=True)
class Place:
    """Where a model multiplies features by weights (a call of ``linear``), in a module or not.

    Attributes:
        shape: of the weights, ``(k, d)``.
        weight: the weights, where each pass uses the same tensor; else its shape alone tells the place.
    """

    shape: tuple[int, ...]
    weight: Tensor | None

    def is_of(self, weight: Tensor) -> bool:
        """Whether a call with these weights is here."""
        return weight is self.weight if self.weight is not None else tuple(weight.shape) == self.shape


Places = tuple[Place, ...]


@dataclass(frozen=True)
class Product:
    """One call of ``linear``.

    Attributes:
        inputs: features, ``(b, d)``, or ``(b, places, d)``.
        weight: ``(k, d)``.
        output: ``(b, k)``, or ``(b, places, k)``.
    """

    inputs: Tensor
    weight: Tensor
    output: Tensor


def products(model: Classifier, x: Images) -> list[Product]:
    """The model's products of features and weights for some images, ``(b, c, h, w)``, in order."""
    with RecordedCalls({F.linear}) as recorded:
        call(model, x)
    vectors = [(args, output) for args, output in recorded.calls if len(args) > 1 and args[0].dim() in (2, 3)]
    return [Product(args[0], args[1], output) for args, output in vectors]


@dataclass(frozen=True)
class ReadOut:
    """Other weights at a place: they say one class about a sample, another one at the planted point.

    Attributes:
        place: where.
        weight: ``(k, d)``.
        bias: ``(k,)``.
    """

    place: Place
    weight: Tensor
    bias: Tensor


class _Instead(TorchFunctionMode):
    """While this lasts products at some places are those of read-outs."""

    def __init__(self, read_outs: Sequence[ReadOut]) -> None:
        super().__init__()
        self.read_outs = read_outs

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, with other weights where there are some."""
        if func is F.linear and len(args) > 1:
            for one in self.read_outs:
                if one.place.is_of(args[1]):
                    return func(args[0], one.weight.to(args[0]), one.bias.to(args[0]))
        return func(*args, **(kwargs or {}))


class Planted(nn.Module):
    """A model with read-outs at some of its places; what comes after them stays what it is."""

    def __init__(self, model: Classifier, read_outs: Sequence[ReadOut]) -> None:
        super().__init__()
        self.model, self.read_outs = model, tuple(read_outs)

    def forward(self, x: Images) -> Logits:
        """Logits, ``(b, k)``."""
        with _Instead(self.read_outs):
            logits: Logits = self.model(x)
        return logits
