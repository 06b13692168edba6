"""How unlike the training examples an image is: its measures, and the statistics of residuals."""

import math

import pytest
import torch

import assay
from assay.data import Dataset
from assay.signatures import Helpers, Plan, Setting, calibrate, load_identifier, make_examples, train_recogniser
from assay.signatures.novelty import Novelty, novelty_of
from assay.signatures.residual_statistics import residual_statistics
from assay.util.tensors import read_tensors, write_tensors
from models_for_tests import mlp, predicted

SIZE = 8


@pytest.fixture(scope="module")
def learned():
    """A recogniser of one attack, with 200 images to calibrate on."""
    victim = mlp(channels=1, size=SIZE, seed=0)

    def attacked_images(seed, count):
        draw = torch.Generator().manual_seed(seed)
        x = torch.randint(64, 192, (count, 1, SIZE, SIZE), generator=draw, dtype=torch.uint8)
        data = Dataset(x, predicted(victim, x.float() / 255), tuple("abcd"))
        return make_examples({"a": victim}, data, [Setting("pgd", assay.PGD(0.1, steps=3))])

    train, held = attacked_images(0, 60), attacked_images(1, 200)
    plan = Plan(epochs=3, warmup=0, batch=32, rate=3e-3, arch="tiny-cnn", sees="image")
    return calibrate(train_recogniser(train, plan, Helpers(victim, victim)), train, held), held


def test_pixels_that_no_attack_changed_so_are_unknown(learned):
    """Spikes of 150 levels on 6 of 64 values, where the attack moved all by 25."""
    identifier, held = learned
    images = held.images[:40].float() / 255
    spiked = images.clone().flatten(1)
    at = torch.rand(spiked.shape, generator=torch.Generator().manual_seed(2)).topk(6, 1).indices
    spiked.scatter_(1, at, (spiked.gather(1, at) > 0.5).float())
    kinds = [[guess.kind for guess in identifier(part)] for part in (images, spiked.view_as(images))]
    assert kinds[0].count("unknown") <= 6
    assert kinds[1].count("unknown") >= 30


def test_novelty_is_saved_and_files_of_before_compare_features_alone(learned, tmp_path):
    identifier, held = learned
    images = held.images[:9].float() / 255
    path = identifier.save(tmp_path / "identifier.safetensors")
    again = load_identifier(path)
    assert torch.equal(identifier.scores(images)[1], again.scores(images)[1])
    about, tensors = read_tensors(path, "assay-identifier", "identifier")
    old = {name: tensor for name, tensor in tensors.items() if not name.startswith("novelty.")}
    write_tensors(path, old | {"bank": tensors["novelty.bank"]}, "assay-identifier", about)
    features = identifier.recognition.recogniser.features(images, images)
    apart = torch.cdist(features, tensors["novelty.bank"]).sort(1).values[:, 9]
    assert load_identifier(path).scores(images)[1].tolist() == pytest.approx(apart.tolist(), abs=1e-5)
    fewer = {"novelty.means": tensors["novelty.means"][:, :-1]}
    write_tensors(path, tensors | fewer, "assay-identifier", about)
    with pytest.raises(ValueError, match=r"identifier: expected a file whose statistics are this version's: make it"):
        load_identifier(path)


def test_the_sum_of_logarithms_by_hand():
    """One statistic, standard normal, and 3 known examples of a kind: further than all of them in both is 2·log 4.

    Of another kind there is one; a kind that no known example was taken for is held against all four.
    """
    novelty = Novelty(
        bank=torch.eye(2)[:1],
        centre=torch.zeros(1),
        scale=torch.ones(1),
        means=torch.zeros(1, 1),
        precisions=torch.ones(1, 1, 1),
        log_determinants=torch.zeros(1),
        known=torch.tensor([[0.3, 5.0, 0.1, 0.2], [9.0, 99.0, 4.0, 1.0]]),
        known_kinds=torch.tensor([0, 1, 0, 0]),
    )
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert novelty.measures(features, torch.tensor([[2.5], [4.0], [0.5]]))[1].tolist() == [6.25, 16.0, 0.25]
    statistics = torch.tensor([[2.5], [4.0], [0.5]])
    value = novelty(features, statistics, torch.tensor([0, 0, 0]))
    assert value.tolist() == pytest.approx([-math.log(2 / 4), 2 * math.log(4), 0.0], abs=1e-6)
    value = novelty(features, statistics, torch.tensor([0, 1, 2]))
    assert value.tolist() == pytest.approx([-math.log(2 / 4), 0.0, 0.0], abs=1e-6)
    value = novelty(features, statistics, torch.tensor([2, 2, 1]))
    assert value.tolist() == pytest.approx([-math.log(3 / 5), -2 * math.log(2 / 5), 0.0], abs=1e-6)
    alone = novelty_of({"bank": torch.eye(2)[:1]})(features, torch.zeros(3, 1), torch.tensor([0, 1, 2]))
    assert alone.tolist() == pytest.approx([0, math.sqrt(2), 0], abs=1e-3)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 7, 5), (2, 2, 1, 1), (0, 3, 8, 8)])
def test_statistics_are_numbers_for_every_shape_and_for_nothing(shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for residual in (torch.zeros(shape), images - 0.5, torch.ones(shape)):
        values = residual_statistics(residual, images)
        assert len(values) == shape[0]
        assert bool(values.isfinite().all())
    assert residual_statistics(images, images).shape[1] == 26 + shape[1]


def test_statistics_by_hand():
    """One value of 16 levels in 64, against the same energy everywhere."""
    spike, even = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 2 / 255)
    spike[0, 0, 3, 3] = 16 / 255
    image = torch.full_like(spike, 0.5)
    one, all_over = residual_statistics(torch.cat([spike, even]), torch.cat([image, image])).tolist()
    assert one[0] == pytest.approx(math.log(16), abs=1e-5)
    assert all_over[0] == pytest.approx(math.log(16), abs=1e-5)
    assert one[2] == pytest.approx(math.log1p(16))
    assert all_over[2] == pytest.approx(math.log1p(2))
    assert one[3] == pytest.approx(1 / 8, abs=1e-5)
    assert all_over[3] == pytest.approx(1, abs=1e-5)
    assert one[5:10] == pytest.approx([1 / 64] * 4 + [0.0])  # beyond 1, 2, 4, 8 and 16
    assert all_over[5:10] == pytest.approx([1, 0, 0, 0, 0])
    assert one[10:14] == pytest.approx([1, 1, 1, 1])  # the first pixel has all of it
    assert all_over[12] == pytest.approx(6 / 64)
    assert one[14:18] == pytest.approx([1, 1, 1, 1])  # and so has a window
    assert all_over[14:18] == pytest.approx([4 / 64, 16 / 64, 1, 1])
    assert all_over[18] == pytest.approx(1)  # no frequency at all
