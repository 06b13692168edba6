"""Several classifiers as one target."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from assay.core.model_calls import Classifier, classify
from assay.core.types import Count, Images, Labels, Logits
from assay.util.validate import described, one_of, reject

AVERAGES = ("loss", "logits", "probabilities", "worst")


class Ensemble(nn.Module):
    """Classifiers of the same classes as one: their mean answers, and attacks on all of them at once.

    Args:
        models: the members; each maps images in [0, 1] to logits.
        average: what an attack climbs: the mean of the members' losses (``"loss"``), the loss of their mean
            ``"logits"`` or mean ``"probabilities"``, or in each step the loss of the member that is hardest to fool
            (``"worst"``). Predictions average probabilities, except with ``"logits"``.

    Raises:
        TypeError, ValueError: no members, another word, or members with other numbers of classes (when they are asked).

    Example:
        >>> ensemble = Ensemble([nn.Flatten(), nn.Flatten()])
        >>> ensemble(torch.zeros(2, 1, 1, 3)).shape
        torch.Size([2, 3])

    Source: Liu, Chen, Liu & Song, "Delving into transferable adversarial examples and black-box attacks", ICLR 2017,
    section 5 (mean probabilities); Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, section 3.3
    (mean logits beside mean losses and mean probabilities).
    """

    def __init__(self, models: Sequence[Classifier], average: str = "logits") -> None:
        super().__init__()
        if not isinstance(models, Sequence | nn.ModuleList) or not len(models):
            reject("models", "a list of at least one classifier", models, error=TypeError)
        self.models = nn.ModuleList([own if isinstance(own, nn.Module) else _Called(own) for own in models])
        self.average = one_of("average", average, AVERAGES)

    def extra_repr(self) -> str:
        """What attacks climb."""
        return f"average={self.average!r}"

    @property
    def draws(self) -> int:
        """Forward passes of one look: the members."""
        return len(self.models)

    def forward(self, x: Images) -> Logits:
        """Mean logits (``average="logits"``), or the logarithm of mean probabilities, ``(b, k)``."""
        return self.combine(self._each(x))

    def sample(
        self, x: Images, keys: Labels, passes: Count, *, purpose: str = "attack"
    ) -> tuple[Float[Tensor, "d b c h w"], Float[Tensor, "d b k"]]:
        """The image for each member, and each member's logits; nothing is drawn."""
        return x.expand(len(self.models), *x.shape), self._each(x)

    def combine(self, logits: Float[Tensor, "d b k"]) -> Logits:
        """One row of logits from those of the members."""
        if self.average == "logits":
            return logits.mean(0)
        return logits.log_softmax(2).logsumexp(0) - math.log(len(logits))

    def reduce(self, losses: Float[Tensor, "d b"]) -> Float[Tensor, "b"]:
        """One value from the members': the mean, or the least where the hardest to fool is meant."""
        return losses.amin(0) if self.average == "worst" else losses.mean(0)

    def _each(self, x: Images) -> Float[Tensor, "d b k"]:
        answers = [classify(model, x) for model in self.models]
        widths = {answer.shape[1] for answer in answers}
        if len(widths) > 1:
            reject("models", "members with the same number of classes", described(f"{sorted(widths)}"))
        return torch.stack(answers)


class _Called(nn.Module):
    """A callable as a member."""

    def __init__(self, ask: Classifier) -> None:
        super().__init__()
        self.ask = ask

    def forward(self, x: Images) -> Logits:
        """Its logits."""
        logits: Logits = self.ask(x)
        return logits
