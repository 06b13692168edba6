"""Defense-GAN: images are replaced by the nearest ones that a generator can make."""

import torch
from torch import Tensor, nn

from assay.core.rng import Rng, content_keys
from assay.core.types import Images
from assay.defences.purifiers import Generator
from assay.util.validate import number, whole


class Projection(nn.Module):
    """The nearest image that a generator can make, by gradient descent from several random vectors.

    The gradient, where one is asked for, passes through the last ``unrolled`` steps of the descent of the vector that
    won; the earlier steps and the choice count as constants.

    Args:
        generator: trained on clean images.
        steps: of descent (L).
        restarts: random vectors (R).
        rate: step size; momentum 0.7.
        unrolled: steps that the gradient passes through.
        seed: of the vectors, which belong to the image's own pixels.

    Source: Samangouei, Kabkab & Chellappa, "Defense-GAN: protecting classifiers against adversarial attacks using
    generative models", ICLR 2018, section 4. Deviation: the descent is cut to ``unrolled`` steps for the gradient
    (memory), which only the attacker sees.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        steps: int = 100,
        restarts: int = 4,
        rate: float = 5.0,
        unrolled: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.steps, self.restarts = whole("steps", steps), whole("restarts", restarts, least=1)
        self.rate = number("rate", rate, least=0, above=True)
        self.unrolled = min(whole("unrolled", unrolled), self.steps)
        self.rng = Rng(seed)

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"steps={self.steps}, restarts={self.restarts}, rate={self.rate:g}, unrolled={self.unrolled}, "
            f"seed={self.rng.seed}"
        )

    def forward(self, x: Images) -> Images:
        """The images made of the best vectors."""
        graph = torch.is_grad_enabled() and x.requires_grad
        z, speed, target = self._start(x)
        first = self.steps - self.unrolled if graph else self.steps
        z, speed = self._descend(z, speed, target, first, graph=False)
        best = self._best(z, target, len(x))
        if graph:
            z, _ = self._descend(z[best], speed[best], x, self.unrolled, graph=True)
            projected: Images = self.generator(z)
            return projected
        with torch.no_grad():
            nearest: Images = self.generator(z[best])
        return nearest

    def _start(self, x: Images) -> tuple[Tensor, Tensor, Images]:
        keys = content_keys(x.detach().cpu(), torch.zeros(len(x), dtype=torch.int64))
        first = self.rng.normal(keys, (self.restarts, self.generator.latent), "latent").to(x).flatten(0, 1)
        return first, torch.zeros_like(first), x.detach().repeat_interleave(self.restarts, 0)

    def _descend(self, z: Tensor, speed: Tensor, target: Images, steps: int, *, graph: bool) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            for _ in range(steps):
                error = (self.generator(z) - target).square().flatten(1).mean(1)
                (slope,) = torch.autograd.grad(error.sum(), z, create_graph=graph)
                speed = 0.7 * speed + slope
                z = z - self.rate * speed
                z = z if graph else z.detach().requires_grad_()
        return (z, speed) if graph else (z.detach(), speed.detach())

    @torch.no_grad()
    def _best(self, z: Tensor, target: Images, rows: int) -> Tensor:
        """Places of the winners among the restarts."""
        error = (self.generator(z) - target).square().flatten(1).mean(1).view(rows, self.restarts)
        places: Tensor = error.argmin(1) + torch.arange(0, len(z), self.restarts, device=z.device)
        return places
