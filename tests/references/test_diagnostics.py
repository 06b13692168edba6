"""Diagnostics against loops of autograd, SciPy, NumPy and cases by hand.

The attacks are written out here, so that nothing of assay is in the expected numbers.
"""

import copy
import importlib
from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn

import assay
from assay.data import Dataset
from assay.diagnostics import (
    Trail,
    attribution,
    destruction,
    detectability,
    gradients,
    interpretability,
    learning,
    parameters,
    profile,
    sharedness,
    surface,
    suspicion,
    tradeoff,
    transfer,
    universality,
)
from assay.diagnostics.destruction import TRANSFORMS, noisy
from models_for_tests import Linear, images, masks, mlp

EPS = 0.08


def logits_of(model, x):
    with torch.no_grad():
        return model(x).double().numpy()


def right(model, x, y):
    return logits_of(model, x).argmax(1) == y.numpy()


def costs(model, x, y):
    """Cross-entropy of each image."""
    z = logits_of(model, x)
    return np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y.numpy()]


def slope_at(model, x, y):
    """The gradient of each image's cross-entropy, one image after the other."""
    slopes = []
    for image, label in zip(x, y, strict=True):
        leaf = image[None].clone().requires_grad_()
        z = model(leaf)[0]
        slopes.append(torch.autograd.grad(z.logsumexp(0) - z[label], leaf)[0])
    return torch.cat(slopes)


def fast_sign(model, x, y, eps=EPS):
    return (x + eps * slope_at(model, x, y).sign()).clamp(0, 1)


def labelled(model, n=24, seed=1):
    """Images and the model's own labels, but for every fifth."""
    x = images(n, seed=seed)
    y = torch.from_numpy(logits_of(model, x).argmax(1))
    return x, torch.where(torch.arange(n) % 5 == 4, (y + 1) % 4, y)


@pytest.fixture
def nets():
    """Three networks that are near to each other, as those of a trail are."""
    first = mlp()
    result = [first]
    for seed in (1, 2):
        other = copy.deepcopy(first)
        with torch.no_grad():
            for p in other.parameters():
                p += 0.4 * p.abs().mean() * torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
        result.append(other)
    return result


def trail_of(nets):
    return Trail(dict(enumerate(nets)))


def test_learning(nets):
    parts = {"train": labelled(nets[0]), "test": labelled(nets[1], seed=2)}
    result = learning(trail_of(nets), parts, {"FGSM": assay.FGSM(EPS)})
    for part, (x, y) in parts.items():
        clean = [right(net, x, y).mean() for net in nets]
        moved = [right(net, fast_sign(net, x, y), y).mean() for net in nets]
        assert clean[0] != moved[0]
        assert result.accuracy[f"{part}, clean"] == pytest.approx(clean)
        assert result.accuracy[f"{part}, FGSM"] == pytest.approx(moved)


def test_transfer(nets):
    x, y = labelled(nets[0])
    result = transfer(dict(zip("abc", nets, strict=True)), x, y, assay.FGSM(EPS))
    made = [fast_sign(net, x, y) for net in nets]
    table = np.array([[right(other, moved, y).mean() for other in nets] for moved in made])
    assert not np.allclose(table, table.T)
    assert np.allclose(result.accuracy.numpy(), table)
    assert np.allclose(result.clean.numpy(), [right(net, x, y).mean() for net in nets])


