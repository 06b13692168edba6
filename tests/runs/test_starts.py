"""Attacks by labels alone in a run: where they start, and what becomes of samples without a start."""

from dataclasses import replace

import pytest
import torch

from assay import Status
from assay.attacks.plan import plan
from assay.data import Dataset
from assay.runs import Question, Settings, evaluate


class Rare(torch.nn.Module):
    """Class 1 only on images that are dark above and bright below: noise never is."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        flat = x.flatten(1)
        half = flat.shape[1] // 2
        score = self.scale * (flat[:, half:].mean(1) - flat[:, :half].mean(1) - 0.5)
        return torch.stack([torch.zeros_like(score), score], 1)


def data():
    x = torch.full((6, 1, 4, 4), 0.4) + 0.02 * torch.arange(6).view(-1, 1, 1, 1)
    x[5, :, :2], x[5, :, 2:] = 0, 1
    return Dataset(x, torch.tensor([0] * 5 + [1]), ("grey", "rare"), name="rare")


def ran(out, **more):
    question = Question("Rare", data(), [plan("boundary:steps=30,starts=2", eps=None)])
    found = evaluate({"m": Rare()}, question, out, settings=Settings(checks="none", **more))
    return found, found.study.cells[0].outcome


def test_random_starts_leave_samples_not_run_and_a_later_start_is_another_question(tmp_path):
    _, outcome = ran(tmp_path)
    assert outcome.count(Status.NOT_RUN) >= 5
    assert outcome.count(Status.SURVIVED) == 0
    again, outcome = ran(tmp_path, start="data")
    assert outcome.count(Status.BROKEN) == 6
    assert again.reused == 0


def test_starts_do_not_depend_on_the_shard(tmp_path):
    distances = [ran(tmp_path / str(shard), start="data", shard=shard)[1].norm("l2") for shard in (1, 4, 6)]
    assert torch.equal(distances[0], distances[1])
    assert torch.equal(distances[0], distances[2])


def test_starts_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"start: expected images of shape \(1, 4, 4\).*got shape \(3, 16, 16\)"):
        ran(tmp_path, start="scenes:size=16,count=8")


def test_an_attack_that_needs_no_start_is_the_same_question(tmp_path):
    question = Question("Rare", data(), [plan("pgd:steps=2", eps=0.1)])
    settings = Settings(checks="none")
    evaluate({"m": Rare()}, question, tmp_path, settings=settings)
    assert evaluate({"m": Rare()}, question, tmp_path, settings=replace(settings, start="data")).reused == 1
