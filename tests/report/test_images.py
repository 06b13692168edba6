import base64
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from assay.report.images import difference, heat, outline, picture


def opened(uri):
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_keeps_its_bytes(channels):
    codes = torch.arange(channels * 30).reshape(channels, 5, 6)
    found = torch.from_numpy(np.asarray(opened(picture(codes / 255))).copy())
    assert torch.equal(found.reshape(5, 6, channels).permute(2, 0, 1).long(), codes)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB"), (7, "RGB")])
def test_any_number_of_channels_is_shown(channels, mode):
    assert opened(picture(torch.rand(channels, 4, 4))).mode == mode
    assert opened(difference(torch.rand(channels, 4, 4))[0]).mode == mode


def test_non_finite_values_do_not_stop_a_picture():
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.5]).reshape(1, 2, 2)
    assert np.asarray(opened(picture(x))).tolist() == [[0, 0], [0, 128]]
    assert math.isfinite(difference(x)[1])
    opened(heat(x))


@pytest.mark.parametrize("scale", [1e-6, 8 / 255, 1.0])
def test_a_difference_is_kept_to_a_127th_of_its_maximum(scale):
    delta = scale * (2 * torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(0)) - 1)
    uri, most = difference(delta)
    codes = torch.from_numpy(np.asarray(opened(uri)).copy()).permute(2, 0, 1).float()
    assert most == pytest.approx(float(delta.abs().max()))
    assert float((most * (codes - 128) / 127 - delta).abs().max()) <= most / 254 * 1.001


def test_no_difference_is_grey():
    uri, most = difference(torch.zeros(3, 2, 2))
    assert most == 0.0
    assert set(np.asarray(opened(uri)).ravel().tolist()) == {128}


def test_large_images_are_reduced_and_keep_their_shape():
    assert opened(picture(torch.rand(3, 300, 600))).size == (224, 112)
    assert opened(picture(torch.rand(3, 224, 100))).size == (100, 224)


def test_heat_is_dark_at_zero_and_bright_at_the_top():
    ramp = np.asarray(opened(heat(torch.tensor([[[0.0, 0.5, 2.0]]]))).convert("RGB")).sum(-1)[0]
    assert ramp[0] < ramp[1] < ramp[2]
    opened(heat(torch.zeros(1, 3, 3)))


def test_outline_is_the_edge_between_inside_and_outside():
    mask = torch.zeros(1, 5, 6)
    mask[0, 1:3, 2:5] = 1
    assert outline(mask) == "M2 1h3M2 3h3M2 1v2M5 1v2"
    assert outline(torch.zeros(1, 4, 4)) == outline(torch.ones(1, 4, 4)) == ""
