"""Identify the attack that produced an image, or report it as unknown."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from assay.core.call_context import with_images_on_the_cpu
from assay.core.types import Images
from assay.signatures.examples import Examples
from assay.signatures.networks import Recogniser, Reconstructor
from assay.signatures.novelty import Novelty, novelty_of, statistics_count, statistics_of
from assay.signatures.plan import Plan
from assay.signatures.recognition import Recognition
from assay.util.tensors import read_tensors, write_tensors
from assay.util.validate import described, reject

UNKNOWN = "unknown"
_NOVELTY = "novelty."
"""What the names of its tensors begin with in a file."""


@dataclass(frozen=True)
class Guess:
    """What is said of one image.

    Attributes:
        kind: ``"clean"``, an attack, or ``"unknown"``.
        probability: calibrated, by kind, should it be one of those known.
        novelty: how unlike the training examples it is; above ``threshold`` it is unknown.
        threshold: of the novelty.
    """

    kind: str
    probability: dict[str, float]
    novelty: float
    threshold: float

    def __str__(self) -> str:
        best = max(self.probability, key=lambda name: self.probability[name])
        sure = f"{100 * self.probability[best]:.0f} %"
        if self.kind == UNKNOWN:
            return f"unknown: unlike the training attacks (closest: {best}, {sure})"
        if self.kind != best:
            return f"{self.kind}: too little evidence of an attack (closest: {best}, {sure})"
        return f"{self.kind} ({sure})"


@dataclass(frozen=True, eq=False)
class Identifier:
    """A recogniser with calibrated probabilities and a way to say that it does not know.

    An image is unknown where it is more unlike the training examples (`Novelty`) than all but a small share of known
    examples that were set aside.

    Attributes:
        recognition: the networks.
        kinds: ``"clean"`` and the attacks.
        temperature: by which logits are divided.
        novelty: how unlike the training examples an image is.
        threshold: of the novelty.
        evidence: least probability of not being clean from which an image is said to be of an attack.
        refused: share of known examples that may be called unknown.
        accused: share of images that no attack made, which may be said to be of one.
        confusion: of examples kept aside, ``(kinds, kinds + 1)``, counts; the last column is unknown.
        settings: of the attacks that it has seen, in words.
        victims: the classifiers that these were made on.
        extractor: what the feature loss was taken from.
        shape: of the images, ``(c, h, w)``.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
    """

    recognition: Recognition
    kinds: tuple[str, ...]
    temperature: float
    novelty: Novelty
    threshold: float
    refused: float
    confusion: Tensor
    settings: tuple[str, ...]
    victims: tuple[str, ...]
    extractor: str
    shape: tuple[int, int, int]
    evidence: float = 0.0
    accused: float = 1.0

    def __call__(self, images: Images) -> list[Guess]:
        """What each image most likely is.

        Args:
            images: ``(n, c, h, w)`` in [0, 1] of any float type and on any device, of the size that it was trained on.

        Returns:
            One `Guess` an image.

        Raises:
            ValueError: images of another shape, or values outside.
        """
        probability, novelty = self.scores(images)
        names = (*self.kinds, UNKNOWN)
        return [
            Guess(names[decision], dict(zip(self.kinds, row.tolist(), strict=True)), d, self.threshold)
            for decision, row, d in zip(
                self.decide(probability, novelty).tolist(), probability, novelty.tolist(), strict=True
            )
        ]

    def decide(self, probability: Tensor, novelty: Tensor) -> Tensor:
        """Positions in ``(*kinds, "unknown")`` from what `scores` returns, ``(n,)``."""
        return taken_for(probability, self.evidence).where(novelty <= self.threshold, len(self.kinds))

    @with_images_on_the_cpu
    def scores(self, images: Images, batch: int = 256) -> tuple[Tensor, Tensor]:
        """Calibrated probabilities ``(n, kinds)`` and novelty ``(n,)``, of images on any device."""
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            reject("images", f"(n, {', '.join(map(str, self.shape))}), what it was trained on", tuple(images.shape))
        if not images.is_floating_point() or not bool(((images >= 0) & (images <= 1)).all()):
            span = f"{images.dtype} from {float(images.double().min()):.3g} to {float(images.double().max()):.3g}"
            reject("images", "finite values from 0 to 1 of a float type", described(span))
        images = images.float()
        probabilities, novelty = [], []
        with torch.no_grad():
            for part in images.split(batch):
                image, residual = self.recognition.inputs(part)
                probability = (self.recognition.recogniser(image, residual) / self.temperature).softmax(1)
                features = self.recognition.recogniser.features(image, residual)
                statistics = statistics_of(self.recognition, image, residual)
                probabilities.append(probability)
                novelty.append(self.novelty(features, statistics, taken_for(probability, self.evidence)))
        return torch.cat(probabilities), torch.cat(novelty)

    def confusion_of(self, examples: Examples) -> Tensor:
        """Counts, ``(kinds of the examples, kinds + 1)``; the last column is unknown."""
        predicted = self.decide(*self.scores(examples.images.float() / 255))
        counts = torch.zeros(len(examples.kinds), len(self.kinds) + 1, dtype=torch.int64)
        counts.index_put_((examples.kind, predicted), torch.ones_like(predicted), accumulate=True)
        return counts

    def save(self, path: str | Path) -> Path:
        """Write all to one ``.safetensors`` file; atomic."""
        tensors = {f"recogniser.{k}": v for k, v in self.recognition.recogniser.state_dict().items()}
        if self.recognition.reconstructor is not None:
            tensors |= {f"reconstructor.{k}": v for k, v in self.recognition.reconstructor.state_dict().items()}
        tensors |= {_NOVELTY + name: tensor for name, tensor in self.novelty.tensors().items()}
        tensors["confusion"] = self.confusion
        about = {
            "plan": asdict(self.recognition.plan),
            "kinds": self.kinds,
            "temperature": self.temperature,
            "shape": self.shape,
            "threshold": self.threshold,
            "refused": self.refused,
            "evidence": self.evidence,
            "accused": self.accused,
            "settings": self.settings,
            "victims": self.victims,
            "extractor": self.extractor,
        }
        return write_tensors(path, tensors, "assay-identifier", about)


def taken_for(probability: Tensor, evidence: float) -> Tensor:
    """The likeliest kind, ``(n,)``; clean where the probability of an attack is below the evidence asked for."""
    return probability.argmax(1).where(1 - probability[:, 0] >= evidence, 0)


def load_identifier(path: str | Path) -> Identifier:
    """Read what `Identifier.save` wrote.

    Args:
        path: the file.

    Returns:
        The identifier, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file of something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"identifier: expected a file that assay signatures made, but there is no {path}")
    about, tensors = read_tensors(path, "assay-identifier", "identifier")
    if about is None:
        reject("identifier", "a file that assay signatures made", path.name)
    plan, shape = Plan(**about.pop("plan")), tuple(about.pop("shape"))
    recogniser = Recogniser(shape[0], len(about["kinds"]), shape[1], plan.arch, alone=plan.sees == "image")
    recogniser.load_state_dict(_under("recogniser.", tensors))
    reconstructor = None
    if plan.sees == "redrl":
        reconstructor = Reconstructor(shape[0], plan.width, plan.blocks)
        reconstructor.load_state_dict(_under("reconstructor.", tensors))
    for net in (recogniser, reconstructor):
        if net is not None:
            net.eval().requires_grad_(False)
    novelty = novelty_of(_under(_NOVELTY, tensors) or {"bank": tensors["bank"]})
    if len(novelty.means) and novelty.means.shape[1] != statistics_count(plan, shape[0]):
        reject(
            "identifier", "a file whose statistics are this version's: make it again with assay signatures", path.name
        )
    about |= {name: tuple(about[name]) for name in ("kinds", "settings", "victims")}
    return Identifier(
        Recognition(recogniser, reconstructor, plan),
        novelty=novelty,
        confusion=tensors["confusion"],
        shape=shape,
        **about,
    )


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
