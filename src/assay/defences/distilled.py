"""A network trained by defensive distillation: its logits are too large for losses of probabilities."""

from torch import nn

from assay.core.model_calls import classify
from assay.core.types import Images, Logits
from assay.defences.adaptation import Adaptation, around, attackable
from assay.util.validate import number


class Distilled(nn.Module):
    """The network as it is, and the knowledge that it was trained at a temperature.

    At T = 1 the softmax of its logits is 1 or 0 in float32, so that cross-entropy has no gradient; that of the logits
    divided by the temperature has.

    Args:
        model: a network trained by the objective ``distillation``.
        temperature: T of that training.

    Example:
        >>> import torch
        >>> distilled = Distilled(nn.Flatten(), temperature=20)
        >>> distilled.adaptation().surrogate(torch.full((1, 1, 1, 2), 60.0)).tolist()
        [[3.0, 3.0]]

    Source: Carlini & Wagner, "Defensive distillation is not robust to adversarial examples", 2016; Papernot et al.,
    S&P 2016, for the defence.
    """

    def __init__(self, model: nn.Module, temperature: float = 20.0) -> None:
        super().__init__()
        self.model = model
        self.temperature = number("temperature", temperature, least=0, above=True)

    def extra_repr(self) -> str:
        """The temperature."""
        return f"temperature={self.temperature:g}"

    def forward(self, x: Images) -> Logits:
        """The logits, as the classifier is used."""
        return classify(self.model, x)

    def adaptation(self) -> Adaptation:
        """The logits divided by T."""
        cooled = Cooled(attackable(self.model), self.temperature)
        how = f"the loss is of the logits divided by {self.temperature:g}"
        return around(self.model, Adaptation(how, surrogate=cooled))


class Cooled(nn.Module):
    """``model(x)/T``: the same predictions, with a gradient.

    Args:
        model: maps images to logits.
        temperature: T.
    """

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, x: Images) -> Logits:
        """Logits, divided."""
        logits: Logits = classify(self.model, x) / self.temperature
        return logits
