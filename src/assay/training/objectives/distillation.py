"""Defensive distillation: a student that learns the softened predictions of a teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.core.model_calls import classify
from assay.core.model_state import preserve_state
from assay.training.objectives.batch import Batch
from assay.util.validate import number, reject


@dataclass(frozen=True)
class Distillation:
    """Cross-entropy of ``softmax(f(x)/T)`` with the teacher's ``softmax(g(x)/T)``; the student is used at T = 1.

    Its logits come out about T times larger, so that cross-entropy and softmax lose their gradient in float32: an
    attack on losses of probabilities fails, one on logits does not (Carlini & Wagner, 2016). The defence ``distilled``
    around the student tells `assay evaluate` so.

    Args:
        teacher: the trained teacher (trained with ``clean:temperature=T``), in evaluation mode.
        temperature: T.

    Source: Papernot, McDaniel, Wu, Jha & Swami, "Distillation as a defense to adversarial perturbations against deep
    neural networks", S&P 2016, section IV; Xu et al., 2019, appendix H.
    """

    teacher: nn.Module
    temperature: float = 20.0

    def __post_init__(self) -> None:
        number("temperature", self.temperature, least=0, above=True)
        if not isinstance(self.teacher, nn.Module):
            reject("teacher", "a trained model", self.teacher, error=TypeError)

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing beyond images."""
        return ()

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy with soft labels."""
        teacher = self.teacher.to(batch.x.device)
        with preserve_state(teacher), torch.no_grad():
            soft = (classify(teacher, batch.x) / self.temperature).softmax(1)
        student: Tensor = (classify(model, batch.x) / self.temperature).log_softmax(1)
        loss: Tensor = -(soft * student).sum(1).mean()
        return loss
