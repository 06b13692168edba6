"""``scenes``: synthetic images of one object, with exact masks and a background correlated with the class.

The background's streaks and hue hint at the class, so that a classifier learns to look at both; that is what an attack
on the foreground alone, or the background alone, can then tell apart.
"""

import hashlib
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from assay.data.capacity import check_memory
from assay.data.dataset import Dataset
from assay.data.shapes import SHAPES
from assay.data.spec import Request
from assay.data.textures import TURN, bar, colour, grid, power_law, to_rgb, turned
from assay.util.validate import number, one_of, reject, whole

OPTIONS = ("size", "count", "seed", "classes", "cue")

_CHUNK = 32
"""Images made together. Part of what a seed means: another number would give other images."""

_FACTOR = 4
"""Points a pixel and axis at which the object's coverage is measured."""

_POINTS = 2**22
"""Points measured at once, a bound on memory."""

_CLUTTER = 5

_WORKING = 8000
"""Bytes a pixel of one image that making a chunk takes, measured."""


def load(request: Request) -> Dataset:
    """Make scenes: options ``size`` (32), ``count`` (2000, a split), ``seed`` (0), ``classes`` (8), ``cue`` (0.6).

    Args:
        request: split and options.

    Returns:
        As `scenes`.

    Raises:
        ValueError: an option is out of range, or the split is ``"all"``.
    """
    dataset = scenes(
        request.split,
        request.whole("count", 2000, least=1),
        size=request.whole("size", 32, least=16),
        seed=request.whole("seed", 0),
        classes=request.whole("classes", len(SHAPES), least=2),
        cue=request.number("cue", 0.6, most=1.0),
    )
    return replace(dataset, name="scenes")