def test_sharedness(nets):
    """Every perturbation on every other image in loops; correlations by SciPy, within classes by least squares."""
    (x, y), (others, labels) = labelled(nets[0], 30), labelled(nets[0], 16, seed=3)
    result = sharedness(trail_of(nets), (x, y), (others, labels), assay.FGSM(EPS), batch=50)
    first = fast_sign(nets[0], x, y) - x
    current = []
    for delta in first:
        moved = (others + delta).clamp(0, 1)
        current.append((costs(nets[0], moved, labels) - costs(nets[0], others, labels)).mean())
    future = np.mean([costs(net, x + first, y) - costs(net, x, y) for net in nets[1:]], axis=0)
    assert np.allclose(result.current.numpy(), current, rtol=1e-3, atol=1e-5)
    assert np.allclose(result.future.numpy(), future, rtol=1e-3, atol=1e-5)
    for epoch, net in enumerate(nets):
        moved = fast_sign(net, x, y)
        effective = right(net, x, y) & ~right(net, moved, y)
        known = right(net, others, labels)
        ratios = [
            (known & ~right(net, (others + delta).clamp(0, 1), labels)).mean()
            for delta in (moved - x)[torch.from_numpy(effective)]
        ]
        assert len(ratios) > 3
        assert np.allclose(result.ratio[epoch].numpy(), sorted(ratios))
        assert result.shared[epoch] == pytest.approx(np.mean([ratio >= 0.02 for ratio in ratios]))
    both = (np.array(current) > 0) & (future > 0)
    a, b, group = np.log(np.array(current)[both]), np.log(future[both]), y.numpy()[both]
    whole = stats.pearsonr(a, b)
    assert (result.correlation, result.p_value) == pytest.approx((whole.statistic, whole.pvalue), rel=1e-3)
    dummies = (group[:, None] == np.unique(group)).astype(float)
    left = [values - dummies @ np.linalg.lstsq(dummies, values, rcond=None)[0] for values in (a, b)]
    r, free = stats.pearsonr(*left).statistic, len(a) - dummies.shape[1] - 1
    t = r * np.sqrt(free / (1 - r**2))
    assert (result.within, result.within_p_value) == pytest.approx((r, 2 * stats.t.sf(abs(t), free)), rel=1e-3)


def test_universality():
    """On images of one class a linear network of two has one direction: four quarter steps lead to ±ε·sign(w)."""
    eps, generator = 0.1, torch.Generator().manual_seed(4)
    weights = [torch.randn(2, 1, 3, 3, generator=generator) for _ in range(3)]
    biases = [-0.5 * w.flatten(1).sum(1) for w in weights]
    nets = [Linear(w, bias) for w, bias in zip(weights, biases, strict=True)]
    x = torch.rand(80, 1, 3, 3, generator=generator)
    y = torch.arange(80) % 2
    test = Dataset(x, y, ("a", "b"))
    parts = {"first": test.take(y == 0), "second": test.take(y == 1)}
    result = universality(trail_of(nets), parts, test, assay.UniversalSign(eps, updates=5, batches=1))
    flat = x.flatten(1).double().numpy()
    w = [np.diff(weight.flatten(1).double().numpy(), axis=0)[0] for weight in weights]

    def accuracy(j, moved):
        return (((moved - 0.5) @ w[j] > 0) == y.numpy()).mean()

    assert result.clean == pytest.approx([accuracy(j, flat) for j in range(3)])
    for part, sign in (("first", 1), ("second", -1)):
        deltas = [sign * eps * np.sign(w[i]) for i in range(3)]
        assert np.allclose(result.deltas[part].flatten(1).numpy(), deltas, atol=1e-6)
        table = [[accuracy(j, np.clip(flat + deltas[i], 0, 1)) for j in range(3)] for i in range(3)]
        assert np.allclose(result.accuracy[part].numpy(), table)
        assert len(np.unique(table)) > 3


def filtered(x, strength):
    """SciPy's Gaussian filter, which ends at three deviations."""
    sigma = (0, 0, strength, strength)
    return ndimage.gaussian_filter(x, sigma, mode="nearest", radius=[0, 0] + 2 * [max(round(3 * strength), 1)])


CHANGES = {
    "brightness": lambda x, s: np.clip(x + s, 0, 1),
    "contrast": lambda x, s: np.clip(x * s, 0, 1),
    "blur": filtered,
}


