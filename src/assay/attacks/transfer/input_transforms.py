"""Random and fixed changes of the input that an attack looks through: resizing, scaled copies, mixed-in images."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from assay.attacks.transfer.mixing import MixingImages
from assay.core.rng import Rng
from assay.core.rows import Rows
from assay.core.types import Count, Images
from assay.util.validate import number, whole


@runtime_checkable
class InputTransform(Protocol):
    """A differentiable change of images, row by row, of which there may be several copies.

    A frozen dataclass. The draws of row and step come from ``rng`` under ``purpose``, so that a row's result does not
    depend on its batch.
    """

    @property
    def copies(self) -> int:
        """How many changed copies of an image are looked at."""
        ...

    @property
    def keeps_first(self) -> bool:
        """Whether copy 0 is the image itself."""
        ...

    @property
    def randomised(self) -> bool:
        """Whether it draws random numbers."""
        ...

    def apply(self, x: Images, rows: Rows, rng: Rng, step: Count, purpose: str, copy: int) -> Images:
        """Copy number ``copy`` of each image, ``(b, c, h, w)``."""
        ...


@dataclass(frozen=True)
class DiverseInput:
    """With probability ``p`` the image is shrunk to a random size and put at a random place of a black image.

    Args:
        p: probability that a step changes the image.
        smallest: least side, as a share of the image's, in (0, 1].

    Source: Xie et al., "Improving transferability of adversarial examples with input diversity", CVPR 2019, section
    3.3. Deviation: the paper enlarges images of 299 to at most 330 pixels, for networks that take both; here they are
    shrunk and keep the network's size, as in torchattacks. Bilinear, without antialiasing.
    """

    p: float = 0.5
    smallest: float = 0.9

    def __post_init__(self) -> None:
        number("p", self.p, least=0, most=1)
        number("smallest", self.smallest, least=0, above=True, most=1)

    @property
    def copies(self) -> int:
        """One."""
        return 1

    @property
    def keeps_first(self) -> bool:
        """Only where the probability is 0."""
        return self.p == 0

    @property
    def randomised(self) -> bool:
        """Sizes and places are drawn."""
        return True

    def apply(self, x: Images, rows: Rows, rng: Rng, step: Count, purpose: str, copy: int) -> Images:
        """Resize and pad, by a draw of each row."""
        draw = rng.uniform(rows.key, (4,), purpose, step).to(x)
        changed = draw[:, 0] < self.p
        height, width = x.shape[2:]
        rows_at, rows_in = self._window(height, draw[:, 1], draw[:, 2], x)
        columns_at, columns_in = self._window(width, draw[:, 1], draw[:, 3], x)
        grid = torch.stack(
            torch.broadcast_tensors(columns_at[:, None, :], rows_at[:, :, None]),
            dim=3,
        )
        moved = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        moved = moved * (rows_in[:, None, :, None] & columns_in[:, None, None, :])
        return torch.where(changed[:, None, None, None], moved, x)

    def _window(self, side: int, size: Tensor, place: Tensor, like: Images) -> tuple[Tensor, Tensor]:
        """For each position along an axis: where it looks, in [-1, 1], and whether it is within the small image."""
        least = max(1, round(self.smallest * side))
        length = (least + (size * (side + 1 - least)).floor()).clamp_max(side)
        first = (place * (side + 1 - length)).floor()
        inside = torch.arange(side, device=like.device, dtype=like.dtype)[None] - first[:, None]
        within = (inside >= 0) & (inside < length[:, None])
        return 2 * (inside + 0.5) / length[:, None] - 1, within


@dataclass(frozen=True)
class ScaledCopies:
    """Copies of the image at 1, 1/2, 1/4, … of its brightness.

    Args:
        count: number of copies (m).

    Source: Lin et al., "Nesterov accelerated gradient and scale invariance for adversarial attacks", ICLR 2020,
    section 3.2, equation 8.
    """

    count: int = 5

    def __post_init__(self) -> None:
        whole("count", self.count, least=1)

    @property
    def copies(self) -> int:
        """``count``."""
        return self.count

    @property
    def keeps_first(self) -> bool:
        """The first is the image."""
        return True

    @property
    def randomised(self) -> bool:
        """Nothing is drawn."""
        return False

    def apply(self, x: Images, rows: Rows, rng: Rng, step: Count, purpose: str, copy: int) -> Images:
        """``x / 2^copy``."""
        return x * 2.0**-copy


@dataclass(frozen=True)
class Admixed:
    """The image plus a share of an image of another class.

    Args:
        images: what is mixed in.
        share: weight of the other image (η).
        samples: other images a step (m₂).

    Source: Wang, He, Wang & He, "Admix: enhancing the transferability of adversarial attacks", ICCV 2021, section 3.2,
    equation 7. Deviation: the other images come from a set that the user names, not from the batch, so that a
    sample's result does not depend on what else is attacked.
    """

    images: MixingImages = field(default_factory=MixingImages)
    share: float = 0.2
    samples: int = 3

    def __post_init__(self) -> None:
        number("share", self.share, least=0)
        whole("samples", self.samples, least=1)

    @property
    def copies(self) -> int:
        """One for each image that is mixed in."""
        return self.samples

    @property
    def keeps_first(self) -> bool:
        """Each copy is changed."""
        return False

    @property
    def randomised(self) -> bool:
        """The other images are drawn."""
        return True

    def apply(self, x: Images, rows: Rows, rng: Rng, step: Count, purpose: str, copy: int) -> Images:
        """``x + share·x′``."""
        return x + self.share * self.images.draw(x, rows, rng, step, f"{purpose} {copy}")
