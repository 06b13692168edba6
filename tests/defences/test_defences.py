"""Defences: what they compute, and that the attack they declare goes through them end to end."""

import math

import pytest
import torch
from scipy.stats import norm
from torch import nn

import assay
from assay.core.rng import Rng
from assay.core.rows import Rows, targeted, untargeted
from assay.data import Dataset, load
from assay.defences import (
    ABSTAIN,
    Adaptation,
    BitDepth,
    Blur,
    Detector,
    Guarded,
    Jpeg,
    Median,
    PixelDefend,
    PixelDensity,
    Projection,
    RandomInput,
    Reconstruction,
    ResizePad,
    SelfEnsemble,
    Smoothed,
    Squeezing,
    StraightThrough,
    TotalVariation,
    Transformed,
    accepted,
    adaptation_of,
    certified_radius,
    defend,
    roc,
    threshold_at,
)
from assay.defences.differentiable_jpeg import DifferentiableJpeg
from assay.defences.fit import fit_autoencoder, fit_cleaner, fit_density, fit_detector, fit_generator
from assay.defences.purifiers import Generator, Masked
from assay.models import with_noise_layers
from assay.parts.losses import Evasion
from models_for_tests import images, mlp, predicted

CHANGES = [Jpeg(60), BitDepth(2), Blur(1.0), Median(2), Median(3), TotalVariation(0.1)]


@pytest.fixture(scope="module")
def problem():
    model, x = mlp(), images(48)
    return model, x, predicted(model, x)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_changes_are_row_by_row_and_stay_in_the_box(change):
    x = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = change(x)
    assert made.shape == x.shape
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1 + 1e-6
    assert torch.allclose(made, torch.cat([change(one) for one in x.split(1)]), atol=1e-6)
    flat = torch.full((1, 3, 16, 16), 2 / 3)  # a level of two bits, and of no texture
    assert torch.allclose(change(flat), flat, atol=2e-3)