def test_destruction(nets):
    x, y = labelled(nets[0], 60)
    transforms = {kind: TRANSFORMS[kind] for kind in CHANGES}
    result = destruction(trail_of(nets[:2]), x, y, {"FGSM": assay.FGSM(EPS)}, transforms=transforms)
    for i, net in enumerate(nets[:2]):
        moved = fast_sign(net, x, y)
        effective = right(net, x, y) & ~right(net, moved, y)
        assert result.effective["FGSM"][i] == effective.sum() > 5
        for kind, change in CHANGES.items():
            rates = []
            for strength in TRANSFORMS[kind][1]:
                changed = change(moved.double().numpy(), strength)
                assert np.allclose(TRANSFORMS[kind][0](moved, strength).numpy(), changed, atol=1e-6)
                rates.append(right(net, torch.from_numpy(changed).float(), y)[effective].mean())
            assert np.allclose(result.rate["FGSM", kind][i].numpy(), rates)
            assert len(set(rates)) > 1


def test_noise_of_destruction_is_standard_normal_and_the_same_for_all():
    x = torch.full((40, 1, 6, 6), 0.5, dtype=torch.float64)
    drawn = (noisy(x, 0.05) - x) / 0.05
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 0.01
    assert torch.allclose((noisy(x, 0.02) - x) / 0.02, drawn, rtol=1e-6)
    assert torch.allclose(noisy(x, 10.0), (x + 10 * drawn).clamp(0, 1), rtol=1e-6)


