"""What one look at the model has come to: logits, and the gradient of an objective by the images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from assay.core.types import Images, Logits, PerRow


@dataclass(frozen=True)
class Evaluation:
    """One pass forward and one backward.

    Attributes:
        logits: ``(b, k)``.
        grad: gradient of each row's value by its image, same shape as the images.
        values: gives the value of the objective, ``(b,)``.
    """

    logits: Logits
    grad: Images
    values: Callable[[], PerRow]

    @cached_property
    def value(self) -> PerRow:
        """The objective, ``(b,)``; computed when it is first asked for."""
        return self.values()
