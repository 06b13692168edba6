"""Cross-entropy of the images as they are."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.model_calls import classify
from assay.training.objectives.batch import Batch
from assay.util.validate import number


@dataclass(frozen=True)
class Clean:
    """Cross-entropy of the images as they are.

    Args:
        smoothing: label smoothing, in [0, 1).
        temperature: logits are divided by it, as the teacher's of a distillation are.
    """

    smoothing: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        number("smoothing", self.smoothing, least=0, most=0.999)
        number("temperature", self.temperature, least=0, above=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images and labels."""
        return ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(classify(model, batch.x) / self.temperature, batch.y, label_smoothing=self.smoothing)
