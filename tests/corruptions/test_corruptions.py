"""Corruptions: draws of their own, the published parameters, and the scores."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from assay.cli.main import main
from assay.corruptions import ALEXNET, CORRUPTIONS, Damage, corrupt, corruption_errors, measure
from assay.corruptions.filters import edges, equalised, motion, with_hsv, zoomed
from assay.corruptions.textures import plasma
from assay.data import load
from assay.training import Recipe, train

X = load("scenes:size=32,count=40", split="train").images(slice(0, 6))


def photo(side=64):
    """A smooth image with some texture, larger than the scenes."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    waves = [0.5 + 0.3 * np.sin(9 * rows + k) * np.cos(7 * columns - k) + 0.1 * np.sin(60 * columns) for k in range(3)]
    return torch.from_numpy(np.stack(waves)).float()[None].clamp(0, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_image_is_corrupted_by_draws_of_its_own(name, channels):
    x = X.mean(1, keepdim=True).expand(-1, channels, -1, -1) if channels != 3 else X
    made = corrupt(x, name, 3)
    assert made.shape == x.shape
    assert made.dtype == x.dtype
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1
    assert torch.equal(made, torch.cat([corrupt(one, name, 3) for one in x.split(1)]))  # not of the batch
    assert torch.equal(made.flip(0), corrupt(x.flip(0), name, 3))
    assert torch.allclose(made * 255, (made * 255).round(), atol=1e-4)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("table", ["imagenet", "cifar"])
def test_the_fifth_severity_changes_more_than_the_first(name, table):
    x = photo(96) if table == "imagenet" else X
    ids = torch.arange(len(x))
    changes = [float((corrupt(x, name, s, table=table, ids=ids) - x).abs().mean()) for s in (1, 5)]
    if name == "saturate" or (name, table) == ("elastic_transform", "cifar"):
        changes[0] = 0.0  # 1 and 2 take colour away, 4 and 5 add it; the shear falls where the field grows
    assert changes[1] > changes[0]


RANDOM = [n for n in CORRUPTIONS if n.endswith("noise")] + [
    "glass_blur",
    "motion_blur",
    "snow",
    "frost",
    "fog",
    "spatter",
    "elastic_transform",
]


@pytest.mark.parametrize("name", RANDOM)
def test_seeds_and_ids_are_addresses(name):
    x = photo(32).expand(2, -1, -1, -1)
    first = corrupt(x, name, 5, ids=torch.tensor([4, 5]))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[1:], corrupt(x[:1], name, 5, ids=torch.tensor([5])))
    assert not torch.equal(first, corrupt(x, name, 5, ids=torch.tensor([4, 5]), seed=1))


def test_noises_have_the_published_strength():
    x = torch.full((1, 3, 200, 200), 0.5)
    for name, expected in (("gaussian_noise", 0.08), ("shot_noise", (0.5 / 60) ** 0.5), ("speckle_noise", 0.075)):
        spread = float((corrupt(x, name, 1, table="imagenet") - x).std())
        assert spread == pytest.approx(expected, rel=0.02), name
    hit = (corrupt(x, "impulse_noise", 4, table="imagenet") - x).abs() > 0.4
    assert float(hit.float().mean()) == pytest.approx(0.17, abs=0.005)


def test_contrast_brightness_and_saturation_by_hand():
    x = torch.tensor([[0.2, 0.4], [0.6, 0.6]]).expand(1, 1, 2, 2)
    mean = 0.45
    expected = ((x - mean) * 0.4 + mean).mul(255).add(1e-6).floor() / 255
    assert torch.allclose(corrupt(x, "contrast", 3), expected)
    red = np.array([[[0.5, 0.25, 0.25]]])
    assert np.allclose(with_hsv(red, value=0.25), [[[0.75, 0.375, 0.375]]])
    assert np.allclose(with_hsv(red, saturation=(2, 0)), [[[0.5, 0, 0]]])
    assert np.allclose(with_hsv(red, saturation=(0, 0)), [[[0.5, 0.5, 0.5]]])
    grey = np.full((1, 1, 3), 0.4)
    assert np.allclose(with_hsv(grey, saturation=(5, 0.5)), [[[0.4, 0.2, 0.2]]])  # the hue of grey counts as red


def test_motion_is_a_half_gaussian_along_a_line():
    x = np.zeros((9, 9, 1))
    x[4, 4] = 1
    made = motion(x, 2, 1.0, 0.0)[..., 0]
    weights = np.exp(-0.5 * np.arange(5) ** 2)
    assert np.allclose(made[4, 4::-1], weights / weights.sum())
    assert made[:4].sum() + made[5:].sum() == 0
    down = motion(x, 2, 1.0, -90.0)[..., 0]
    assert np.allclose(down[4:, 4], weights / weights.sum())
    assert np.allclose(motion(np.ones((5, 5, 2)), 3, 2.0, 30.0), 1)


