"""Random numbers belong to the row."""

import pytest
import torch

from assay.core.rng import Rng, content_keys, mix, philox

KNOWN = [  # published with Random123 (kat_vectors, philox4x32 10)
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter, key, words):
    made = philox(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(w) for w in made) == words


@pytest.mark.parametrize("draw", ["uniform", "normal", "exponential", "signs"])
def test_a_row_does_not_depend_on_its_batch(draw):
    keys = torch.tensor([3, -7, 2**62, 0])
    whole = getattr(Rng(4), draw)(keys, (2, 3), "a", torch.tensor([0, 1, 2, 3]))
    for i in range(4):
        alone = getattr(Rng(4), draw)(keys[i : i + 1], (2, 3), "a", i)
        assert torch.equal(alone[0], whole[i])


@pytest.mark.parametrize("change", ["seed", "purpose", "step", "key"])
def test_every_part_of_the_address_counts(change):
    keys = torch.arange(50)
    first = Rng(0).uniform(keys, (4,), "a", 0)
    second = {
        "seed": lambda: Rng(1).uniform(keys, (4,), "a", 0),
        "purpose": lambda: Rng(0).uniform(keys, (4,), "b", 0),
        "step": lambda: Rng(0).uniform(keys, (4,), "a", 1),
        "key": lambda: Rng(0).uniform(keys + 50, (4,), "a", 0),
    }[change]()
    assert (first == second).sum() == 0
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.25


def test_distributions():
    keys = torch.arange(2000)
    uniform, normal = Rng(0).uniform(keys, (50,), "a"), Rng(0).normal(keys, (50,), "a")
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.005
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert abs((normal**4).mean() - 3) < 0.1
    assert abs(Rng(0).exponential(keys, (50,), "a").mean() - 1) < 0.01
    assert abs(Rng(0).signs(keys, (50,), "a").mean()) < 0.02


def test_mix_keeps_restart_zero_and_separates_the_others():
    keys = torch.arange(-1000, 1000)
    assert torch.equal(mix(keys, 0), keys)
    assert len({*mix(keys, 1).tolist(), *mix(keys, 2).tolist(), *keys.tolist()}) == 6000


def test_content_keys_follow_the_content():
    x = torch.rand(4, 1, 3, 3)
    y = torch.tensor([0, 1, 2, 3])
    keys = content_keys(x, y)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(content_keys(x[order], y[order]), keys[order])
    assert not torch.equal(content_keys(x, y + 1), keys)
    assert torch.equal(content_keys(x.double(), y), keys)
    assert len(set(keys.tolist())) == 4
