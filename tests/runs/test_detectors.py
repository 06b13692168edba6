"""A detector's refusal is a success of the defence, whether or not attacks know of it."""

import pytest
import torch
from torch import nn

from assay import Status
from assay.attacks.plan import plan
from assay.data import Dataset
from assay.defences.detectors import Guarded
from assay.runs import Question, Settings, evaluate
from assay.store.integrity.verify import verify
from assay.study.run import run_study
from runs.builders import study

GREY = torch.full((6, 1, 4, 4), 0.5)


class Brightness(nn.Module):
    """Class 1 from a mean of 0.55 on."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x):
        score = self.scale * (x.flatten(1).mean(1) - 0.55)
        return torch.stack([torch.zeros_like(score), score], 1)


class Bright(nn.Module):
    """Takes for adversarial what is bright in the first row: the classifier looks at all rows."""

    def forward(self, x):
        return 20 * (x[:, :, 0].flatten(1).mean(1) - 0.55)


def outcome_of(out, score, attack, *, adaptive):
    grey = Dataset(GREY, torch.zeros(6, dtype=torch.int64), ("dark", "bright"), name="grey")
    question = Question("Grey", grey, [plan(attack, eps=0.2)])
    settings = Settings(checks="fast", check_samples=6, adaptive=adaptive)
    return evaluate({"m": Guarded(Brightness(), score)}, question, out, settings=settings).study.cells[0].outcome


@pytest.mark.parametrize("attack", ["pgd:steps=10", "square:queries=200", "hopskipjump:queries=300,eps=0.2"])
def test_what_is_refused_is_not_broken_by_attacks_that_ignore_the_detector(tmp_path, attack):
    plain = outcome_of(tmp_path, Bright(), attack, adaptive=False)
    broken = plain.status == int(Status.BROKEN)
    assert (plain.predicted[broken] == 1).all()  # the refusal is class 2
    assert (plain.predicted[~broken] != 1).all()


def test_an_attack_that_knows_the_detector_breaks_what_one_that_ignores_it_leaves(tmp_path):
    adaptive = outcome_of(tmp_path / "a", Bright(), "pgd:steps=10", adaptive=True)
    plain = outcome_of(tmp_path / "b", Bright(), "pgd:steps=10", adaptive=False)
    assert adaptive.count(Status.BROKEN) == 6  # it leaves the first row alone
    assert plain.count(Status.BROKEN) < 6


def test_a_run_without_adaptation_holds_when_it_is_verified(tmp_path):
    changes = [
        'models.clean={train: {epochs: 1, arch: tiny-cnn}, defence: "squeezing:threshold=0.01", adaptive: false}'
    ]
    run_study(study(*changes, "attacks=[fgsm]", "run.images=all"), tmp_path)
    result = verify(tmp_path)
    assert result.faults == ()
    assert result.measured > 0
