"""Random numbers that belong to a row: drawn by (seed, row key, purpose, index), never by batch.

A draw is a pure function of its address, so a row gets the same numbers in any batch, in any order, on any device,
and after a resume. The generator is Philox4x32-10.

Source: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. Checked against the
known-answer vectors that the authors publish with Random123.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.core.types import Labels

_M32 = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_IN_CACHE = 2**15
"""Counters at once on a CPU: many rounds over tensors that fit its cache take half as long."""
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Ten rounds of Philox4x32.

    Args:
        counter: four int64 tensors of one broadcast shape that hold unsigned 32-bit words.
        key: two unsigned 32-bit words.

    Returns:
        Four int64 tensors that hold unsigned 32-bit words.

    Example:
        >>> z = torch.zeros(1, dtype=torch.int64)
        >>> [hex(int(w)) for w in philox((z, z, z, z), (0, 0))]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]  # wraps modulo 2^64; both halves stay right
        c0, c1, c2, c3 = (p1 >> 32 & _M32) ^ c1 ^ k0, p1 & _M32, (p0 >> 32 & _M32) ^ c3 ^ k1, p0 & _M32
        k0, k1 = (k0 + _WEYL[0]) & _M32, (k1 + _WEYL[1]) & _M32
    return c0, c1, c2, c3


@dataclass(frozen=True)
class Rng:
    """A family of draws under one seed.

    Args:
        seed: any integer; different seeds are independent.

    Example:
        >>> keys = torch.tensor([5, 7])
        >>> both = Rng(0).uniform(keys, (3,), "start")
        >>> bool((both[1:] == Rng(0).uniform(keys[1:], (3,), "start")).all())
        True
    """

    seed: int = 0

    def _words(self, keys: Labels, count: int, purpose: str, step: int | Tensor) -> Int[Tensor, "b n"]:
        """``count`` unsigned 32-bit words a row."""
        digest = hashlib.blake2b(f"{self.seed}\0{purpose}".encode(), digest_size=8).digest()
        key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
        blocks = torch.arange(-(-count // 4), device=keys.device)[None]
        at = torch.as_tensor(step, device=keys.device, dtype=torch.int64).reshape(-1, 1).expand(len(keys), 1)
        rows = max(1, _IN_CACHE // max(blocks.numel(), 1)) if keys.device.type == "cpu" else max(len(keys), 1)
        parts = []
        for row, of in zip(keys[:, None].split(rows), at.split(rows), strict=True):
            words = philox((blocks, of & _M32, row & _M32, row >> 32 & _M32), key)
            parts.append(torch.stack(torch.broadcast_tensors(*words), dim=2).flatten(1)[:, :count])
        return torch.cat(parts)

    def uniform(
        self, keys: Labels, shape: tuple[int, ...], purpose: str, step: int | Tensor = 0
    ) -> Float[Tensor, "b ..."]:
        """Uniform on [0, 1), in steps of 2⁻²⁴; the same bits on every device.

        Args:
            keys: one int64 key a row, ``(b,)``.
            shape: shape of one row's draw.
            purpose: what the numbers are for; other purposes are independent.
            step: a further part of the address, one number or one a row.

        Returns:
            float32 ``(b, *shape)``.
        """
        words = self._words(keys, math.prod(shape), purpose, step)
        return ((words >> 8).float() * 2.0**-24).reshape(len(keys), *shape)

    def normal(
        self, keys: Labels, shape: tuple[int, ...], purpose: str, step: int | Tensor = 0
    ) -> Float[Tensor, "b ..."]:
        """Standard normal by Box–Muller, computed in float64 so that devices agree after rounding to float32.

        Args and returns as in `uniform`.
        """
        count = math.prod(shape)
        half = -(-count // 2)
        words = self._words(keys, 2 * half, purpose, step).double()
        radius = torch.sqrt(-2.0 * torch.log((words[:, :half] + 0.5) * 2.0**-32))
        angle = words[:, half:] * (2.0 * math.pi * 2.0**-32)
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return both[:, :count].float().reshape(len(keys), *shape)

    def exponential(
        self, keys: Labels, shape: tuple[int, ...], purpose: str, step: int | Tensor = 0
    ) -> Float[Tensor, "b ..."]:
        """Standard exponential, by inversion. Args and returns as in `uniform`."""
        words = self._words(keys, math.prod(shape), purpose, step).double()
        return (-torch.log((words + 0.5) * 2.0**-32)).float().reshape(len(keys), *shape)

    def uniform_ahead(
        self, keys: Labels, shape: tuple[int, ...], purpose: str, first: Tensor, count: int
    ) -> Float[Tensor, "b s ..."]:
        """The draws of `uniform` for ``count`` steps from ``first`` on, one number a row, at once.

        Args:
            keys: one int64 key a row, ``(b,)``.
            shape: shape of one row's draw.
            purpose: as in `uniform`.
            first: int64 ``(b,)``.
            count: how many steps.

        Returns:
            float32 ``(b, count, *shape)``.

        Example:
            >>> ahead = Rng(0).uniform_ahead(torch.tensor([5]), (2,), "place", torch.tensor([3]), 4)
            >>> bool((ahead[:, 1] == Rng(0).uniform(torch.tensor([5]), (2,), "place", 4)).all())
            True
        """
        steps = first.to(keys.device)[:, None] + torch.arange(count, device=keys.device)
        flat = self.uniform(
            keys.repeat_interleave(count, output_size=len(keys) * count), shape, purpose, steps.reshape(-1)
        )
        return flat.reshape(len(keys), count, *shape)

    def signs(
        self, keys: Labels, shape: tuple[int, ...], purpose: str, step: int | Tensor = 0
    ) -> Float[Tensor, "b ..."]:
        """−1 or +1 with equal probability. Args and returns as in `uniform`."""
        words = self._words(keys, math.prod(shape), purpose, step)
        return ((words & 1) * 2 - 1).float().reshape(len(keys), *shape)


def mix(keys: Labels, salt: int) -> Labels:
    """New keys from old ones and a number; salt 0 leaves them as they are.

    Restart 0 of a sample therefore draws what the plain attack draws: more restarts can only add.

    Source: the finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), in wrapping int64 arithmetic.

    Example:
        >>> mix(torch.tensor([3]), 0).item()
        3
    """
    if salt == 0:
        return keys
    offset = salt * _GOLDEN % 2**64
    z = keys + (offset - 2**64 if offset >= 2**63 else offset)
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        z = (z ^ _logical_shift(z, shift)) * factor
    return z ^ _logical_shift(z, 31)


def content_keys(x: Float[Tensor, "n ..."], y: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """A 64-bit key for each sample from its own pixels and label (BLAKE2b), whatever its place in the data.

    Args:
        x: images, float32 or float64 (hashed as float32).
        y: labels.

    Returns:
        int64 keys on the CPU. Equal samples get equal keys.
    """
    pixels = x.detach().to("cpu", torch.float32).contiguous().flatten(1).numpy()
    labels = y.detach().cpu().tolist()
    digests = [
        hashlib.blake2b(pixels[i].tobytes(), digest_size=8, key=str(label).encode()).digest()
        for i, label in enumerate(labels)
    ]
    return torch.tensor([int.from_bytes(d, "little", signed=True) for d in digests], dtype=torch.int64)


def _logical_shift(z: Tensor, by: int) -> Tensor:
    return (z >> by) & ((1 << (64 - by)) - 1)
