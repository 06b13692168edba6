"""Learning signatures: the data set, the losses, resuming, and the identifier that may say it does not know."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import assay
from assay.data import Dataset
from assay.signatures import (
    KINDS,
    SCENARIOS,
    Confusion,
    Examples,
    Grid,
    Helpers,
    Plan,
    Reconstructor,
    Setting,
    calibrate,
    confusion,
    innocence,
    load_identifier,
    make_examples,
    recogniser_confusion,
    recognition_table,
    restoration_table,
    settings,
    train_recogniser,
)
from assay.signatures.calibration import fitted_temperature
from assay.signatures.examples import _eight_bits
from assay.signatures.identifier import Guess
from assay.signatures.losses import Losses
from assay.signatures.networks import Recogniser, layer_of
from assay.signatures.novelty import distance
from assay.util.tensors import read_tensors, write_tensors
from models_for_tests import Counting, mlp, predicted

SIZE = 8


def data(n=24, seed=0):
    x = torch.randint(0, 256, (n, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Dataset(x, predicted(victim(), x.float() / 255), tuple("abcd"))


def victim(seed=0):
    return mlp(channels=1, size=SIZE, seed=seed)


TWO = (
    Setting("pgd", assay.PGD(0.2, steps=3)),
    Setting("pgd", assay.PGD(0.4, steps=3)),
    Setting("noise", assay.FGSM(0.3)),
)


def examples(n=24, seed=0, **more):
    return make_examples({"a": victim(0), "b": victim(1)}, data(n, seed), TWO, **more)


def test_the_grid_of_table_two():
    found = settings(32)
    assert [s.kind for s in found].count("patch") == 9
    by = {kind: [s.attack.describe() for s in found if s.kind == kind] for kind in KINDS}
    assert by["pgd"] == ["PGD-100 linf 4/255", "PGD-100 linf 8/255", "PGD-100 linf 16/255"]
    assert len(by["deepfool"]) == 1
    assert len(by["cw-l2"]) == 2
    assert len(by["cw-linf"]) == 3
    assert [s.words for s in found if s.kind == "cw-l2"] == ["C&W-1×1000 l2, c = 100", "C&W-1×1000 l2, c = 1000"]
    assert len([s for s in settings(12) if s.kind == "patch"]) == 6  # 16 pixels do not fit
    assert len([s for s in settings(16) if s.kind == "patch"]) == 9
    with pytest.raises(ValueError, match="kinds: expected one of"):
        settings(32, kinds=("pgdd",))
    with pytest.raises(ValueError, match="a patch smaller than the images"):
        settings(32, Grid(sides=(33,)), ("patch",))
    with pytest.raises(ValueError, match="eps: expected at least one value"):
        Grid(eps=())


def test_every_image_is_attacked_once_by_every_kind_in_turn():
    found, base = examples(), data()
    assert found.kinds == ("clean", "pgd", "noise")
    assert torch.equal(found.images[found.kind == 0], base.x)
    assert not found.fooled[found.kind == 0].any()
    for kind in (1, 2):
        at = found.kind == kind
        whole = {row.tobytes() for row in found.clean[at].flatten(1).numpy()}
        assert len(whole) == int(at.sum())  # no image twice
        assert set(found.victim[at].tolist()) == {0, 1}
        assert (found.images[at] != found.clean[at]).flatten(1).any(1).all()
    assert set(found.setting[found.kind == 1].tolist()) == {0, 1}
    change = (found.images.int() - found.clean.int()).flatten(1).abs().amax(1)
    for s, eps in enumerate((0.2, 0.4, 0.3)):
        assert int(change[found.setting == s].max()) <= math.ceil(255 * eps)
    own = found.take((found.victim == 0).nonzero().squeeze(1))
    says = victim(0)(own.images.float() / 255).argmax(1)
    assert torch.equal(own.fooled, says != own.y)


def test_parts_are_kept_and_reused(tmp_path, monkeypatch):
    first = examples(out=tmp_path)
    calls = []
    monkeypatch.setattr("assay.signatures.examples.run_attack_to_end", lambda *a, **k: calls.append(1))
    again = examples(out=tmp_path)
    assert not calls
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.kind, again.kind)
    with pytest.raises(AttributeError):
        examples(out=tmp_path, salt="other code")
    for victims, settings_, data_, name in (({}, TWO, data(), "victims"), ({"a": victim()}, (), data(), "settings")):
        with pytest.raises(ValueError, match=f"{name}: expected at least one"):
            make_examples(victims, data_, settings_)


def helpers():
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 4))
    return Helpers(victim(), extractor)


PLAN = Plan(epochs=3, warmup=1, batch=16, arch="tiny-cnn", width=4, blocks=1, layer=2)


def test_equation_five_is_the_sum_of_its_terms():
    plan, found = replace(PLAN, reconstruction=0.02, feature=0.3, classification=0.7, smoothing=0.2), examples()
    both = helpers()
    recognition = train_recogniser(found, replace(plan, epochs=1), both)
    at = torch.tensor([0, 30, 49])
    image, clean = found.pair(at)
    made = recognition.reconstructor(image)
    logits = recognition.recogniser(image, image - made)
    smooth = 0.8 * F.one_hot(found.kind[at], 3) + 0.2 / 3
    recognition_loss = -(smooth * logits.log_softmax(1)).sum(1).mean()
    reconstruction = (clean - made).abs().sum((1, 2, 3)).mean()
    head = both.extractor[:3]
    feature = (head(clean) - head(made)).flatten(1).pow(2).sum(1).sqrt().mean()
    classes = both.classifier(clean).argmax(1)
    assert next(both.extractor.parameters()).requires_grad  # what is given is left as it is
    classification = -both.classifier(made).log_softmax(1).gather(1, classes[:, None]).mean()
    expected = (recognition_loss + 0.02 * reconstruction + 0.3 * feature + 0.7 * classification).detach()
    assert float(Losses(plan, both)(recognition, found, at)) == pytest.approx(float(expected), rel=1e-5)
    ablated = Losses(replace(plan, feature=0.0, classification=0.0), both)(recognition, found, at)
    expected = (recognition_loss + 0.02 * reconstruction).detach()
    assert float(ablated) == pytest.approx(float(expected), rel=1e-5)


def test_the_columns_of_the_tables():
    changed = {name: replace(Plan(), **change) for name, change in SCENARIOS.items()}
    weights = {name: (plan.feature > 0, plan.classification > 0) for name, plan in changed.items()}
    assert (weights["A"], weights["B"], weights["C"], weights["redrl"]) == (
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    )
    assert [changed[name].sees for name in ("image", "truth", "A")] == ["image", "truth", "redrl"]
    assert (Plan().reconstruction, Plan().feature, Plan().classification) == (0.01, 0.1, 1.0)


def test_no_way_around_the_reconstructor():
    """Without weights in its last convolution nothing of the image is left: nothing goes around it."""
    net = Reconstructor(3, width=4, blocks=2)
    assert not [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    nn.init.zeros_(net.net[-1].weight)
    nn.init.zeros_(net.net[-1].bias)
    assert torch.equal(net(torch.rand(2, 3, 9, 7)), torch.full((2, 3, 9, 7), 0.5))
    with pytest.raises(ValueError, match="layer: expected a convolution between 1 and 2"):
        layer_of(helpers().extractor, 3)


@pytest.mark.parametrize("sees", ["image", "redrl"])
def test_training_goes_on_where_it_stopped(tmp_path, sees):
    found, plan = examples(), replace(PLAN, sees=sees)
    whole = train_recogniser(found, plan, helpers())

    def stop(done, of, loss):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recogniser(found, plan, helpers(), out=tmp_path / "r.pt", progress=stop)
    epochs = []
    resumed = train_recogniser(found, plan, helpers(), out=tmp_path / "r.pt", progress=lambda d, *_: epochs.append(d))
    assert epochs == [3]
    for a, b in zip(whole.recogniser.parameters(), resumed.recogniser.parameters(), strict=True):
        assert torch.equal(a, b)
    other = []
    train_recogniser(
        found, replace(plan, rate=1e-3), helpers(), out=tmp_path / "r.pt", progress=lambda d, *_: other.append(d)
    )
    assert other == [1, 2, 3]  # another plan begins anew


class Told(nn.Module):
    """Says what the first pixel says."""

    def forward(self, image, residual):
        return F.one_hot((image[:, 0, 0, 0] * 255).round().long(), 3).float()


def labelled(kind, said):
    n = len(kind)
    images = torch.zeros(n, 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(said)
    none = torch.zeros(n, dtype=torch.int64)
    return Examples(images, images, torch.tensor(kind), none, none - 1, none, none > 0, ("clean", "p", "q"), (), ("v",))


def test_shares_recognised_by_hand():
    plain = train_recogniser(examples(), replace(PLAN, sees="image", epochs=1), helpers())
    told = replace(plain, recogniser=Told())
    found = recognition_table({"image": told, "B": told}, labelled([0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 2, 2]))
    kinds = {"clean": 0.5, "p": 2 / 3, "q": 1.0}
    expected = {**kinds, "total": 4 / 6, "mean of kinds": sum(kinds.values()) / 3, "mean of settings": 3 / 4}
    assert found.share["image"] == pytest.approx(expected)
    assert found.counts == {"clean": 2, "p": 3, "q": 1, "total": 6, "mean of kinds": 6, "mean of settings": 4}
    assert {row["made by"]: row["image alone"] for row in found.frame()}["total"] == pytest.approx(100 * 4 / 6)
    assert "image alone 66.7 %" in found.verdict()


def test_means_over_settings_and_over_what_still_fools():
    plain = train_recogniser(examples(), replace(PLAN, sees="image", epochs=1), helpers())
    told, tried = replace(plain, recogniser=Told()), labelled([0, 1, 1, 1, 1], [0, 1, 2, 1, 2])
    settings_ = torch.tensor([-1, 0, 1, 1, 1])
    fooled = torch.tensor([False, True, True, False, False])
    tried = replace(tried, setting=settings_, fooled=fooled, settings=("one", "two"))
    share = recognition_table({"image": told}, tried).share["image"]
    assert share["mean of settings"] == pytest.approx((1 + 1 / 3) / 2)
    assert share["attacks that still fool"] == pytest.approx(0.5)


class Reads(Told):
    """What a pixel of the first row says."""

    def __init__(self, place):
        super().__init__()
        self.place = place

    def forward(self, image, residual):
        return super().forward(image[..., self.place :], residual)


def test_the_gap_that_is_closed_by_hand():
    plain = train_recogniser(examples(), replace(PLAN, sees="image", epochs=1), helpers())
    kinds = torch.tensor([1, 2]).repeat(100)
    tried = labelled(kinds.tolist(), [1] * 200)  # the image alone: half
    images = tried.images.clone()
    images[:, 0, 0, 1] = kinds.to(torch.uint8)  # the truth: all
    images[:, 0, 0, 2] = torch.where(torch.arange(200) % 4 == 1, 0, kinds).to(torch.uint8)  # REDRL: three quarters
    columns = {name: replace(plain, recogniser=Reads(i)) for i, name in enumerate(("image", "truth", "redrl"))}
    rows = {row["made by"]: row for row in recognition_table(columns, replace(tried, images=images)).frame()}
    total = rows["total"]
    assert total["gap closed"] == pytest.approx(50)
    assert 35 < total["gap closed from"] < 45 < 55 < total["gap closed to"] < 65
    assert "gap closed" not in rows["p"]  # the image alone tells all of them: no gap
    assert rows["q"]["gap closed"] == pytest.approx(50)
    same = recognition_table({name: columns["truth"] for name in columns}, replace(tried, images=images))
    assert same.closed == {}


def test_several_seeds_have_an_interval():
    found = examples()
    several = [train_recogniser(found, replace(PLAN, sees="image", seed=seed), helpers()) for seed in (0, 1, 2)]
    table = recognition_table({"image": several}, found)
    alone = [recognition_table({"image": one}, found).share["image"]["total"] for one in several]
    row = {row["made by"]: row for row in table.frame()}["total"]
    assert row["image alone"] == pytest.approx(100 * sum(alone) / 3)
    assert row["image alone from"] <= row["image alone"] <= row["image alone to"]
    assert "image alone from" not in recognition_table({"image": several[0]}, found).frame()[0]


def test_rounding_down_keeps_bytes_as_they_are():
    base = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(_eight_bits(base.float() / 255, "down"), base)
    assert torch.equal(_eight_bits(base.float() / 255, "nearest"), base)
    smaller = (base.float() - 0.3).clamp_min(0) / 255
    assert torch.equal(_eight_bits(smaller, "nearest"), base)
    assert torch.equal(_eight_bits(smaller, "down")[0, 0, 1:], base[0, 0, 1:] - 1)
    down, nearest = examples(rounding="down"), examples()
    attacked = down.kind > 0
    assert not torch.equal(down.images[attacked], nearest.images[: len(down)][attacked])
    with pytest.raises(ValueError, match="rounding: expected one of"):
        examples(rounding="up")


def test_innocent_images_are_clean_and_changed():
    found = examples(60, innocent=True)
    changed = found.take(found.innocent.nonzero().squeeze(1))
    assert len(changed) == 60
    assert (changed.kind == 0).all()
    assert (changed.victim == -1).all()
    moved = (changed.images != changed.clean).flatten(1).any(1)
    assert float(moved.double().mean()) > 0.8  # the mildest change nothing in so small images
    names = {found.settings[s] for s in changed.setting.tolist()}
    assert {"uniform noise 4/255", "jpeg compression 1", "defocus blur 1"} <= names
    noise = found.take((found.setting == found.settings.index("uniform noise 8/255")).nonzero().squeeze(1))
    assert 4 <= int((noise.images.int() - noise.clean.int()).abs().max()) <= 8
    again = examples(60, innocent=True)
    assert torch.equal(again.images, found.images)
    assert not examples(60).innocent.any()


def test_what_is_said_of_innocent_images_is_counted():
    found, held = examples(60, innocent=True), examples(66, seed=3, innocent=True)
    recognition = train_recogniser(found, replace(PLAN, epochs=2, sees="image"), helpers())
    identifier = calibrate(recognition, found, held)
    told = innocence(identifier, held)
    innocent = held.take(held.innocent.nonzero().squeeze(1))
    guesses = [guess.kind for guess in identifier(innocent.images.float() / 255)]
    assert told.counts["all"] == 66
    assert told.accused["all"] == pytest.approx(sum(g not in ("clean", "unknown") for g in guesses) / 66)
    assert told.unknown["all"] == pytest.approx(guesses.count("unknown") / 66)
    assert sum(count for name, count in told.counts.items() if name != "all") == 66
    assert "Of 66 images" in told.verdict()
    assert "no image" in innocence(identifier, examples(8)).verdict()


def test_the_confusion_of_a_recogniser_by_hand():
    plain = train_recogniser(examples(), replace(PLAN, sees="image", epochs=1), helpers())
    table = recogniser_confusion(replace(plain, recogniser=Told()), labelled([0, 1, 1, 2], [0, 1, 2, 2]), "By hand")
    assert table.counts.tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]]


def test_restoration_by_hand():
    """A reconstructor that gives 0.5 everywhere: all classifiers then say the same of every image."""
    found = examples()
    recognition = train_recogniser(found, replace(PLAN, epochs=1), helpers())
    nn.init.zeros_(recognition.reconstructor.net[-1].weight)
    nn.init.zeros_(recognition.reconstructor.net[-1].bias)
    answer = restoration_table(recognition, {"a": victim(0)}, found)
    flat = int(victim(0)(torch.full((1, 1, SIZE, SIZE), 0.5)).argmax())
    own = (found.kind == 1) & (found.victim == 0)
    assert float(answer.before[0, 1]) == pytest.approx(1 - float(found.fooled[own].float().mean()))
    assert float(answer.after[0, 1]) == pytest.approx(float((found.y[own] == flat).float().mean()))
    assert float(answer.before[0, 0]) == 1.0
    assert len(answer.shown) == 6
    assert "a " in answer.verdict()
    holes = replace(answer, before=answer.before.clone().index_fill_(1, torch.tensor([1]), torch.nan))
    assert "nan" not in holes.verdict()


def test_the_verdict_on_a_confusion_hides_nothing():
    columns = ("clean", "pgd", "unknown")
    assert (
        "of 100 images 0.0 % are attributed correctly, 10.0 % are called unknown"
        in Confusion(("pgd",), columns, torch.tensor([[90, 0, 10]]), "Other budgets").verdict()
    )
    assert (
        "of 4 images 25.0 % are called unknown"
        in Confusion(("stadv",), columns, torch.tensor([[2, 1, 1]]), "Another attack").verdict()
    )
    assert "no image" in Confusion((), columns, torch.zeros(0, 3), "None").verdict()


def test_a_victim_in_training_mode_is_left_as_it_is():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    make_examples({"a": model}, data(), TWO)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_ctrl_c_in_an_attack_is_no_example(tmp_path):
    counting = Counting(victim(), fail_at=3, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        make_examples({"a": counting}, data(), TWO, out=tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_an_identifier_is_calibrated_saved_and_loaded(tmp_path):
    found = examples(60)
    recognition = train_recogniser(found, replace(PLAN, epochs=4, rate=3e-3), helpers())
    held = examples(40, seed=3)
    identifier = calibrate(recognition, found, held, refused=0.1)
    assert int(identifier.confusion[0].sum()) == 20  # half of the clean images, and what was made of those
    assert 20 < int(identifier.confusion.sum()) <= 60
    again = load_identifier(identifier.save(tmp_path / "identifier.safetensors"))
    images = held.images[:7].float() / 255
    for mine, theirs in zip(identifier(images), again(images), strict=True):
        assert mine.kind == theirs.kind
        assert mine.probability == pytest.approx(theirs.probability, abs=1e-6)
        assert sum(mine.probability.values()) == pytest.approx(1, abs=1e-5)
    assert (again.kinds, again.victims, again.shape) == (found.kinds, ("a", "b"), (1, SIZE, SIZE))
    shut = replace(identifier, threshold=-1.0)
    assert {guess.kind for guess in shut(images)} == {"unknown"}
    assert "unlike the training attacks" in str(shut(images)[0])
    assert float(confusion(shut, held).share[:, -1].min()) == 1.0
    with pytest.raises(ValueError, match=r"images: expected \(n, 1, 8, 8\)"):
        identifier(torch.zeros(1, 3, 8, 8))
    assert [str(guess) for guess in identifier(images.double())] == [str(guess) for guess in identifier(images)]
    for wrong in (images * torch.nan, images - 1, images * 255, (images * 255).byte()):
        with pytest.raises(ValueError, match="images: expected finite values from 0 to 1 of a float type, got torch"):
            identifier(wrong)
    with pytest.raises(FileNotFoundError, match="expected a file that assay signatures made"):
        load_identifier(tmp_path / "none")
    with pytest.raises(ValueError, match="one that sees images alone"):
        calibrate(train_recogniser(found, replace(PLAN, sees="truth", epochs=1), helpers()), found, held)
    of_one = held.take((held.clean.flatten(1) == held.clean[0].flatten()).all(1).nonzero().squeeze(1))
    with pytest.raises(ValueError, match=rf"held_out: expected examples of at least 4 images, got {len(of_one)} of 1"):
        calibrate(recognition, found, of_one)


def test_the_share_of_known_examples_that_are_refused_is_what_was_asked():
    found = examples(80)
    recognition = train_recogniser(found, replace(PLAN, epochs=2, sees="image"), helpers())
    tuned = examples(200, seed=5)
    for refused in (0.0, 0.25):
        identifier = calibrate(recognition, found, tuned, refused=refused)
        unknown = identifier.confusion[:, -1].sum() / identifier.confusion.sum()
        assert float(unknown) == pytest.approx(refused, abs=0.08)


@pytest.mark.parametrize("innocent", [False, True])
def test_the_share_of_unattacked_images_that_are_accused_is_at_most_what_was_asked(innocent):
    trained = examples(80, innocent=innocent)
    recognition = train_recogniser(trained, replace(PLAN, epochs=2, sees="image"), helpers())
    tuned = examples(300, seed=5, innocent=innocent)
    shares = []
    for accused in (0.0, 0.1, 0.5, 1.0):
        identifier = calibrate(recognition, trained, tuned, refused=0.0, accused=accused)
        unattacked = tuned.innocent if innocent else tuned.kind == 0
        images = tuned.images[unattacked].float() / 255
        shares.append(sum(guess.kind not in ("clean", "unknown") for guess in identifier(images)) / len(images))
        assert shares[-1] <= accused + 0.05
    assert shares == sorted(shares)
    assert identifier.evidence == 0  # whatever is accused


def test_an_image_with_too_little_evidence_is_clean_and_says_what_it_is_like():
    identifier = calibrate(
        train_recogniser(examples(), replace(PLAN, epochs=1, sees="image"), helpers()), examples(), examples(40, seed=3)
    )
    identifier = replace(identifier, evidence=0.9, threshold=1.0)
    probability = torch.tensor([[0.2, 0.5, 0.3], [0.05, 0.9, 0.05], [0.6, 0.2, 0.2], [0.05, 0.9, 0.05]])
    away = torch.tensor([0.5, 0.5, 0.5, 2.0])
    assert identifier.decide(probability, away).tolist() == [0, 1, 0, 3]
    guess = Guess("clean", {"clean": 0.2, "pgd": 0.5, "patch": 0.3}, 0.5, 1.0)
    assert str(guess) == "clean: too little evidence of an attack (closest: pgd, 50 %)"


def test_identifiers_of_before_accuse_whatever_is_most_likely(tmp_path):
    identifier = calibrate(
        train_recogniser(examples(), replace(PLAN, epochs=1, sees="image"), helpers()), examples(), examples(40, seed=3)
    )
    path = identifier.save(tmp_path / "identifier.safetensors")
    about, tensors = read_tensors(path, "assay-identifier", "identifier")
    old = {key: value for key, value in about.items() if key not in ("evidence", "accused")}
    write_tensors(path, tensors, "assay-identifier", old)
    assert load_identifier(path).evidence == 0


def test_temperature_and_distance_by_hand():
    """Right with probability ¾ at logits ±2.2: the temperature that says ¾ is 2.2 / ln 3."""
    logits = torch.tensor([[2.2, 0.0]] * 4)
    assert fitted_temperature(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(2.2 / math.log(3), rel=0.02)
    bank = torch.eye(12)
    assert float(distance(torch.eye(12)[:1], bank)) == pytest.approx(math.sqrt(2))
    assert float(distance(torch.eye(12)[:1], torch.eye(12)[:1])) == 0


def test_features_are_what_the_last_layer_sees():
    net = Recogniser(1, 3, SIZE, "tiny-cnn").eval()
    image = torch.rand(2, 1, SIZE, SIZE)
    found = net.features(image, image)
    assert torch.allclose(found.norm(dim=1), torch.ones(2))
    assert not [m for m in net.modules() if m._forward_pre_hooks]
