"""Training the networks of defences: autoencoders, cleaners, generators, densities, detectors."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.call_context import in_neutral_context
from assay.core.combinators import AnyAttack
from assay.core.types import Images, Labels
from assay.data.dataset import Dataset
from assay.defences.detectors import Detector
from assay.defences.purifiers import Autoencoder, Cleaner, Generator, PixelDensity
from assay.engine.api import perturb
from assay.util.files import atomic_write
from assay.util.validate import number, reject, whole

STEPS = 1_000_003
"""More steps than an epoch has, so that each step has a seed of its own."""

Net = TypeVar("Net", bound=nn.Module)
EpochCallback = Callable[[int, int, float], None]
"""Called after each epoch: how many are done, of how many, and the mean loss."""


@in_neutral_context
def fit(
    parts: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    step: Callable[[Images, Labels, Tensor, int], float],
    data: Dataset,
    *,
    epochs: int,
    batch: int = 128,
    seed: int = 0,
    out: Path | None = None,
    progress: EpochCallback | None = None,
) -> None:
    """Epochs over a data set; with ``out`` a checkpoint after each, from which the same call resumes.

    Args:
        parts: the networks, by name.
        optimisers: by name.
        step: one step from ``(images, labels, indices, seed)``; the loss.
        data: the images.
        epochs: passes over the data.
        batch: images a step.
        seed: of order and draws.
        out: the checkpoint's file.
        progress: called after each epoch.
    """
    done = 0
    saved: dict[str, Any] = {**parts, **optimisers}
    if out is not None and out.is_file():
        state = torch.load(out, map_location="cpu", weights_only=True)
        done = int(state["done"])
        for name in saved:
            saved[name].load_state_dict(state[name])
    for epoch in range(done, whole("epochs", epochs, least=1)):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
        total = 0.0
        with torch.random.fork_rng():
            for step_index, at in enumerate(order.split(batch)):
                here = (seed * 1009 + epoch) * STEPS + step_index
                torch.manual_seed(here)
                total += step(data.images(at), data.y[at], at, here) * len(at)
        if out is not None:
            content = io.BytesIO()
            torch.save({"done": epoch + 1, **{name: part.state_dict() for name, part in saved.items()}}, content)
            atomic_write(out, content.getvalue())
        if progress is not None:
            progress(epoch + 1, epochs, total / max(len(data), 1))
    for part in parts.values():
        part.eval()


@in_neutral_context
def fit_autoencoder(
    data: Dataset,
    *,
    noise: float = 0.1,
    epochs: int = 10,
    seed: int = 0,
    rate: float = 1e-3,
    out: Path | None = None,
    progress: EpochCallback | None = None,
) -> Autoencoder:
    """MagNet's autoencoder: reconstruct clean images from noisy ones.

    Args:
        data: clean images.
        noise: deviation of the Gaussian noise.
        epochs: passes over the data.
        seed: of weights and draws.
        rate: of Adam.
        out: checkpoint.
        progress: called after each epoch.

    Source: Meng & Chen, CCS 2017, section 5.2.
    """
    number("noise", noise, least=0)
    net = build_seeded(lambda: Autoencoder(data.x.shape[1]), seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)

    def step(x: Images, y: Labels, at: Tensor, here: int) -> float:
        loss = F.mse_loss(net((x + noise * torch.randn_like(x)).clamp(0, 1)), x)
        return take_step(optimiser, loss)

    fit({"net": net}, {"optimiser": optimiser}, step, data, epochs=epochs, seed=seed, out=out, progress=progress)
    return net


@in_neutral_context
def fit_cleaner(
    data: Dataset,
    model: nn.Module,
    attack: AnyAttack,
    *,
    epochs: int = 5,
    weight: float = 0.001,
    seed: int = 0,
    rate: float = 1e-3,
    out: Path | None = None,
    progress: EpochCallback | None = None,
) -> Cleaner:
    """APE-GAN's generator: clean images from adversarial ones, against a discriminator of the two.

    Args:
        data: clean images.
        model: the classifier to protect.
        attack: makes the adversarial images.
        epochs: passes over the data.
        weight: of the discriminator's loss beside the squared error.
        seed: of weights and draws.
        rate: of both Adams.
        out: checkpoint.
        progress: called after each epoch.

    Source: Shen et al., "APE-GAN", 2017, equations 7–10.
    """
    net = build_seeded(lambda: Cleaner(data.x.shape[1]), seed)
    judge = build_seeded(lambda: Detector(int(data.x.shape[1]), int(data.x.shape[2])), seed + 1)
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    against = torch.optim.Adam(judge.parameters(), lr=rate)

    def step(x: Images, y: Labels, at: Tensor, here: int) -> float:
        moved = perturb(model, x, y, attack, seed=here, ids=at)
        cleaned = net(moved)
        wrong, right = torch.ones_like(y), torch.zeros_like(y)
        both = torch.cat([judge.logits(x), judge.logits(cleaned.detach())])
        take_step(against, F.cross_entropy(both, torch.cat([right, wrong])))
        return take_step(optimiser, F.mse_loss(cleaned, x) + weight * F.cross_entropy(judge.logits(cleaned), right))

    parts = {"net": net, "judge": judge}
    fit(
        parts,
        {"optimiser": optimiser, "against": against},
        step,
        data,
        epochs=epochs,
        seed=seed,
        out=out,
        progress=progress,
    )
    return net


@in_neutral_context
def fit_generator(
    data: Dataset,
    *,
    epochs: int = 10,
    latent: int = 64,
    critic_steps: int = 3,
    penalty: float = 10.0,
    seed: int = 0,
    rate: float = 2e-4,
    out: Path | None = None,
    progress: EpochCallback | None = None,
) -> Generator:
    """Defense-GAN's generator, as a Wasserstein GAN with gradient penalty.

    Args:
        data: clean images, their side a multiple of 4.
        epochs: passes over the data.
        latent: numbers of the random vector.
        critic_steps: steps of the critic for one of the generator.
        penalty: weight of the gradient penalty.
        seed: of weights and draws.
        rate: of both Adams.
        out: checkpoint.
        progress: called after each epoch.

    Source: Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS 2017, algorithm 1, which Defense-GAN
    uses (section 5).
    """
    side = int(data.x.shape[2])
    if side % 4:
        reject("data", "images whose side is a multiple of 4", f"{side} pixels")
    net = build_seeded(lambda: Generator(int(data.x.shape[1]), side, latent), seed)
    critic = build_seeded(lambda: Detector(int(data.x.shape[1]), side), seed + 1)
    ways = {
        "optimiser": torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.9)),
        "against": torch.optim.Adam(critic.parameters(), lr=rate, betas=(0.5, 0.9)),
    }

    def value(x: Images) -> Tensor:
        return critic.logits(x)[:, 0]

    def step(x: Images, y: Labels, at: Tensor, here: int) -> float:
        generated = net(torch.randn(len(x), latent))
        share = torch.rand(len(x), 1, 1, 1)
        between = (share * x + (1 - share) * generated.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(value(between).sum(), between, create_graph=True)
        steep = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        loss = value(generated.detach()).mean() - value(x).mean()
        take_step(ways["against"], loss + penalty * steep)
        if here % STEPS % critic_steps == critic_steps - 1:
            take_step(ways["optimiser"], -value(net(torch.randn(len(x), latent))).mean())
        return float(-loss.detach())

    fit({"net": net, "critic": critic}, ways, step, data, epochs=epochs, seed=seed, out=out, progress=progress)
    return net


@in_neutral_context
def fit_density(
    data: Dataset,
    *,
    levels: int = 16,
    epochs: int = 5,
    seed: int = 0,
    rate: float = 1e-3,
    out: Path | None = None,
    progress: EpochCallback | None = None,
) -> PixelDensity:
    """PixelDefend's density: the likelihood of each value given those before it.

    Args:
        data: clean images.
        levels: values that a channel can have.
        epochs: passes over the data.
        seed: of weights and order.
        rate: of Adam.
        out: checkpoint.
        progress: called after each epoch.
    """
    net = build_seeded(lambda: PixelDensity(int(data.x.shape[1]), levels), seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)

    def step(x: Images, y: Labels, at: Tensor, here: int) -> float:
        target = net.quantised(x)
        log_probabilities = net(target.to(x) / (levels - 1))
        return take_step(optimiser, -log_probabilities.gather(2, target[:, :, None]).mean())

    fit({"net": net}, {"optimiser": optimiser}, step, data, epochs=epochs, seed=seed, out=out, progress=progress)
    return net


@in_neutral_context
def fit_detector(
    data: Dataset,
    model: nn.Module,
    attack: AnyAttack,
    *,
    epochs: int = 5,
    moved: Images | None = None,
    seed: int = 0,
    rate: float = 1e-3,
    out: Path | None = None,
    progress: EpochCallback | None = None,
) -> Detector:
    """A detector of adversarial images, trained on equal numbers of clean and adversarial ones.

    Args:
        data: clean images.
        model: the classifier that the adversarial images fool.
        attack: makes them.
        epochs: passes over the data.
        moved: the adversarial image of each, ``(n, c, h, w)``, where they are there already; by default they are made
            anew at each step.
        seed: of weights and draws.
        rate: of Adam.
        out: checkpoint.
        progress: called after each epoch.

    Source: Metzen et al., ICLR 2017, section 3.3 (static adversary); Metzen, 2018, section 3.4.
    """
    net = build_seeded(lambda: Detector(int(data.x.shape[1]), int(data.x.shape[2])), seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)

    def step(x: Images, y: Labels, at: Tensor, here: int) -> float:
        adversarial = perturb(model, x, y, attack, seed=here, ids=at) if moved is None else moved[at]
        both = net.logits(torch.cat([x, adversarial]))
        return take_step(optimiser, F.cross_entropy(both, torch.cat([torch.zeros_like(y), torch.ones_like(y)])))

    fit({"net": net}, {"optimiser": optimiser}, step, data, epochs=epochs, seed=seed, out=out, progress=progress)
    return net


def take_step(optimiser: torch.optim.Optimizer, loss: Tensor) -> float:
    """Move the weights along the gradient of a loss, and return the loss."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def build_seeded(make: Callable[[], Net], seed: int) -> Net:
    """Build a network whose first weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()
