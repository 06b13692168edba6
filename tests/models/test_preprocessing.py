"""What image processors do to pixels, and the layers that stand for them."""

import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import assay
from assay.models import hubs, load
from assay.models.preprocessing import Preprocessing, preprocessing_of, resizing_of, target_size

SQUARE = {"do_resize": True, "size": {"height": 8, "width": 8}}
COLOURS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.5]}
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), dtype=np.uint8)
SETTINGS = {
    "rescale and normalise": {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, **COLOURS},
    "no normalisation": {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False, **COLOURS},
    "no rescaling": {"do_rescale": False, "rescale_factor": 1 / 255, "do_normalize": True, **COLOURS},
    "neither": {"do_rescale": False, "do_normalize": False, **COLOURS},
    "another factor": {"do_rescale": True, "rescale_factor": 1 / 127.5, "do_normalize": True, **COLOURS},
    "one mean for all": {"do_rescale": True, "do_normalize": True, "image_mean": 0.5, "image_std": 0.25},
    "blue first": {
        "image_processor_type": "MobileViTImageProcessor",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_flip_channel_order": True,
        **COLOURS,
    },
    "MobileViT does not normalise": {
        "image_processor_type": "MobileViTImageProcessor",
        "do_rescale": True,
        "do_flip_channel_order": True,
        "do_normalize": True,
        **COLOURS,
    },
    "offset": {"do_rescale": True, "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
    "offset and normalise": {
        "do_rescale": True,
        "rescale_factor": 1 / 127.5,
        "rescale_offset": True,
        "do_normalize": True,
        **COLOURS,
    },
    "divided twice": {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "include_top": True,
        **COLOURS,
    },
    "divided once": {"do_rescale": True, "do_normalize": False, "include_top": True, **COLOURS},
}


def reference(settings, images):
    """What the processors do, written down again in NumPy, float64."""
    x = images.astype(np.float64)
    mean, std = (np.reshape(settings.get(k, 0), (-1, 1, 1)) for k in ("image_mean", "image_std"))
    if settings.get("do_rescale"):
        x = x * settings.get("rescale_factor", 1 / 255)
        x = x - 1 if settings.get("rescale_offset") else x
    if settings.get("do_flip_channel_order"):
        x = x[:, ::-1]
    elif settings.get("do_normalize"):
        x = (x - mean) / std
    return x / std if settings.get("include_top") else x


@pytest.mark.parametrize("case", SETTINGS, ids=lambda name: name.replace(" ", "-"))
def test_a_layer_does_to_images_in_0_1_what_the_processor_does_to_bytes(case):
    settings = SETTINGS[case] | SQUARE
    wanted = reference(settings, IMAGES)
    layer = preprocessing_of(settings)
    x = (torch.from_numpy(IMAGES).float() / 255).requires_grad_()
    got = layer(x)
    np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    got.sum().backward()
    assert (x.grad != 0).all()


UNKNOWN = {
    "colour clusters": {"do_color_quantize": True},
    "padding": {"do_pad": True},
    "patches": {"patch_size": 16},
    "no deviation": {"do_normalize": True, "image_mean": [0.5], "image_std": None},
    "deviation 0": {"do_normalize": True, "image_mean": [0.5], "image_std": [0.0]},
    "mean of words": {"do_normalize": True, "image_mean": ["a"], "image_std": [1.0]},
    "infinite mean": {"do_normalize": True, "image_mean": [float("inf")], "image_std": [1.0]},
    "factor 0": {"do_rescale": True, "rescale_factor": 0},
    "factor of words": {"do_rescale": True, "rescale_factor": "1/255"},
    "flip then normalise": {"do_flip_channel_order": True, "do_normalize": True, **COLOURS},
    "brightness": {"do_adjust_brightness": 1.5},
}


@pytest.mark.parametrize("case", UNKNOWN, ids=lambda name: name.replace(" ", "-"))
def test_settings_that_change_pixels_otherwise_are_refused(case):
    with pytest.raises(
        (ValueError, TypeError), match=r"^(processor|rescale_factor)[^\n]*: expected [^\n]*, got [^\n]*$"
    ):
        preprocessing_of(UNKNOWN[case])


def test_settings_that_are_off_do_nothing():
    layer = preprocessing_of({"do_pad": False, "do_color_quantize": None, "do_rescale": True, "_private": 3})
    assert torch.allclose(layer(torch.tensor([[[[0.25]]]])), torch.tensor(0.25))


def test_images_of_another_size_are_refused_with_both_sizes():
    settings = {
        "do_rescale": True,
        "do_resize": True,
        "size": {"shortest_edge": 256},
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
    }
    assert target_size(settings) == (224, 224)
    assert resizing_of(settings) == "resizes the shorter side to 256 and crops the centre to 224×224"
    with pytest.raises(ValueError, match=r"x: expected images of 224×224 pixels.*resizes the shorter side.*got 32×32"):
        preprocessing_of(settings)(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"x: expected images of 3 channels, got shape \(1, 1, 224, 224\)"):
        preprocessing_of(settings | {"do_normalize": True, **COLOURS})(torch.zeros(1, 1, 224, 224))
    assert target_size({"do_resize": False, "size": 3}) is None
    with pytest.raises(ValueError, match="scale: expected finite numbers"):
        Preprocessing(float("nan"))


class Processor:
    """A stand-in with the interface of transformers' processors."""

    def __init__(self, change=lambda x: x, **settings):
        self.settings, self.change = SQUARE | {"do_rescale": True, "do_normalize": True, **COLOURS} | settings, change

    def to_dict(self):
        return dict(self.settings)

    def __call__(self, images, return_tensors):
        x = np.stack([np.moveaxis(image, -1, 0) for image in images])
        return {"pixel_values": torch.from_numpy(self.change(reference(self.settings, x)))}


def test_a_processor_is_compared_with_its_layer():
    layer = hubs.match_processor(Processor())
    x = torch.from_numpy(IMAGES).float() / 255
    np.testing.assert_allclose(layer(x).numpy(), reference(Processor().settings, IMAGES), atol=1e-5)
    for change in (lambda x: x[:, ::-1].copy(), lambda x: x + 0.1, lambda x: x**3, lambda x: x.clip(-1, 1)):
        with pytest.raises(
            ValueError, match=r"processor: expected one whose settings say all.*Processor, whose values"
        ):
            hubs.match_processor(Processor(change))
    with pytest.raises(ValueError, match=r"processor: expected one that makes images \(b, 3, h, w\)"):
        hubs.match_processor(Processor(lambda x: x[:, :, 0]))
    with pytest.raises(
        ValueError, match=r"^processor: expected one that takes a list of 8-bit images \(8, 8, 1\), got "
    ):
        hubs.match_processor(Processor(lambda x: x[:, 3]), channels=1)


def hub_with(monkeypatch, processor):
    """Stand-ins of transformers' two entry points."""
    fake = types.ModuleType("transformers")

    class Network(nn.Module):
        config = types.SimpleNamespace(num_channels=3, _commit_hash="abc")

        def forward(self, pixel_values):
            return types.SimpleNamespace(logits=pixel_values.mean((2, 3)))

    fake.AutoModelForImageClassification = types.SimpleNamespace(from_pretrained=lambda name, revision: Network())
    fake.AutoImageProcessor = types.SimpleNamespace(from_pretrained=lambda name, revision: processor)
    monkeypatch.setitem(sys.modules, "transformers", fake)


@pytest.mark.parametrize("change", [{}, {"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}])
def test_a_hub_model_gets_what_its_processor_gives(monkeypatch, change):
    processor = Processor(**change)
    hub_with(monkeypatch, processor)
    model = load("hf:org/name@main")
    x = torch.from_numpy(IMAGES).float() / 255
    wanted = reference(processor.settings, IMAGES).mean((2, 3))
    np.testing.assert_allclose(model(x).numpy(), wanted, rtol=1e-4, atol=1e-4)
    assert "scale=" in repr(model)
    with pytest.raises(ValueError, match=r"x: expected images of 8×8 pixels.*got 9×9"):
        model(torch.zeros(1, 3, 9, 9))
    outcome = assay.attack(model, x, model(x).argmax(1), assay.PGD(0.3, steps=3), preflight=False)
    assert len(outcome.images) == 3


@pytest.mark.parametrize("name", ["timm", "torchvision", "transformers"])
def test_what_a_library_cannot_load_is_one_sentence(monkeypatch, name):
    def fail(*args, **kwargs):
        raise RuntimeError("no such model " + 60 * "word ")

    fake = types.ModuleType(name)
    fake.create_model = fail
    fake.AutoModelForImageClassification = fake.AutoImageProcessor = types.SimpleNamespace(from_pretrained=fail)
    fake.models = types.ModuleType("torchvision.models")
    fake.models.get_model = fake.models.get_model_weights = fail
    monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setitem(sys.modules, "torchvision.models", fake.models)
    prefix = {"transformers": "hf"}.get(name, name)
    with pytest.raises(
        ValueError, match=rf"^model: expected a pretrained classifier that {prefix} can load.*word …\)$"
    ):
        load(f"{prefix}:nothing")


def test_a_library_that_loading_needs_is_named(monkeypatch):
    """Some models need a further library, which is told only when they are loaded."""

    def fail(name, pretrained):
        raise ImportError("This modeling file needs: natten.\n Run `pip install natten`")

    fake = types.ModuleType("timm")
    fake.create_model = fail
    monkeypatch.setitem(sys.modules, "timm", fake)
    with pytest.raises(ImportError, match=r"^model: timm:m needs a library[^\n]*natten\. Run `pip install natten`$"):
        load("timm:m")


def test_timm_images_have_the_size_of_the_configuration(monkeypatch):
    fake, inner = types.ModuleType("timm"), nn.Flatten()
    inner.pretrained_cfg = {"mean": (0.5,), "std": (0.25,), "input_size": (1, 4, 4), "crop_pct": 0.8}
    fake.create_model = lambda name, pretrained: inner
    monkeypatch.setitem(sys.modules, "timm", fake)
    assert load("timm:anything")(torch.ones(1, 1, 4, 4)).unique().tolist() == [2.0]
    with pytest.raises(ValueError, match=r"resizes the shorter side to 5 and crops the centre to 4×4.*got 8×8"):
        load("timm:anything")(torch.ones(1, 1, 8, 8))


def test_torchvision_images_have_the_size_of_the_transforms(monkeypatch):
    transform = types.SimpleNamespace(mean=[0.5], std=[0.25], crop_size=[4], resize_size=[5])
    weights = types.SimpleNamespace(DEFAULT=types.SimpleNamespace(transforms=lambda: transform))
    fake, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    models.get_model, models.get_model_weights = lambda name, weights: nn.Flatten(), lambda name: weights
    fake.models = models
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    assert load("torchvision:anything")(torch.ones(1, 1, 4, 4)).unique().tolist() == [2.0]
    with pytest.raises(ValueError, match=r"resizes the shorter side to 5 and crops the centre to 4×4.*got 5×5"):
        load("torchvision:anything")(torch.ones(1, 1, 5, 5))


REAL = {
    "ViT": {},
    "MobileViT": {"crop_size": {"height": 8, "width": 8}, "size": {"shortest_edge": 9}},
    "EfficientNet": {"include_top": True, "image_std": [0.2, 0.3, 0.5]},
    "ConvNext": {"size": {"shortest_edge": 8}},
    "Bit": {"crop_size": {"height": 8, "width": 8}, "size": {"shortest_edge": 9}},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REAL)
def test_the_real_processors(kind):
    """Against transformers itself, on images of the size that the processor makes."""
    transformers = pytest.importorskip("transformers", reason="transformers (the extra hf) is not installed")
    for more in ({}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}, {"do_normalize": False}):
        made = getattr(transformers, f"{kind}ImageProcessor")(
            **({"size": {"height": 8, "width": 8}} | REAL[kind] | more)
        )
        images = [np.moveaxis(image, 0, -1) for image in IMAGES]
        same = {"do_resize": False, "do_center_crop": False, "return_tensors": "pt"}
        wanted = torch.as_tensor(np.asarray(made(images, **same)["pixel_values"])).float()
        layer = hubs.match_processor(made)
        assert layer.size == (8, 8)
        torch.testing.assert_close(layer(torch.from_numpy(IMAGES).float() / 255), wanted, rtol=1e-4, atol=1e-3)
