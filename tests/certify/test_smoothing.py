"""Certificates of smoothed classifiers, in the norms of a budget."""

import pytest
import torch
from torch import nn

from assay import certified
from assay.defences import Smoothed


class Half(nn.Module):
    """Bright or dark, by the mean."""

    def forward(self, x):
        z = 8 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([z, -z], 1)


@pytest.mark.parametrize(("norm", "factor"), [("l2", 1.0), ("linf", 4**-0.5), ("l1", 1.0)])
def test_a_budget_is_certified_up_to_the_radius_of_the_ball_around_it(norm, factor):
    smooth, x = Smoothed(Half(), sigma=0.25), torch.full((1, 1, 2, 2), 0.7)
    radius = float(smooth.certify(x, n=1000).radius)
    for share, decision in ((0.99, "certified"), (1.01, "open")):
        result = certified(smooth, x, torch.tensor([0]), "smoothing:n=1000", eps=share * radius * factor, norm=norm)
        assert result.counts[decision] == 1


def test_a_label_that_is_not_its_own_is_not_certified():
    smooth = Smoothed(Half(), sigma=0.25)
    result = certified(smooth, torch.full((1, 1, 2, 2), 0.7), torch.tensor([1]), "smoothing:n=100", eps=0.01, norm="l2")
    assert result.counts["misclassified clean"] == 1
