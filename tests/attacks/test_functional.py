"""Flows, colours and poses: no change is no change, limits hold, colours come back."""

import pytest
import torch

import assay
from assay.attacks.colour import luv_to_rgb, rgb_to_luv
from assay.attacks.functional import Flow
from assay.attacks.recolour import ColourMap
from assay.attacks.spatial import posed
from assay.core.rows import Rows, untargeted
from models_for_tests import images, mlp, predicted


def rows(channels=3):
    x = images(5, channels=channels, dtype=torch.float64)
    return Rows(x, untargeted(torch.zeros(5, dtype=torch.long)), torch.arange(5))


def test_colours_come_back_and_stay_in_range():
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()
    luv = rgb_to_luv(x)
    assert torch.allclose(luv_to_rgb(luv), x, atol=1e-4)
    assert luv.min() >= 0
    assert luv.max() <= 1
    white, black = torch.ones(1, 3, 1, 1).double(), torch.zeros(1, 3, 1, 1).double()
    assert rgb_to_luv(white)[0, 0].item() == pytest.approx(1.0, abs=1e-4)  # L = 100
    assert torch.allclose(luv_to_rgb(rgb_to_luv(black)), black, atol=1e-4)


def test_red_is_where_the_standard_has_it():
    """sRGB red: L = 53.24, u = 175.01, v = 37.76."""
    light, u, v = rgb_to_luv(torch.tensor([1.0, 0.0, 0.0]).double().reshape(1, 3, 1, 1)).flatten().tolist()
    assert 100 * light == pytest.approx(53.24, abs=0.05)
    assert -84 + 260 * u == pytest.approx(175.01, abs=0.3)
    assert -135 + 243 * v == pytest.approx(37.76, abs=0.3)


@pytest.mark.parametrize(
    ("deformation", "channels"),
    [(Flow(2), 3), (Flow(2), 1), (ColourMap(0.1), 3), (ColourMap(0.1, luv=False), 3), (ColourMap(0.1), 1)],
)
def test_zero_parameters_change_nothing_and_have_no_roughness(deformation, channels):
    where = rows(channels)
    parameters = deformation.start(where)
    assert torch.allclose(deformation.image(where, parameters), where.x, atol=2e-3)
    assert (deformation.roughness(parameters) < 5e-2).all()
    assert (deformation.project(parameters + 9) <= 2).all()


def test_a_constant_flow_shifts_and_a_constant_colour_adds():
    where = rows()
    flow = torch.zeros(5, 2, 6, 6).double()
    flow[:, 0] = 1  # every pixel comes from one to its right
    assert torch.allclose(Flow(2).image(where, flow)[:, :, :, :-1], where.x[:, :, :, 1:], atol=1e-9)
    table = torch.full_like(ColourMap(0.1, luv=False).start(where), 0.05)
    made = ColourMap(0.1, luv=False).image(where, table)
    assert torch.allclose(made, (where.x + 0.05).clamp(0, 1), atol=1e-9)


def test_poses():
    x = images(3, channels=3).double()
    zero = torch.zeros(3).double()
    assert torch.allclose(posed(x, zero, torch.zeros(3, 2).double()), x, atol=1e-9)
    turned = posed(x, torch.full((3,), 90.0).double(), torch.zeros(3, 2).double())
    assert torch.allclose(turned, x.rot90(1, (2, 3)), atol=1e-6) or torch.allclose(
        turned, x.rot90(-1, (2, 3)), atol=1e-6
    )
    shifted = posed(x, zero, torch.tensor([[1.0, 0.0]]).double().expand(3, 2))
    assert torch.allclose(shifted[:, :, :, 1:], x[:, :, :, :-1], atol=1e-9)
    assert (shifted[:, :, :, 0] == 0).all()
    wide = torch.rand(2, 1, 5, 9).double()
    assert posed(wide, torch.full((2,), 20.0).double(), torch.ones(2, 2).double()).shape == wide.shape


@pytest.mark.parametrize(
    "attack", [assay.SpatialFlow(1.5, steps=30, rate=0.2), assay.ColorMap(0.2, steps=30, rate=0.05)]
)
def test_they_break_what_small_random_ones_do_not(attack):
    model = mlp(channels=3)
    x = images(24, channels=3)
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, attack, preflight=False)
    assert outcome.success_rate > 0.3
    assert torch.isnan(outcome.size).all()


def test_patch_changes_a_square_and_nothing_else():
    model, x = mlp(channels=3, size=8), images(24, channels=3, size=8)
    y = predicted(model, x)
    outcome = assay.attack(model, x, y, assay.Patch(3, steps=40), preflight=False, stop="never")
    changed = (outcome.images != outcome.clean).any(1)
    for one in changed:
        down, across = one.nonzero(as_tuple=True)
        if len(down):
            assert down.max() - down.min() < 3
            assert across.max() - across.min() < 3
    fixed = assay.attack(model, x, y, assay.Patch(3, 0.1, steps=5, place=(2, 4)), preflight=False)
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[2:5, 4:7] = False
    assert (fixed.images == fixed.clean)[:, :, outside].all()
    assert fixed.norm("linf").max() <= 0.1 + 1e-6
    with pytest.raises(ValueError, match="side: expected a square that fits"):
        assay.attack(model, x, y, assay.Patch(9), preflight=False)