def test_changes_by_hand():
    x = torch.tensor([[[[0.1, 0.9], [0.4, 0.6]]]])
    assert torch.allclose(BitDepth(1)(x), torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
    assert Median(1)(x).equal(x)
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    assert torch.allclose(Median(3)(ramp)[0, 0, 2], torch.tensor([1.0, 1, 2, 3, 3]))  # reflected at the border
    assert torch.allclose(Blur(1.0)(ramp)[0, 0, 2, 2], torch.tensor(2.0))
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1
    row = Blur(1.0)(impulse)[0, 0, 4]
    assert float(row[5] / row[4]) == pytest.approx(math.exp(-0.5), rel=1e-5)


def test_total_variation_solves_its_problem():
    """Against a step: the levels approach each other by weight times perimeter over area (known solution)."""
    x = torch.zeros(1, 1, 1, 20)
    x[..., 10:] = 1
    z = TotalVariation(0.5, steps=3000)(x)
    assert torch.allclose(z[..., :10], torch.tensor(0.05), atol=2e-3)  # each side of 10 pixels moves by 0.5/10
    assert torch.allclose(z[..., 10:], torch.tensor(0.95), atol=2e-3)

    def energy(image):
        return 0.5 * (image - x).square().sum() + 0.5 * (image[..., 1:] - image[..., :-1]).abs().sum()

    for seed in range(5):
        other = z + 0.02 * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
        assert energy(z) <= energy(other)


def test_straight_through_has_the_answer_of_the_change_and_the_gradient_of_the_identity(problem):
    model, x, _ = problem
    change = BitDepth(1)
    seen = StraightThrough(model, change)
    z = x[:4].clone().requires_grad_()
    assert torch.equal(seen(z), Transformed(model, change)(x[:4]))
    (grad,) = torch.autograd.grad(seen(z).sum(), z)
    inner = change(x[:4]).requires_grad_()
    assert torch.allclose(grad, torch.autograd.grad(model(inner).sum(), inner)[0])


def test_attacks_take_the_gradient_that_a_change_declares():
    """A median and a blur have one, JPEG compression a stand-in; of anything else it is the identity's."""
    flat = nn.Flatten()
    for change in (Median(2), Blur(1.0), TotalVariation(0.1)):
        assert Transformed(flat, change).adaptation().surrogate is None
    assert Transformed(flat, Jpeg(60)).stand_in == DifferentiableJpeg(60)
    assert Transformed(flat, Jpeg(60), through=False).stand_in is None
    assert Transformed(flat, Jpeg(60), stand_in=Blur(1.0)).stand_in == Blur(1.0)
    assert "as if it were the identity" in Transformed(flat, lambda x: x.round()).adaptation().how
    assert "as if it were the identity" in defend(flat, "jpeg:quality=60,gradient=identity").adaptation().how


def test_a_defence_around_a_defence_is_attacked_through_both(problem):
    """The inner one rounds: without its own way past that no gradient would be left."""
    model, x, _ = problem
    inner = Transformed(model, BitDepth(1))
    squeezed = Squeezing(inner, (BitDepth(2), Median(2)), 0.1)
    around = {
        "median": Transformed(inner, Median(2)),
        "jpeg": Transformed(inner, Jpeg(60)),
        "bits": Transformed(inner, BitDepth(2)),
        "detector": Guarded(inner, lambda images: images.flatten(1).mean(1) - 2),
        "squeezing": Guarded(inner, squeezed),
        "random size": defend(inner, "resize-pad:least=0.9"),
        "smoothing": defend(inner, "smoothing:sigma=0.1"),
        "distilled": defend(inner, "distilled:temperature=2"),
    }
    for name, defended in around.items():
        how = adaptation_of(defended)
        assert "BPDA" in how.methods, name
        assert "behind it: BPDA: forward through BitDepth(bits=1)" in how.how, name
        images = x[:4].clone().requires_grad_()
        logits = how.surrogate(images)
        if name in ("median", "jpeg", "bits", "detector", "squeezing"):  # the others draw, or divide their logits
            assert torch.allclose(logits, defended(x[:4]), atol=1e-4), name
        (slopes,) = torch.autograd.grad(logits[:, :4].square().sum(), images)
        assert bool(slopes.flatten(1).abs().sum(1).gt(0).all()), name


def test_a_change_before_a_detector_keeps_its_condition_and_its_objective(problem):
    model, _, _ = problem
    guarded = Guarded(model, lambda images: images.flatten(1).mean(1) - 2)
    how = Transformed(guarded, BitDepth(2)).adaptation()
    assert (how.test, how.objective) == (accepted, Evasion())
    assert how.methods == ("BPDA", "joint")


@pytest.mark.parametrize("change", [Jpeg(20), Median(3)], ids=str)
def test_the_declared_gradient_breaks_more_than_the_identity(change, problem):
    """Of 48 images JPEG keeps 1 rather than 8, the median filter 12 rather than 36."""
    model, x, _ = problem
    attack, survived = assay.APGD(0.04, steps=30), {}
    for through in (None, False):
        defended = Transformed(model, change, through=through)
        how = defended.adaptation()
        y = predicted(defended, x)
        outcome = assay.attack(defended, x, y, attack, surrogate=how.surrogate, preflight=False)
        survived[through] = int(outcome.robust.sum())
    assert survived[None] <= survived[False] - 3


@pytest.mark.parametrize("spec", ["bits:bits=2", "jpeg:quality=60", "median"])
def test_the_adaptive_attack_breaks_what_the_plain_gradient_cannot(spec, problem):
    model, x, _ = problem
    defended = defend(model, spec)
    y = predicted(defended, x)
    adaptation = adaptation_of(defended)
    attack = assay.PGD(0.15, steps=20)
    if spec.startswith("bits"):  # no gradient at all
        plain = assay.attack(defended, x, y, assay.FGSM(0.15), preflight=False)
        adaptive = assay.attack(defended, x, y, assay.FGSM(0.15), surrogate=adaptation.surrogate, preflight=False)
        assert adaptive.robust_accuracy < plain.robust_accuracy - 0.2
    found = assay.attack(defended, x, y, attack, surrogate=adaptation.surrogate, preflight=False)
    oblivious = assay.attack(defended, x, y, attack, surrogate=model, preflight=False)
    assert found.robust_accuracy <= oblivious.robust_accuracy
    assert found.robust_accuracy < 0.3
    broken = ~found.robust
    assert bool((predicted(defended, found.images)[broken] != y[broken]).all())  # measured on the defence itself


def test_a_surrogate_is_only_what_the_attack_sees(problem):
    """Hits are the model's; with a surrogate that is no help, hardly anything is found."""
    model, x, y = problem
    torch.manual_seed(5)
    other = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 4))
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    blind = assay.attack(model, x, y, assay.PGD(0.1, steps=10), surrogate=other, preflight=False)
    handle.remove()
    white = assay.attack(model, x, y, assay.PGD(0.1, steps=10), preflight=False)
    assert white.robust_accuracy < blind.robust_accuracy
    broken = ~blind.robust
    assert bool((predicted(model, blind.images)[broken] != y[broken]).all())
    assert all(p.requires_grad for p in other.parameters())
    assert calls


