"""Made scenes: exact, deterministic, independent of how many are asked for."""

import math

import pytest
import torch

from assay.data import scenes
from assay.data.shapes import SHAPES
from assay.data.textures import colour, power_law, to_rgb


def test_same_arguments_same_scenes():
    assert scenes("train", 40).digest == scenes("train", 40).digest
    assert scenes("train", 40).digest != scenes("train", 40, seed=1).digest


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_image_does_not_depend_on_count(count):
    every, some = scenes("test", 100), scenes("test", count)
    assert torch.equal(every.x[:count], some.x)
    assert torch.equal(every.y[:count], some.y)
    assert torch.equal(every.masks[:count], some.masks)


def test_splits_have_no_image_in_common():
    seen = [{image.numpy().tobytes() for image in scenes(split, 300, size=16).x} for split in ("train", "val", "test")]
    assert [len(s) for s in seen] == [300] * 3
    assert len(set.union(*seen)) == 900


@pytest.mark.parametrize("size", [16, 32, 57])
def test_shape_range_and_area(size):
    data = scenes("test", 64, size=size)
    assert data.x.shape == (64, 3, size, size)
    assert data.x.dtype == torch.uint8
    share = data.masks.float().mean((1, 2, 3))
    assert share.min() > 0.08
    assert share.max() < 0.32


@pytest.mark.parametrize("classes", [2, 5, 8])
def test_classes_are_even(classes):
    data = scenes("train", 320, size=16, classes=classes)
    counts = data.y.bincount(minlength=classes)
    assert counts.max() - counts.min() <= 1
    assert data.classes == tuple(s.name for s in SHAPES[:classes])


def test_mask_is_where_the_object_is():
    """The object's colour is near even, so that inside pixels are near its mean and outside pixels far."""
    data = scenes("test", 128)
    x, inside = data.images(), data.masks.float()
    mean = (x * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True)
    far = (x - mean).abs().amax(1, keepdim=True)
    eroded = 1 - torch.nn.functional.max_pool2d(1 - inside, 3, 1, 1)
    beyond = 1 - torch.nn.functional.max_pool2d(inside, 3, 1, 1)
    within = (far * eroded).sum((1, 2, 3)) / eroded.sum((1, 2, 3))
    without = (far * beyond).sum((1, 2, 3)) / beyond.sum((1, 2, 3))
    assert (without > 2 * within).all()
    assert within.max() < 0.15
    assert without.min() > 0.1


def test_hint_changes_the_background_and_not_one_pixel_of_the_object():
    plain, hinted = scenes("test", 96, cue=0.0), scenes("test", 96, cue=1.0)
    assert torch.equal(plain.masks, hinted.masks)
    assert torch.equal(plain.y, hinted.y)
    outside = torch.nn.functional.pad(1 - plain.masks.float(), (2, 2, 2, 2), value=1.0)
    interior = 1 - torch.nn.functional.max_pool2d(outside, 5, 1)  # the object without its blended rim
    differs = (plain.x != hinted.x).any(1, keepdim=True)
    changed = differs.flatten(1).any(1)
    assert changed.float().mean() > 0.7
    outside = (differs & ~plain.masks).flatten(1).sum(1) / (~plain.masks).flatten(1).sum(1)
    assert (outside[changed] > 0.8).all()
    assert not (differs & interior.bool()).any()


def test_background_hints_at_the_class():
    """A nearest-mean rule on the background's colour does far better with the hint than without."""

    def accuracy(cue):
        train, test = (scenes(split, 600, size=16, cue=cue) for split in ("train", "test"))

        def feature(d):
            outside = ~torch.nn.functional.max_pool2d(d.masks.float(), 3, 1, 1).bool()
            return (d.images() * outside).sum((2, 3)) / outside.sum((2, 3))

        f, g = feature(train), feature(test)
        f, g = f - f.mean(1, keepdim=True), g - g.mean(1, keepdim=True)
        means = torch.stack([f[train.y == k].mean(0) for k in range(8)])
        return float((torch.cdist(g, means).argmin(1) == test.y).float().mean())

    assert accuracy(0.0) < 0.2
    assert 0.35 < accuracy(0.6) < 0.8
    assert accuracy(1.0) > 0.6


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_shape_area_and_reach(shape):
    g = torch.linspace(-1.5, 1.5, 1201)
    v, u = torch.meshgrid(g, g, indexing="ij")
    inside = shape.inside(u, v)
    assert math.isclose(float(inside.sum()) * float(g[1] - g[0]) ** 2, shape.area, rel_tol=5e-3)
    reach = (u * u + v * v)[inside].max().sqrt()
    assert shape.reach - 0.01 < reach < shape.reach + 1e-4


def test_texture_has_the_spectrum_and_direction_it_was_asked_for():
    noise = torch.randn(16, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    flat = power_law(noise, torch.full((16,), 1.5), torch.zeros(16), stretch=1.0)
    assert torch.allclose(flat.mean((1, 2, 3)), torch.zeros(16), atol=1e-5)
    assert torch.allclose(flat.flatten(1).std(1), torch.ones(16), atol=1e-4)
    power = torch.fft.rfft2(flat).abs().square().mean((0, 1))
    slope = torch.log(power[0, 4] / power[0, 16]) / math.log(16 / 4)
    assert slope == pytest.approx(3.0, abs=0.9)  # of 16 fields only, so loosely
    streaks = power_law(noise, torch.full((16,), 1.2), torch.zeros(16))
    along, across = streaks.diff(dim=3).square().mean(), streaks.diff(dim=2).square().mean()
    assert across > 2 * along


def test_colour_of_greys_and_of_red():
    grey = to_rgb(colour(*(torch.tensor([v]) for v in (0.5, 0.0, 0.0))))
    assert torch.allclose(grey, grey[:, :1].expand_as(grey), atol=1e-4)
    ends = to_rgb(colour(torch.tensor([0.0, 1.0]), torch.zeros(2), torch.zeros(2)))
    assert torch.allclose(ends, torch.tensor([[0.0] * 3, [1.0] * 3]), atol=1e-3)
    a, b = 0.2249, 0.1258  # sRGB red in Oklab, lightness 0.628
    red = to_rgb(torch.tensor([[0.62796, a, b]]))
    assert torch.allclose(red, torch.tensor([[1.0, 0.0, 0.0]]), atol=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "all"}, "split: expected one of 'train', 'val', 'test'"),
        ({"count": 0}, "count: expected a whole number that is at least 1"),
        ({"size": 8}, "size: expected a whole number that is at least 16"),
        ({"classes": 9}, "classes: expected at most 8 shapes"),
        ({"classes": 1}, "classes: expected a whole number that is at least 2"),
        ({"cue": 1.5}, "cue: expected a finite number that is at least 0 and at most 1"),
        ({"seed": -1}, "seed: expected a whole number"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        scenes(**({"split": "test", "count": 4} | arguments))