class Leaning(nn.Module):
    """Stands for a trained detector: two logits, 0 and a weighted sum of the pixels."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.tensor(weight).view(1, 1, 1, -1)

    def logits(self, x):
        z = (x * self.weight).flatten(1).sum(1)
        return torch.stack([0 * z, z], 1)

    def forward(self, x):
        return self.logits(x)[:, 1]


def test_detectability(monkeypatch):
    """Detectors are given; accuracies, areas (Mann–Whitney) and the pattern that looks most adversarial by NumPy."""
    eps, generator = 0.1, torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 64, 1, 1, 2, generator=generator)
    train, test = (Dataset(x, (x.flatten(1).sum(1) > 1).long(), ("a", "b")) for x in pixels)
    ways = [np.array([1.0, 1.0]), np.array([1.0, 0.9]), np.array([1.0, 1.0])]
    middles = [1.0, 0.95, -9.0]  # no image of the third network is turned
    nets = [
        Linear(torch.tensor(np.stack([0 * w, w])).float().view(2, 1, 1, 2), torch.tensor([0.0, -m]))
        for w, m in zip(ways, middles, strict=True)
    ]
    for net, weight in zip(nets, ([6.0, 5.0], [-3.0, 8.0], [1.0, 1.0]), strict=True):
        net.detector = Leaning(weight)
    module = importlib.import_module("assay.diagnostics.detectability")
    monkeypatch.setattr(module, "fit_detector", lambda data, model, attack, **_: model.detector)
    result = detectability(
        trail_of(nets), train, test, {"FGSM": assay.FGSM(0.2)}, eps=eps, updates=3, epochs=1
    )  # three updates of a quarter of eps

    def turned(i, data):
        x, y = data.x.flatten(1).double().numpy(), data.y.numpy()
        moved = np.clip(x + 0.2 * np.where(y == 1, -1, 1)[:, None], 0, 1)
        before, after = (((z @ ways[i] > middles[i]) == y) for z in (x, moved))
        return x, moved, before & ~after

    detectors = [net.detector.weight.flatten().double().numpy() for net in nets]
    for i, w in enumerate(detectors):
        held_out = train.take(torch.randperm(64, generator=torch.Generator().manual_seed(0))[:16])
        x, moved, _ = turned(i, held_out)
        good, bad = x @ w, moved @ w
        places = np.unique(np.concatenate([good, bad]))
        limits = np.concatenate([places[:1] - 1, (places[1:] + places[:-1]) / 2, places[-1:] + 1])
        limit = max(limits, key=lambda value, g=good, b=bad: (g <= value).sum() + (b > value).sum())
        for j in range(3):
            x, moved, effective = turned(j, test)
            good, bad = x @ w, moved[effective] @ w
            if j == 2:
                assert not effective.any()
                assert result.accuracy["FGSM"][i, j].isnan()
                continue
            share = 0.5 * ((good <= limit).mean() + (bad > limit).mean())
            area = stats.mannwhitneyu(bad, good).statistic / (len(good) * len(bad))
            assert result.accuracy["FGSM"][i, j].item() == pytest.approx(share)
            assert result.area["FGSM"][i, j].item() == pytest.approx(area, rel=1e-5)
        delta = 0.75 * eps * np.sign(w)
        assert np.allclose(result.deltas["FGSM"][i].flatten().numpy(), delta, atol=1e-6)
        suspected = 1 / (1 + np.exp(-np.clip(x + delta, 0, 1) @ w))
        assert result.suspicion["FGSM"][i] == pytest.approx(suspected.mean(), rel=1e-5)


def test_gradients():
    """Of a linear network with three classes: (p − e_y) times the weights."""
    weight = 0.2 * torch.randn(3, 2, 6, 6)
    x, y, mask = images(9), torch.arange(9) % 3, masks(9).float()
    result = gradients({"linear": Linear(weight)}, x, y, masks=0.9 * mask)
    rows = weight.flatten(1).double().numpy()
    z = x.flatten(1).double().numpy() @ rows.T
    p = np.exp(z - np.logaddexp.reduce(z, axis=1, keepdims=True))
    expected = ((p - np.eye(3)[y.numpy()]) @ rows).reshape(x.shape)
    assert np.allclose(result.gradient["linear"].numpy(), expected, rtol=1e-3, atol=1e-5)
    sizes = np.abs(expected)
    inside = (sizes * mask.numpy()).sum((1, 2, 3)) / sizes.sum((1, 2, 3))
    assert np.allclose(result.inside["linear"].numpy(), inside, rtol=1e-4)
    assert result.foreground == pytest.approx(mask.numpy().mean())
    assert [row["l1 norm"] for row in result.frame()] == pytest.approx(sizes.sum((1, 2, 3)).tolist(), rel=1e-4)


def test_surface():
    """Two images of four pixels: one of the 256 patterns of random signs explains the whole table."""
    model = mlp(size=2, channels=1)
    x, y = torch.tensor([[0.02, 0.5, 0.97, 0.4], [0.6, 0.3, 0.5, 0.8]]).view(2, 1, 2, 2), torch.tensor([0, 3])
    result = surface({"m": model}, x, y, eps=0.2, places=5)
    steps = np.linspace(-0.2, 0.2, 5)
    assert result.steps == pytest.approx(steps, abs=1e-6)
    slope = slope_at(model, x, y)
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=4))).view(16, 1, 2, 2)
    tables = []
    for image, label, way in zip(x, y, slope.sign(), strict=True):
        places = [(image + float(a) * way + float(b) * signs).clamp(0, 1) for a in steps for b in steps]
        tables.append(np.stack([costs(model, place, label.expand(16)) for place in places], 1))
    means = (tables[0][:, None] + tables[1][None]) / 2
    fits = np.isclose(means, result.loss["m"].numpy().flatten(), rtol=1e-4).all(2)
    assert fits.sum() == 1
    step = (x + 0.2 * slope.sign()).clamp(0, 1) - x
    tangent = (slope * step).double().flatten(1).sum(1).mean().item()
    rise = result.loss["m"][4, 2] - result.loss["m"][2, 2]
    assert result.bend["m"] == pytest.approx(abs(rise.item() - tangent) / tangent, rel=1e-3)


class Threshold(nn.Module):
    """Whether the mean, or the spread, of an image is above a place."""

    def __init__(self, what, middle):
        super().__init__()
        self.what, self.middle = what, middle

    def forward(self, x):
        z = self.what(x.flatten(1)) - self.middle
        return torch.stack([-z, z], 1)


def test_a_profile_of_brightness_and_contrast():
    """With the published parameters for images of 32 pixels, in 256 levels."""
    shades = torch.linspace(0.1, 0.8, 40).view(40, 1, 1, 1)
    x = (shades + 0.2 * (torch.rand(40, 1, 5, 5) - 0.5) * torch.linspace(0.2, 1, 40).view(40, 1, 1, 1)).clamp(0, 1)
    models = {
        "mean": Threshold(lambda flat: flat.mean(1), 0.4503),
        "spread": Threshold(lambda flat: flat.std(1), 0.0331),
    }
    values = x.double().numpy()
    mean = values.mean((2, 3), keepdims=True)
    expected = {
        "brightness": [np.clip(values + more, 0, 1) for more in (0.05, 0.1, 0.15, 0.2, 0.3)],
        "contrast": [(values - mean) * share + mean for share in (0.75, 0.5, 0.4, 0.3, 0.15)],
    }
    for name, model in models.items():
        y = torch.from_numpy(logits_of(model, x).argmax(1))
        y = torch.where(torch.arange(40) % 10 == 3, 1 - y, y)
        result = profile({name: model}, Dataset(x, y, ("a", "b")), kinds=("brightness", "contrast")).damage[name]
        assert result.clean == pytest.approx(0.9)
        for kind, changed in expected.items():
            levels = [torch.from_numpy(np.floor(255 * part + 1e-6) / 255).float() for part in changed]
            shares = [right(model, part, y).mean() for part in levels]
            assert result.accuracy[kind] == pytest.approx(shares)
            assert result.errors[kind] == pytest.approx(1 - np.mean(shares))


class Shining(nn.Module):
    """Saliency is brightness."""

    def forward(self, x):
        return x / x.sum((1, 2, 3), keepdim=True)


def test_suspicion():
    """Two classes, linear: without weight on the score the images are corners; with much, the foreground is lit."""
    weight, front, back = torch.randn(2, 1, 4, 4), 0.05, 0.25
    model = Linear(weight, -0.5 * weight.flatten(1).sum(1))
    x, mask = torch.rand(40, 1, 4, 4), masks(40, size=4)
    y = torch.from_numpy(logits_of(model, x).argmax(1))
    result = suspicion({"m": model}, x, y, mask, eps=front, eps_background=back, lambdas=(0.0, 1e6), saliency=Shining())
    radius = np.where(mask.numpy(), front, back)
    w = (weight[1] - weight[0]).sign().double().numpy()
    away = np.where(y.numpy() == 1, -1, 1)[:, None, None, None] * w
    lit = np.where(mask.numpy(), 1, -1)
    for k, way in enumerate((away, lit)):
        moved = np.clip(x.double().numpy() + radius * way, 0, 1)
        scores = (moved * mask.numpy()).sum((1, 2, 3)) / moved.sum((1, 2, 3))
        assert result.score["m"][k] == pytest.approx(scores.mean(), rel=1e-5)
        assert result.accuracy["m"][k] == pytest.approx(right(model, torch.from_numpy(moved).float(), y).mean())
    clean = (x * mask).sum((1, 2, 3)) / x.sum((1, 2, 3))
    assert result.clean == pytest.approx(clean.mean().item(), rel=1e-5)


def test_attribution():
    """The top-k attack step by step on a smooth network, where softplus stands for nothing."""
    eps, steps, k = 0.1, 5, 4
    model = mlp(dtype=torch.float64)
    x = images(10, dtype=torch.float64)
    y = torch.from_numpy(logits_of(model, x).argmax(1))
    y[3] = (y[3] + 1) % 4
    result = attribution({"m": model}, x, y, eps=eps, steps=steps, k=k)

    def saliency(image, label):
        (slope,) = torch.autograd.grad(model(image[None])[0, label], image, create_graph=True)
        whole = slope.abs().sum(0)
        return (whole / whole.sum()).flatten()

    def mapped(image, label):
        return saliency(image.clone().requires_grad_(), label).detach().numpy()

    def top(values):
        return set(np.argsort(-values)[:k].tolist())

    kept = [i for i in range(10) if i != 3]
    noise = torch.randn(9, 2, 6, 6, generator=torch.Generator().manual_seed(0)).sign()
    shares, ranks, under_noise = [], [], []
    for i, sign in zip(kept, noise, strict=True):
        before = mapped(x[i], y[i])
        chosen = sorted(top(before))
        candidates, image = [x[i], (x[i] + eps * sign).clamp(0, 1)], x[i]
        under_noise.append(len(top(before) & top(mapped(candidates[1], y[i]))) / k)
        for _ in range(steps):
            leaf = image.clone().requires_grad_()
            (slope,) = torch.autograd.grad(saliency(leaf, y[i])[chosen].sum(), leaf)
            image = (image - 2 * eps / steps * slope.sign()).clamp(x[i] - eps, x[i] + eps).clamp(0, 1)
            candidates.append(image)
        best = min(
            (c for c in candidates if logits_of(model, c[None]).argmax() == y[i]),
            key=lambda c, before=before, i=i: len(top(before) & top(mapped(c, y[i]))),
        )
        shares.append(len(top(before) & top(mapped(best, y[i]))) / k)
        ranks.append(stats.spearmanr(before, mapped(best, y[i])).statistic)
    assert min(shares) < 0.6
    assert result.top["m"].tolist() == pytest.approx(shares)
    assert result.rank["m"].tolist() == pytest.approx(ranks, rel=1e-4)
    assert result.noise["m"] == pytest.approx(np.mean(under_noise))


def test_interpretability():
    """A step towards the target on a linear network; maps, percentiles and scores by NumPy."""
    weight, eps = torch.randn(3, 2, 6, 6), 0.15
    model, x = Linear(weight), images(30)
    y = torch.from_numpy(logits_of(model, x).argmax(1))
    y[::7] = (y[::7] + 1) % 3
    target = (y + 1 + torch.arange(30) % 2) % 3
    attacks = {"small": assay.FGSM(eps), "large": assay.FGSM(2 * eps)}
    result = interpretability(model, x, y, target, attacks, percentiles=(40, 80))
    rows, flat = weight.flatten(1).double().numpy(), x.flatten(1).double().numpy()
    p = np.exp(flat @ rows.T - np.logaddexp.reduce(flat @ rows.T, axis=1, keepdims=True))
    way = np.sign((np.eye(3)[target.numpy()] - p) @ rows)
    moved = {name: np.clip(flat + size * way, 0, 1) for name, size in (("small", eps), ("large", 2 * eps))}
    reached = (flat @ rows.T).argmax(1) == y.numpy()
    for part in moved.values():
        reached &= (part @ rows.T).argmax(1) == target.numpy()
    assert result.count == reached.sum()
    assert 2 < reached.sum() < 20
    for name, part in moved.items():
        deltas, scores = (part - flat)[reached], {m: [] for m in ("full", "dual", "promotion", "suppression")}
        for delta, true, goal in zip(deltas, y[reached].tolist(), target[reached].tolist(), strict=True):
            up, down = rows[goal], -rows[true]
            rest = sum(rows[k] for k in range(3) if k != goal)
            maps = {
                "full": np.where((up >= 0) & (rest <= 0), up * np.abs(rest), 0),
                "dual": np.where((up >= 0) & (down >= 0), up * down, 0),
                "promotion": up,
                "suppression": down,
            }
            for kind, values in maps.items():
                cuts = [values > np.percentile(values, v) for v in (40, 80)]
                scores[kind].append([np.linalg.norm(delta[cut]) / np.linalg.norm(delta) for cut in cuts])
        for kind, values in scores.items():
            assert np.allclose(result.each[kind][name].numpy(), values, rtol=1e-4)
            assert result.score[kind][name] == pytest.approx(np.mean(values, axis=0), rel=1e-4)
        pixels = (np.abs(deltas.reshape(-1, 2, 36)).max(1) > 1e-7).mean()
        assert result.size[name] == pytest.approx((pixels, np.linalg.norm(deltas, axis=1).mean()), rel=1e-4)


def test_parameters():
    """Filters' gradients image by image; standardised over validation, sorted in each layer, of turned images only."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 4)).eval()
    x, y = labelled(model, 30)
    validation = labelled(model, 12, seed=5)
    result = parameters(model, x, y, {"FGSM": assay.FGSM(EPS)}, validation)

    def rows(x, y):
        result = []
        for image, label in zip(x, y, strict=True):
            z = model(image[None])[0]
            slopes = torch.autograd.grad(z.logsumexp(0) - z[label], [model[0].weight, model[3].weight])
            result.append([float(row.abs().mean()) for slope in slopes for row in slope])
        return np.array(result)

    known = rows(*validation)

    def sorted_mean(x, y):
        away = np.abs(rows(x, y) - known.mean(0)) / known.std(0)
        return np.concatenate([-np.sort(-part, axis=1) for part in (away[:, :3], away[:, 3:])], axis=1).mean(0)

    moved = fast_sign(model, x, y)
    good = right(model, x, y)
    turned = good & ~right(model, moved, y)
    assert dict(result.counts) == {"clean": good.sum(), "FGSM": turned.sum()}
    assert 3 < turned.sum() < good.sum() < 30
    assert np.allclose(result.profile["clean"].numpy(), sorted_mean(x[good], y[good]), rtol=1e-3)
    assert np.allclose(result.profile["FGSM"].numpy(), sorted_mean(moved[turned], y[turned]), rtol=1e-3)


