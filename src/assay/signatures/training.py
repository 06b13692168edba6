"""Training the recogniser: on the image alone, with the true perturbation, or end to end with a reconstructor."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from assay.core.call_context import in_neutral_context
from assay.models.load import digest
from assay.signatures.examples import Examples
from assay.signatures.losses import Helpers, Losses
from assay.signatures.networks import Recogniser, Reconstructor
from assay.signatures.plan import Plan
from assay.signatures.recognition import Recognition
from assay.util.code_digest import code_digest
from assay.util.files import atomic_write

EpochCallback = Callable[[int, int, float], None]
VERSION = "1"
"""Of what a plan means: raised where networks, losses or the order of training change, so that no old one is taken."""


@in_neutral_context
def train_recogniser(
    examples: Examples,
    plan: Plan,
    helpers: Helpers,
    *,
    out: str | Path | None = None,
    progress: EpochCallback | None = None,
    device: str = "cpu",
) -> Recognition:
    """Train by a plan, or go on where an earlier call with the same arguments stopped.

    Args:
        examples: clean and attacked images.
        plan: how.
        helpers: the classifier and the feature extractor that the reconstructor is trained through.
        out: a file for the checkpoint after each epoch.
        progress: called after each epoch.
        device: where to train.

    Returns:
        The networks, on the CPU and in evaluation mode.

    Source: Souri et al., 2021, section 4.5.
    """
    channels, size = int(examples.images.shape[1]), int(examples.images.shape[2])
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        recogniser = Recogniser(channels, len(examples.kinds), size, plan.arch, alone=plan.sees == "image")
        reconstructor = Reconstructor(channels, plan.width, plan.blocks) if plan.sees == "redrl" else None
    recognition = Recognition(recogniser, reconstructor, plan)
    networks = nn.ModuleList([recogniser] + ([] if reconstructor is None else [reconstructor]))
    networks.to(device)
    networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU, and on a GPU
    optimiser = torch.optim.Adam(networks.parameters(), lr=plan.rate)
    path = None if out is None else Path(out)
    identity = _identity(examples, plan, helpers)
    done = _load_checkpoint(path, identity, networks, optimiser)
    losses = Losses(plan, helpers, device)
    steps = -(-len(examples) // plan.batch)
    for epoch in range(done, plan.epochs):
        networks.train()
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(plan.seed * 100_003 + epoch))
        total = 0.0
        with torch.random.fork_rng():
            torch.manual_seed(plan.seed * 100_003 + epoch)
            for i, at in enumerate(order.split(plan.batch)):
                if len(at) < 2:
                    continue  # batch normalisation needs two
                for group in optimiser.param_groups:
                    group["lr"] = plan.rate * _pace(epoch + i / steps, plan)
                with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
                    loss = losses(recognition, examples, at)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += float(loss.detach()) * len(at)
        if path is not None:
            _save(
                path,
                {
                    "identity": identity,
                    "done": epoch + 1,
                    "parts": networks.state_dict(),
                    "optimiser": optimiser.state_dict(),
                },
            )
        if progress is not None:
            progress(epoch + 1, plan.epochs, total / len(examples))
    networks.cpu().eval().requires_grad_(False)
    return recognition


def _pace(epoch: float, plan: Plan) -> float:
    warm = min(plan.warmup, plan.epochs // 2)
    if epoch < warm:
        return max((epoch + 0.1) / (warm + 0.1), 0.01)
    return max(0.5 + 0.5 * math.cos(math.pi * (epoch - warm) / max(plan.epochs - warm, 1)), 0.01)


def _identity(examples: Examples, plan: Plan, helpers: Helpers) -> str:
    lines = [json.dumps(asdict(plan), sort_keys=True), digest(helpers.classifier), digest(helpers.extractor)]
    lines += [VERSION, torch.__version__, code_digest(__name__, "assay.models")]
    hasher = hashlib.sha256("\n".join((*lines, *examples.kinds)).encode())
    for tensor in (examples.images, examples.clean, examples.kind):
        hasher.update(tensor.contiguous().numpy().tobytes())
    return hasher.hexdigest()


def _load_checkpoint(path: Path | None, identity: str, parts: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if path is None or not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        return 0
    parts.load_state_dict(state["parts"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["done"])


def _save(path: Path, state: Mapping[str, object]) -> None:
    content = io.BytesIO()
    torch.save(dict(state), content)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, content.getvalue())
