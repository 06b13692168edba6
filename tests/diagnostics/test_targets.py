"""Targeted attacks towards every class: cases, distances, and perturbations that are cut."""

import math
import sys

import pytest
import torch
from torch import nn

import assay
from assay.diagnostics.targets import FACTORS, Targets, _cut, targets

CLASSES = 3


class Nearest(nn.Module):
    """Says the class whose value of an image of three is the largest: distances to a class are known."""

    def forward(self, x):
        return x.flatten(1)


def images(*rows):
    return torch.tensor(rows).view(len(rows), 1, 1, CLASSES)


def test_distances_of_each_case_by_hand():
    """From (0.6, 0.4, 0.1) the second class is 0.2/√2 away in l2, the third 0.5/√2."""
    x = images([0.6, 0.4, 0.1], [0.7, 0.1, 0.5])
    answer = targets(Nearest(), x, torch.tensor([0, 0]), CLASSES, {"C&W": assay.CarliniWagnerL2(steps=300, rounds=6)})
    rows = {row["case"]: row for row in answer.frame()}
    near, far = 0.2 / math.sqrt(2), 0.5 / math.sqrt(2)
    near_two, far_two = 0.2 / math.sqrt(2), 0.6 / math.sqrt(2)
    assert rows["best"]["l2"] == pytest.approx((near + near_two) / 2, rel=0.1)
    assert rows["worst"]["l2"] == pytest.approx((far + far_two) / 2, rel=0.1)
    assert rows["best"]["l2"] <= rows["average"]["l2"] <= rows["worst"]["l2"]
    assert all(row["success"] == 1 and row["n"] == 2 for row in rows.values())
    assert rows["best"]["l2 from"] <= rows["best"]["l2"] <= rows["best"]["l2 to"]


def test_an_attack_with_a_budget_counts_at_the_smallest_that_suffices():
    x = images([0.6, 0.4, 0.1])
    attack = assay.FGSM(0.4)
    answer = targets(Nearest(), x, torch.tensor([0]), CLASSES, {"FGSM": attack})
    needed = {1: 0.1, 2: 0.25}  # half of the difference, in linf
    for target, least in needed.items():
        budget = min(0.4 * factor for factor in FACTORS if 0.4 * factor > least)
        assert float(answer.distance["FGSM"]["linf"][0, target - 1]) == pytest.approx(budget, rel=1e-3)


def test_what_cannot_be_reached_is_no_success():
    class Never(nn.Module):
        def forward(self, x):
            return torch.cat([x.flatten(1)[:, :2], x.flatten(1)[:, :1] * 0 - 9], 1)

    x = images([0.6, 0.4, 0.1])
    answer = targets(Never(), x, torch.tensor([0]), CLASSES, {"PGD": assay.PGD(0.5, steps=5)})
    rows = {row["case"]: row for row in answer.frame()}
    assert (rows["best"]["success"], rows["worst"]["success"]) == (1.0, 0.0)
    assert rows["worst"]["l2"] != rows["worst"]["l2"]


def test_an_attack_that_reaches_nothing_has_a_row_and_a_figure():
    """No distance is known, and the share, 0 %, is."""
    x = images([0.6, 0.4, 0.1])
    answer = targets(Nearest(), x, torch.tensor([0]), CLASSES, {"a": assay.FGSM(1e-6), "b": assay.FGSM(0.4)})
    assert [row["success"] for row in answer.frame() if row["attack"] == "a"] == [0, 0, 0]
    assert "a 0 %, b 100 % (l0 " in answer.verdict()
    assert len(answer.figure().axes[0].get_yticklabels()) == 6
    alone = targets(Nearest(), x, torch.tensor([0]), CLASSES, {"a": assay.FGSM(1e-6)})
    assert len(alone.figure().axes[0].get_yticklabels()) == 3
    assert alone.verdict() == "Of random targets are reached: a 0 %."


def test_the_largest_values_are_kept():
    delta = torch.tensor([[[[0.3, -0.5, 0.1]]], [[[0.2, 0.0, -0.1]]]])
    assert torch.equal(_cut(delta, torch.tensor([1, 2])), torch.tensor([[[[0.0, -0.5, 0.0]]], [[[0.2, 0.0, -0.1]]]]))


def test_perturbations_are_cut_to_the_number_of_values_of_the_first(monkeypatch):
    """Towards the second class one value suffices where it is moved far; two that are moved half as far need both."""
    deltas = {
        "far": images([0.0, 0.25, 0.0], [0.0, 0.0, 0.55]),
        "halves": images([-0.15, 0.14, 0.0], [-0.05, 0.0, 0.52]),
    }
    module = sys.modules[targets.__module__]  # the package has the function under the module's name
    monkeypatch.setattr(module, "_smallest", lambda model, x, y, aims, attack, seed: (aims > 0, deltas[attack]))
    answer = targets(
        Nearest(), images([0.6, 0.4, 0.1]), torch.tensor([0]), CLASSES, dict(zip(deltas, deltas, strict=True))
    )
    chosen = int(answer.chosen[0])
    assert answer.cut == {"halves": ((0.0, 1.0)[chosen], 1)}  # 0.6 against 0.54, 0.6 against 0.62
    assert answer.frame()[-1]["attack"] == "halves, cut to the l0 of far"
    assert f"{100 * chosen:.1f} % of 1" in answer.verdict()


def test_wrong_arguments():
    x = images([0.6, 0.4, 0.1])
    with pytest.raises(ValueError, match="attacks: expected at least one attack"):
        targets(Nearest(), x, torch.tensor([0]), CLASSES, {})
    with pytest.raises(ValueError, match="classes: expected a whole number that is at least 2"):
        targets(Nearest(), x, torch.tensor([0]), 1, {"FGSM": assay.FGSM(0.1)})
    with pytest.raises(
        ValueError, match="classes: expected the number of classes, above every label and at most the mod"
    ):
        targets(Nearest(), x, torch.tensor([0]), CLASSES + 1, {"FGSM": assay.FGSM(0.1)})
    with pytest.raises(
        ValueError, match="model: expected one that is right about an image, got one that is wrong about al"
    ):
        targets(Nearest(), x, torch.tensor([2]), CLASSES, {"FGSM": assay.FGSM(0.1)})
    assert isinstance(targets(Nearest(), x, torch.tensor([0]), CLASSES, {"FGSM": assay.FGSM(0.1)}), Targets)


def test_images_that_are_misclassified_are_left_out():
    x, attack = images([0.6, 0.4, 0.1], [0.1, 0.7, 0.5]), {"C&W": assay.CarliniWagnerL2(steps=50)}
    answer = targets(Nearest(), x, torch.tensor([0, 2]), CLASSES, attack)
    assert answer.success["C&W"].tolist() == [[True, True]]