def test_tradeoff():
    """An image with margin m of a linear network falls iff m < ε·‖w‖₁, inside the box."""
    eps, generator = 0.05, torch.Generator().manual_seed(2)
    x = 0.3 + 0.4 * torch.rand(60, 1, 3, 3, generator=generator)
    weights = [torch.randn(2, 1, 3, 3, generator=generator) for _ in range(2)]
    nets = {str(i): Linear(w, -0.5 * w.flatten(1).sum(1)) for i, w in enumerate(weights)}
    y = torch.from_numpy(logits_of(nets["0"], x).argmax(1))
    result = tradeoff(nets, x, y, assay.APGD(eps, steps=10))
    for i, w in enumerate(weights):
        way = (w[1] - w[0]).flatten().double().numpy()
        margin = (x.flatten(1).double().numpy() - 0.5) @ way * np.where(y.numpy() == 1, 1, -1)
        assert result.clean[i] == pytest.approx((margin > 0).mean())
        assert result.robust[i] == pytest.approx((margin > eps * np.abs(way).sum()).mean())
        assert 0 < result.robust[i] < result.clean[i]


@pytest.mark.parametrize("fill", [0.0, 0.5, 0.95, 1.0])
def test_a_linear_loss_has_no_bend_at_the_edge_of_the_box(fill):
    """Where pixels are black or white the step is shorter, and so is the tangent."""

    class Straight(nn.Module):
        def forward(self, x):
            z = 50 * x.flatten(1).mean(1)
            return torch.stack([torch.zeros_like(z), -z - 20], 1)

    labels = torch.ones(3, dtype=torch.int64)
    bend = surface({"m": Straight()}, torch.full((3, 1, 2, 2), fill), labels, eps=0.1, places=5).bend["m"]
    assert bend == pytest.approx(0, abs=1e-4)
