import pytest
import torch

from assay.core.outcome import Status
from assay.report import choose

from .builders import B, M, N, S, cell, rich, study


def combinations(made):
    return {
        (i, Status(code))
        for i, one in enumerate(made.cells)
        for code in one.outcome.status.tolist()
        if code != Status.NOT_RUN
    }


def test_every_outcome_of_every_cell_is_shown():
    made = rich()
    assert {(pick.cell, pick.status) for pick in choose(made)} == combinations(made)


def test_a_pick_says_what_the_outcome_says():
    made = rich()
    for pick in choose(made):
        assert int(made.cells[pick.cell].outcome.status[pick.sample]) == int(pick.status)


def test_the_choice_is_deterministic_and_never_twice_the_same():
    picks = choose(rich())
    assert picks == choose(rich())
    assert len(set(picks)) == len(picks)


@pytest.mark.parametrize("cards", [0, 1, 5, 1000])
def test_no_more_cards_than_asked(cards):
    assert len(choose(rich(), cards)) <= cards


def test_sixty_by_default_and_fewer_of_large_images():
    codes = [B, S] * 60
    assert len(choose(study(cell(codes)))) == 60
    assert len(choose(study(cell(codes, side=160), side=160))) == 60 * 96 * 96 // (160 * 160)


def test_samples_and_classes_are_spread():
    picks = choose(study(cell([B] * 9), cell([B] * 9, attack="Square")), 6)
    assert len({pick.sample for pick in picks}) == 6
    assert sorted(torch.tensor([pick.sample % 3 for pick in picks]).bincount().tolist()) == [2, 2, 2]


def test_broken_ones_come_first_and_not_run_ones_never():
    picks = choose(study(cell([M, S, B, N])))
    assert [pick.status for pick in picks] == [Status.BROKEN, Status.SURVIVED, Status.MISCLASSIFIED]


@pytest.mark.parametrize("cards", [-1, 1.5])
def test_cards_are_a_whole_number(cards):
    with pytest.raises((TypeError, ValueError), match="cards: expected a whole number"):
        choose(rich(), cards)