def test_zoom_keeps_the_size_and_the_middle():
    x = np.zeros((20, 30, 1))
    x[9:11, 14:16] = 1
    for factor in (1.0, 1.05, 1.3, 2.0):
        made = zoomed(x, factor)
        assert made.shape == x.shape
        assert made.sum() >= x.sum()
    assert np.allclose(zoomed(x, 1.0), x)


def test_a_plasma_is_rough_where_its_displacements_shrink_slowly():
    clouds = [plasma(np.random.default_rng(0), 64, decay) for decay in (1.5, 3.0)]
    for cloud in clouds:
        assert (cloud.min(), cloud.max()) == (0, 1)
    rough = [float(np.abs(np.diff(cloud)).mean()) for cloud in clouds]
    assert rough[0] > 2 * rough[1]


def test_edges_of_a_square_are_its_outline():
    x = np.zeros((20, 20), dtype=np.uint8)
    x[5:15, 5:15] = 200
    found = edges(x, 50, 150)
    assert not found[8:12, 8:12].any()
    assert not found[:3].any()
    rows = np.nonzero(found[:, 10])[0]
    assert len(rows) == 2  # thin
    assert ndimage.binary_fill_holes(found)[10, 10]
    faint = (x * 0.05).astype(np.uint8)
    assert not edges(faint, 50, 150).any()


def test_equalised_values_are_spread_over_the_range():
    x = np.repeat(np.arange(100, 110, dtype=np.uint8), 10).reshape(10, 10)
    made = equalised(x)
    assert (made.min(), made.max()) == (0, 255)
    assert np.unique(made).size == 10
    assert np.array_equal(equalised(np.full((3, 3), 7, dtype=np.uint8)), np.full((3, 3), 7))


def test_errors_by_hand():
    damage = Damage(0.9, {"fog": (0.9, 0.8, 0.7, 0.6, 0.5), "saturate": (0.0,) * 5}, 10)
    assert damage.errors["fog"] == pytest.approx(0.3)
    assert damage.mean_accuracy == pytest.approx(0.7)  # saturate is one of the four extra ones
    found = corruption_errors(damage, {"fog": 0.6, "saturate": 0.5}, clean=0.2)
    assert found["fog"] == pytest.approx(0.5)
    assert found["mCE"] == pytest.approx(0.5)
    assert found["relative mCE"] == pytest.approx((0.3 - 0.1) / (0.6 - 0.2))
    assert set(ALEXNET) == {name for name, entry in CORRUPTIONS.items() if not entry.extra}
    with pytest.raises(ValueError, match="baseline: expected an error for fog"):
        corruption_errors(damage, {})


class Bright(nn.Module):
    """Says whether an image is bright, and counts its passes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.passes = 0

    def forward(self, x):
        self.passes += len(x)
        z = self.weight * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-z, z], 1)


def test_a_measurement_goes_on_where_it_stopped(tmp_path):
    data = load("scenes:size=16,count=60", split="train").take(slice(0, 30))
    model, out = Bright(), tmp_path / "m.json"
    whole = measure(model, data, names=["fog", "contrast"])
    assert model.passes == 30 * 11

    def stop(name, severity, accuracy):
        if (name, severity) == ("fog", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(model, data, names=["fog", "contrast"], out=out, progress=stop)
    model.passes = 0
    again = measure(model, data, names=["fog", "contrast"], out=out)
    assert model.passes == 30 * 7  # four were known
    assert again == whole
    with pytest.raises(ValueError, match="other seed"):
        measure(model, data, names=["fog"], out=out, seed=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, "fogg", 1), "did you mean 'fog'"),
        ((X, "fog", 0), "severity: expected 1, 2, 3, 4 or 5"),
        ((X, "fog", 2.5), "severity"),
        ((X[0], "fog", 1), "x: expected images"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        corrupt(*arguments)


def test_the_command(tmp_path, capsys):
    data = "scenes:size=16,count=120"
    paths = [train(load(data, split="train"), Recipe(epochs=e, rate=3e-3), tmp_path / str(e)).path for e in (1, 3)]
    words = [
        "corruptions",
        "--data",
        data,
        "--model",
        f"a={paths[0]}",
        "--model",
        f"b={paths[1]}",
        "--only",
        "fog",
        "--only",
        "contrast",
        "-o",
        str(tmp_path / "out"),
        "--baseline",
        "a",
    ]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "mCE (of a)" in printed.out
    assert "100.0 %" in printed.out  # of itself
    assert "b: fog up to severity 5" in printed.err
    with (tmp_path / "out" / "corruptions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 11
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["b"]["relative"]["mCE"] > 0
    assert main([*words[:-1], "c"]) == 2
    assert "baseline: expected alexnet or one of the models (a, b)" in capsys.readouterr().err
    assert main([*words, "--only", "frog"]) == 2