def test_resize_and_pad_draws_by_address():
    x = torch.rand(4, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    change, rng = ResizePad(0.6), Rng(0)
    keys = torch.tensor([3, 4, 5, 6])
    step = torch.zeros(4, dtype=torch.int64)
    made = change(x, rng, keys, step, "test")
    again = torch.cat([change(x[i : i + 1], rng, keys[i : i + 1], step[:1], "test") for i in (3, 2, 1, 0)])
    assert torch.allclose(made, again.flip(0), atol=1e-6)
    assert not torch.allclose(made, change(x, rng, keys, step + 1, "test"))
    assert torch.allclose(ResizePad(1.0)(x, rng, keys, step, "test"), x, atol=1e-5)
    border = torch.cat([made[:, :, 0].flatten(), made[:, :, -1].flatten()])
    assert (border == 0.5).float().mean() > 0.2  # part of the frame shows


@pytest.mark.parametrize("make", [lambda m: RandomInput(m, ResizePad(0.8)), lambda m: Smoothed(m, 0.1)])
def test_random_defences_answer_alike_and_are_attacked_in_expectation(make, problem):
    model, x, _ = problem
    defended = make(model).eval()
    y = predicted(defended, x)
    assert torch.equal(defended(x), defended(x))
    assert torch.allclose(defended(x)[:5], defended(x[:5]), atol=1e-5)
    adaptation = adaptation_of(defended)
    assert "EOT" in adaptation.how
    adaptive = assay.attack(defended, x, y, assay.PGD(0.1, steps=10), surrogate=adaptation.surrogate, preflight=False)
    plain = assay.attack(defended, x, y, assay.PGD(0.1, steps=10), surrogate=model, preflight=False)
    assert adaptive.robust_accuracy <= plain.robust_accuracy


def test_noise_layers_are_before_each_convolution_and_always_on():
    net = assay.models.build("tiny-cnn", channels=1, classes=4, size=12).eval()
    noisy = with_noise_layers(net).eval()
    convolutions = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    assert sum(type(m).__name__ == "Noise" for m in noisy.modules()) == convolutions
    assert sum(type(m).__name__ == "Noise" for m in net.modules()) == 0
    x = torch.rand(2, 1, 12, 12)
    assert not torch.equal(noisy(x), noisy(x))
    ensemble = SelfEnsemble(noisy, draws=400)
    assert (ensemble(x).exp() - ensemble(x).exp()).abs().max() < 0.1


class Half(nn.Module):
    """1 where the mean is above a half: smoothed by noise, its probabilities are known."""

    def forward(self, x):
        z = x.mean((1, 2, 3)) - 0.5
        return torch.stack([-z, z], 1)


def test_certified_radii_are_those_of_the_reference_and_never_too_large():
    """Lower confidence bounds as statsmodels' ``proportion_confint(..., alpha=2α, method="beta")[0]`` has them."""
    for count, n, alpha, sigma in ((9990, 10_000, 0.001, 0.5), (99, 100, 0.05, 0.25), (600, 1000, 0.001, 1.0)):
        low, high = 0.0, 1.0  # P(Binomial(n, p) ≥ count) = α, by bisection on the exact tail
        from scipy.stats import binom

        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if binom.sf(count - 1, n, middle) < alpha else (low, middle)
        expected = sigma * norm.ppf(low) if low > 0.5 else 0.0
        assert certified_radius(count, n, alpha, sigma) == pytest.approx(expected, abs=1e-6)
    assert certified_radius(0, 10, 0.001, 0.5) == 0
    smooth = Smoothed(Half(), sigma=0.25)
    x = torch.full((3, 1, 4, 4), 0.5)
    x[0] += 0.05
    x[1] -= 0.1
    found = smooth.certify(x, n=2000, n0=50)
    true = torch.tensor([0.05 * 4, 0.1 * 4, 0.0], dtype=torch.float64)  # distance to the boundary in l2
    assert bool((found.radius <= true + 1e-9).all())
    assert found.label.tolist()[:2] == [1, 0]
    assert found.label[2] == ABSTAIN
    assert found.radius[0] > 0.15


def test_predictions_abstain_where_votes_are_close():
    smooth = Smoothed(Half(), sigma=0.25)
    x = torch.full((2, 1, 4, 4), 0.5)
    x[0] += 0.2
    assert smooth.predict(x, n=100).tolist() == [1, ABSTAIN]
    assert ABSTAIN not in smooth.predict(x, n=1).tolist()
    one_by_one = torch.cat([smooth.predict(one, n=100, batch=7) for one in x.split(1)])
    assert torch.equal(one_by_one, smooth.predict(x, n=100))
    votes = smooth.votes(x, 400, "test")
    assert votes.sum(1).tolist() == [400, 400]
    share = float(norm.cdf(0.2 * 4 / 0.25))
    assert abs(float(votes[0, 1]) / 400 - share) < 0.02


def test_evasion_is_wrong_and_not_refused():
    logits = torch.tensor([[3.0, 1, 0, 2], [1, 3, 0, 2], [1, 3, 0, 4], [3, 2.5, 0, 4]])
    x = torch.zeros(4, 1, 1, 1)
    y = torch.zeros(4, dtype=torch.long)
    rows = Rows(x, untargeted(y), y)
    value = Evasion()(logits, x, rows)
    assert value.tolist() == [-2, 1, -1, -1.5]
    assert ((value > 0) == ((logits.argmax(1) != y) & accepted(logits, x))).all()
    aimed = Rows(x, targeted(y, y + 1), y)
    assert Evasion()(logits, x, aimed).tolist() == [-2, 1, -1, -1.5]


def test_arguments_that_are_no_defence(problem):
    model, x, _ = problem
    for name, wrong in (("change", {"change": 3}), ("through", {"through": "yes"}), ("stand_in", {"stand_in": 3})):
        with pytest.raises(TypeError, match=f"^{name}: expected"):
            Transformed(model, **{"change": BitDepth(3), **wrong})
    for name, parts in (("model", (None, model)), ("score", (model, None))):
        with pytest.raises(TypeError, match=f"^{name}: expected a module or a function of images, got None"):
            Guarded(*parts)
    doubled = Transformed(nn.Flatten(), lambda images: torch.cat([images, images], 3))
    assert doubled(x).shape == (len(x), 2 * x[0].numel())  # a change of size is a change, too
    with pytest.raises(ValueError, match=r"change without a stand_in: expected images of the same shape, \(48, "):
        doubled.adaptation().surrogate(x)
    for score in (lambda images: images.flatten(1), lambda images: images.mean()):
        with pytest.raises(ValueError, match=r"score: expected one number an image, a tensor of shape \(48,\), got"):
            Guarded(model, score)(x)


def test_two_detectors_refuse_what_either_refuses(problem):
    model, x, y = problem
    bright = Guarded(model, lambda images: images.flatten(1).mean(1) - 0.5)
    both = Guarded(Transformed(bright, BitDepth(7)), lambda images: 0.45 - images.flatten(1).mean(1))
    mean = x.flatten(1).mean(1)
    logits = both(x)
    assert logits.shape == (len(x), model(x).shape[1] + 1)
    refused = ~accepted(logits, x)
    assert torch.equal(refused, (BitDepth(7)(x).flatten(1).mean(1) > 0.5) | (mean < 0.45))
    assert 0 < int(refused.sum()) < len(x)
    how = both.adaptation()
    assert (how.test, how.objective) == (accepted, Evasion())
    kept = ~refused
    attack = how.adapt(assay.APGD(0.2, steps=20))
    outcome = assay.attack(both, x[kept], y[kept], attack, surrogate=how.surrogate, test=how.test, preflight=False)
    broken = outcome.status == int(assay.Status.BROKEN)
    assert bool(broken.any())
    assert bool(accepted(both(outcome.images[broken]), outcome.images[broken]).all())


class Hesitant(nn.Module):
    """A classifier whose owner counts only what it is sure of."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)

    def adaptation(self):
        return Adaptation("sure of it", test=lambda logits, x: logits.softmax(1).amax(1) > 0.5)


def test_a_condition_behind_a_detector_holds_too(problem):
    model, x, _ = problem
    guarded = Guarded(Hesitant(model), lambda images: images.flatten(1).mean(1) - 0.5)
    how, logits = guarded.adaptation(), guarded(x)
    sure = model(x).softmax(1).amax(1) > 0.5
    assert torch.equal(how.test(logits, x), sure & accepted(logits, x))
    assert 0 < int(how.test(logits, x).sum()) < int(accepted(logits, x).sum())


def test_a_guarded_classifier_refuses_and_is_attacked_jointly(problem):
    model, x, y = problem
    score = Squeezing(model, (BitDepth(2), Median(2)), threshold=0.0)
    threshold = threshold_at(score.distance(x).detach(), 0.05)
    guarded = Guarded(model, Squeezing(model, (BitDepth(2), Median(2)), threshold)).eval()
    refused = guarded(x).argmax(1) == 4
    assert int(refused.sum()) == 2  # 5 % of 48
    keep = ~refused
    x, y = x[keep], y[keep]
    how = adaptation_of(guarded)
    attack = assay.PGD(0.2, steps=30)
    naive = assay.attack(guarded, x, y, attack, surrogate=model, test=how.test, preflight=False)
    joint = assay.attack(guarded, x, y, how.adapt(attack), surrogate=how.surrogate, test=how.test, preflight=False)
    assert joint.robust_accuracy <= naive.robust_accuracy
    logits = guarded(joint.images)
    broken = ~joint.robust
    assert bool(((logits.argmax(1) != y) & (logits.argmax(1) != 4))[broken].all())


def test_the_objective_is_replaced_wherever_there_is_one():
    how = Adaptation("x", objective=Evasion())
    assert how.adapt(assay.PGD(0.1, steps=3)).objective == Evasion()
    suite = how.adapt(assay.Standard(0.1))
    assert repr(suite).count("_Evasion") >= 2
    assert Adaptation("x").adapt(assay.PGD(0.1)) == assay.PGD(0.1)


def test_roc_by_hand():
    false, true, area = roc(torch.tensor([0.1, 0.4]), torch.tensor([0.35, 0.8]))
    assert area == pytest.approx(0.75)
    assert (float(false[0]), float(true[0]), float(false[-1]), float(true[-1])) == (0, 0, 1, 1)
    assert roc(torch.zeros(5), torch.zeros(5))[2] == pytest.approx(0.5)
    assert roc(torch.zeros(5), torch.ones(5))[2] == 1


DATA = load("scenes:size=16,count=160", split="train")


def test_autoencoder_and_detector_learn_and_resume(tmp_path):
    losses = []
    net = fit_autoencoder(DATA, epochs=4, out=tmp_path / "a.pt", progress=lambda *now: losses.append(now[2]))
    assert losses[-1] < losses[0]
    fit_autoencoder(DATA, epochs=2, out=tmp_path / "b.pt")
    again = fit_autoencoder(DATA, epochs=4, out=tmp_path / "b.pt")
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    score = Reconstruction(net, threshold=Reconstruction(net, 1.0).error(DATA.images()).max().item())
    assert bool((score(DATA.images()) <= 1e-6).all())
    assert bool((score(torch.rand(4, 3, 16, 16)) > 0).all())


def test_a_detector_tells_noise_from_images():
    model = assay.models.build("tiny-cnn", channels=3, classes=8, size=16).eval()
    net = fit_detector(DATA, model, assay.FGSM(0.2), epochs=6, rate=3e-3)
    moved = assay.perturb(model, DATA.images(), DATA.y, assay.FGSM(0.2))
    with torch.no_grad():
        assert roc(net(DATA.images()), net(moved))[2] > 0.9
    assert isinstance(net, Detector)


def test_a_cleaner_comes_nearer_to_the_clean_image():
    model = assay.models.build("tiny-cnn", channels=1, classes=2, size=8).eval()
    shades = torch.linspace(0.3, 0.7, 128).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()  # no texture at all
    data = Dataset(shades, torch.arange(128) % 2, ("a", "b"))
    net = fit_cleaner(data, model, assay.UniformNoise(0.2), epochs=40, rate=3e-3)
    moved = assay.perturb(model, shades, data.y, assay.UniformNoise(0.2), seed=7)
    with torch.no_grad():
        assert (net(moved) - shades).square().mean() < 0.5 * (moved - shades).square().mean()


def test_projection_finds_what_the_generator_made():
    torch.manual_seed(0)
    generator = Generator(1, 8, latent=8)
    with torch.no_grad():
        x = generator(torch.randn(3, 8))
    near = Projection(generator, steps=200, restarts=4, rate=20.0)
    start = Projection(generator, steps=0, restarts=1)
    assert (near(x) - x).square().mean() < 0.3 * (start(x) - x).square().mean()
    assert torch.allclose(near(x)[1:2], near(x[1:2]), atol=1e-4)
    z = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(Projection(generator, steps=5, restarts=2, rate=20.0)(z).sum(), z)
    assert float(grad.abs().sum()) > 0


def test_the_generator_learns():
    losses = []
    fit_generator(DATA, epochs=2, latent=16, progress=lambda *now: losses.append(now[2]))
    assert all(math.isfinite(loss) for loss in losses)


def test_density_looks_only_back():
    """A value's distribution does not move with what comes after it."""
    torch.manual_seed(0)
    net = PixelDensity(1, levels=4, width=8, depth=2)
    x = torch.rand(1, 1, 9, 9)
    before = net(x)
    changed = x.clone()
    changed[0, 0, 4, 5:] = 0.5
    changed[0, 0, 5:] = 0.5
    after = net(changed)
    assert torch.allclose(before[..., :4, :], after[..., :4, :])
    assert torch.allclose(before[..., 4, :6], after[..., 4, :6])
    assert not torch.allclose(before[..., 5, :], after[..., 5, :])
    assert torch.allclose(before.exp().sum(2), torch.ones(1, 1, 9, 9), atol=1e-5)
    assert Masked(1, 1, 3, first=True).mask.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_pixel_defend_moves_each_value_to_its_likeliest_level_within_reach():
    net = fit_density(DATA, levels=8, epochs=1)
    x = DATA.images(slice(0, 2))
    made = PixelDefend(net, eps=0.15)(x)
    assert float((made - x).abs().max()) <= 0.15 + 1e-5
    with torch.no_grad():
        levels = net.quantised(made)
        likely = net(made).gather(2, levels[:, :, None]).mean()
        rounded = (x * 7).round() / 7
        assert likely > net(rounded).gather(2, net.quantised(x)[:, :, None]).mean()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jpg", "did you mean 'jpeg'?"),
        ("jpeg:qualty=3", "did you mean 'quality'?"),
        ("jpeg:quality=0", "quality: expected a whole number"),
        ("smoothing", "smoothing:sigma: expected a value"),
        ("bits:bits=0", "bits: expected a whole number"),
    ],
)
def test_bad_specs(spec, message, problem):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        defend(problem[0], spec)