def scenes(split: str, count: int, size: int = 32, seed: int = 0, classes: int = 8, cue: float = 0.6) -> Dataset:
    """Made images with exact foreground masks.

    Each image shows one object (disc, square, triangle, star, ring, cross, crescent or heart) that covers 10 to 30 % of
    it, turned by up to 30 degrees, on a 1/f texture with clutter. With probability ``cue`` the texture's direction and
    hue are those of the object's class, else those of a class drawn at random. Nothing else changes with ``cue``: the
    same scene can be had with the hint and without.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``: streams with nothing in common.
        count: how many images; image i is the same for any count.
        size: height and width in pixels, at least 16.
        seed: which images.
        classes: how many of the shapes, 2 to 8; each is as frequent as the others.
        cue: the probability of the hint, in [0, 1].

    Returns:
        Uint8 ``(count, 3, size, size)`` with masks: the pixels that the object covers by half or more.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range, or the images do not fit into memory.

    Example:
        >>> data = scenes("test", 4, size=16)
        >>> data.x.shape, data.masks.shape, data.classes[:3]
        (torch.Size([4, 3, 16, 16]), torch.Size([4, 1, 16, 16]), ('disc', 'square', 'triangle'))
    """
    one_of("split", split, ("train", "val", "test"))
    whole("count", count, least=1)
    whole("size", size, least=16)
    whole("seed", seed)
    if whole("classes", classes, least=2) > len(SHAPES):
        reject("classes", f"at most {len(SHAPES)} shapes", classes)
    number("cue", cue, least=0.0, most=1.0)
    check_memory("scenes", count, 4 * size**2, _WORKING * size**2)
    x = torch.empty(count, 3, size, size, dtype=torch.uint8)
    masks = torch.empty(count, 1, size, size, dtype=torch.bool)
    y = torch.empty(count, dtype=torch.int64)
    for start in range(0, count, _CHUNK):
        plan = _plan(split, start // _CHUNK, seed, classes, cue)
        images, cover = _render(plan, size)
        part = slice(start, min(start + _CHUNK, count))
        kept = part.stop - start
        x[part], masks[part], y[part] = (
            (images * 255).round().to(torch.uint8)[:kept],
            cover[:kept] >= 0.5,
            plan.y[:kept],
        )
    return Dataset(x, y, tuple(shape.name for shape in SHAPES[:classes]), masks, name=f"scenes/{split}")


class _Plan(NamedTuple):
    """Everything about a chunk of scenes but its pixels; each field has the images as its first dimension."""

    y: Tensor
    """Labels."""
    ground: Tensor
    """Angle of the streaks, hue, lightness, chroma, contrast, exponent: ``(b, 6)``."""
    clutter: Tensor
    """Present, x, y, angle, half length, half width, lightness, hue: ``(b, pieces, 8)``."""
    object: Tensor
    """Radius, x, y, angle, hue, chroma, lightness, direction of the light: ``(b, 8)``."""
    noise: np.random.Generator
    """For the textures, whose size is not known here."""


def _plan(split: str, chunk: int, seed: int, classes: int, cue: float) -> _Plan:
    """Draw the scenes of a chunk. The draws are the same in number and order whatever the arguments."""
    key = int.from_bytes(hashlib.sha256(f"scenes {split} {seed} {chunk}".encode()).digest()[:16], "little")
    rng, noise = (np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(key).spawn(2))
    draws = torch.from_numpy(rng.random((_CHUNK, 24))).float()
    pieces = torch.from_numpy(rng.random((_CHUNK, _CLUTTER, 9))).float()
    first, *d = draws.unbind(1)
    y = torch.empty(_CHUNK, dtype=torch.int64)
    y[first.argsort()] = (torch.arange(_CHUNK) + chunk * _CHUNK) % classes
    hinted = torch.where(d[0] < cue, y, (d[1] * classes).long().clamp_max(classes - 1)) / classes
    light = 0.48 + 0.22 * d[2]
    ground = torch.stack(
        (
            TURN / 2 * hinted + 0.25 * (d[3] - 0.5),
            TURN * hinted + 0.5 * (d[4] - 0.5),
            light,
            0.055 + 0.035 * d[5],
            0.055 + 0.035 * d[6],
            0.9 + 0.7 * d[7],
        ),
        1,
    )
    shape_area = torch.tensor([shape.area for shape in SHAPES])[y]
    reach = torch.tensor([shape.reach for shape in SHAPES])[y]
    radius = ((0.11 + 0.16 * d[8]) / shape_area).sqrt().minimum(0.49 / reach)
    room = 0.5 - radius * reach
    bright = d[9] < (0.70 - light) / 0.14  # a dark object only on a light ground, so that it stands out
    object_parameters = torch.stack(
        (
            radius,
            (2 * d[10] - 1) * room,
            (2 * d[11] - 1) * room,
            (2 * d[12] - 1) * TURN / 12,
            TURN * d[13],  # any hue: the object's colour tells nothing of its class
            0.12 + 0.06 * d[14],
            torch.where(bright, 0.84 + 0.06 * d[15], 0.35 + 0.08 * d[15]),
            TURN * d[16],
        ),
        1,
    )
    return _Plan(y, ground, _scattered(pieces), object_parameters, noise)


def _scattered(p: Tensor) -> Tensor:
    """Small blobs and thin lines, none of them a shape of its own."""
    line = p[..., 8] < 0.5
    length = torch.where(line, 0.05 + 0.13 * p[..., 4], 0.012 + 0.02 * p[..., 4])
    width = torch.where(line, 0.010 + 0.010 * p[..., 5], 0.018 + 0.018 * p[..., 5])
    light, hue = 0.35 + 0.45 * p[..., 6], TURN * p[..., 7]
    present = (p[..., 0] < 0.7).float()
    return torch.stack((present, p[..., 1] - 0.5, p[..., 2] - 0.5, TURN * p[..., 3], length, width, light, hue), -1)


def _render(plan: _Plan, size: int) -> tuple[Tensor, Tensor]:
    """Images ``(b, 3, s, s)`` in [0, 1], and the object's coverage of each pixel ``(b, 1, s, s)``."""
    noise = torch.from_numpy(plan.noise.standard_normal((_CHUNK, 4, size, size), dtype=np.float32))
    angle, hue, light, chroma, contrast = (column.view(-1, 1, 1) for column in plan.ground[:, :5].unbind(1))
    field = power_law(noise[:, :3], plan.ground[:, 5], plan.ground[:, 0])
    grain = power_law(noise[:, 3:], torch.full((_CHUNK,), 1.2), torch.zeros(_CHUNK), stretch=1.0)[:, 0]
    tone = 2.2 * (field[:, 0] / 2.2).tanh()  # no glaring extremes
    lab = colour(light + contrast * tone, chroma + 0.012 * field[:, 1], hue + 0.22 * field[:, 2])
    image = to_rgb(lab)
    u, v = grid(size)
    for piece in plan.clutter.unbind(1):
        present, x, y, angle, length, width, light, hue = (column.view(-1, 1, 1) for column in piece.unbind(1))
        distance = bar(*turned(u - x, v - y, angle), length, width)
        over = (0.85 * present * (0.5 - distance * size).clamp(0, 1))[:, None]
        image = image + over * (to_rgb(colour(light, torch.full_like(light, 0.09), hue)) - image)
    cover = _coverage(plan, size)[:, None]
    return (cover * _surface(plan, grain, u, v) + (1 - cover) * image).clamp(0, 1), cover


def _surface(plan: _Plan, grain: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The object's colour at each pixel: lit from one side, with a little of a texture of its own."""
    radius, x, y, _, hue, chroma, light, lamp = (column.view(-1, 1, 1) for column in plan.object.unbind(1))
    slope, _ = turned((u - x) / radius, (v - y) / radius, lamp)
    return to_rgb(colour(light + 0.05 * slope + 0.012 * grain, chroma - 0.01 * slope, hue + 0.12 * slope))


def _coverage(plan: _Plan, size: int) -> Tensor:
    """The share of each pixel that the object covers, counted at `_FACTOR`² points."""
    cover = torch.empty(_CHUNK, size, size)
    u, v = grid(size, _FACTOR)
    for label in sorted(set(plan.y.tolist())):
        for rows in (plan.y == label).nonzero()[:, 0].split(max(1, _POINTS // u.numel())):
            radius, x, y, angle, *_ = (column.view(-1, 1, 1) for column in plan.object[rows].unbind(1))
            inside = SHAPES[label].inside(*turned((u - x) / radius, (v - y) / radius, angle))
            cover[rows] = inside.float().view(-1, size, _FACTOR, size, _FACTOR).mean((2, 4))
    return cover
