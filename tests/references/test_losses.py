"""Losses of attacks in NumPy and by hand, where `tests/parts` does not: the far ends, few classes, a ceiling."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp

from assay.core.rows import Rows, targeted, towards, untargeted
from assay.parts.losses import DLR, CrossEntropy, Evasion, KullbackLeibler, Margin, PlainCrossEntropy

LOGITS = torch.tensor([[2.0, -1.0, 0.5, 3.0], [4.0, 1.0, 1.5, -2.0], [0.0, 0.25, -0.5, 0.125]], dtype=torch.float64)
LABELS, TARGETS = torch.tensor([3, 0, 2]), torch.tensor([0, 1, 3])


def value(term, logits, goal, reference=None):
    index = torch.arange(len(logits))
    rows = Rows(torch.zeros(len(logits), 1, 1, 1), goal, index, reference=reference)
    return term(logits, rows.x, rows)


def test_plain_cross_entropy_is_the_logarithm_of_a_probability():
    z = LOGITS.numpy()
    expected = logsumexp(z, axis=1) - z[np.arange(3), LABELS.numpy()]
    assert value(PlainCrossEntropy(), LOGITS, untargeted(LABELS)).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gap", [-80.0, -5.0, 0.0, 3.0, 20.0, 60.0, 300.0])
def test_cross_entropy_and_its_slope_far_from_the_boundary(gap):
    """The loss of log-odds o is log(1 + exp(o)) + 1e-12·o, with the slope sigmoid(o) + 1e-12, in float32 too."""
    others = np.array([0.5, 0.0, -1.0])
    odds = logsumexp(others) - gap
    z = torch.tensor([[gap, *others]], dtype=torch.float32, requires_grad=True)
    loss = value(CrossEntropy(), z, untargeted(torch.tensor([0])))
    (slope,) = torch.autograd.grad(loss.sum(), z)
    assert loss.item() == pytest.approx(np.logaddexp(0, odds) + 1e-12 * odds, rel=1e-4, abs=1e-30)
    expected = (expit(odds) + 1e-12) * np.array([-1.0, *np.exp(others - logsumexp(others))])
    assert slope[0].tolist() == pytest.approx(expected, rel=1e-4)
    aimed = value(CrossEntropy(), z, targeted(torch.tensor([1]), torch.tensor([0])))
    assert aimed.item() == pytest.approx(-loss.item(), rel=1e-6, abs=1e-30)


def test_a_margin_ends_at_its_confidence():
    """Margins away from the labels are −1, −2.5 and 0.75; towards the targets −1, −3 and −0.125."""
    assert value(Margin(), LOGITS, untargeted(LABELS)).tolist() == pytest.approx([-1.0, -2.5, 0.75])
    assert value(Margin(0.5), LOGITS, untargeted(LABELS)).tolist() == pytest.approx([-1.0, -2.5, 0.5])
    assert value(Margin(0.5), LOGITS, targeted(LABELS, TARGETS)).tolist() == pytest.approx([-1.0, -3.0, -0.125])
    reached = targeted(torch.tensor([0, 1, 2]), torch.tensor([3, 0, 1]))
    assert value(Margin(0.2), LOGITS, reached).tolist() == pytest.approx([0.2, 0.2, 0.125])


def test_the_logit_ratio_of_two_and_three_classes():
    three, two = torch.tensor([[5.0, 1.0, 3.0]]), torch.tensor([[5.0, 1.0]])
    label, target = torch.tensor([0]), torch.tensor([1])
    assert value(DLR(), three, untargeted(label)).item() == pytest.approx((3 - 5) / (5 - 1))
    assert value(DLR(), three, towards(label, target)).item() == pytest.approx((1 - 5) / (5 - (3 + 1) / 2))
    assert value(DLR(), two, untargeted(label)).item() == pytest.approx(1 - 5)
    assert value(DLR(), two, towards(label, target)).item() == pytest.approx(1 - 5)


def test_the_slope_of_the_divergence_is_the_difference_of_probabilities():
    reference = LOGITS.flip(1)
    z = LOGITS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(KullbackLeibler(), z, untargeted(LABELS), reference).sum(), z)
    p, q = (np.exp(t - logsumexp(t, axis=1, keepdims=True)) for t in (reference.numpy(), LOGITS.numpy()))
    assert np.allclose(slope.numpy(), q - p, rtol=1e-9)


def test_evasion_in_a_loop():
    """The last logit is the refusal: wrong and not refused, or the target before all others."""
    z = torch.randn(40, 5, dtype=torch.float64)
    y, t = torch.arange(40) % 4, (torch.arange(40) + 1) % 4
    away, aimed = value(Evasion(), z, untargeted(y)).tolist(), value(Evasion(), z, targeted(y, t)).tolist()
    for i, row in enumerate(z.tolist()):
        wrong = max(row[k] for k in range(4) if k != y[i])
        assert away[i] == pytest.approx(wrong - max(row[y[i]], row[4]))
        assert aimed[i] == pytest.approx(row[t[i]] - max(row[k] for k in range(5) if k != t[i]))
