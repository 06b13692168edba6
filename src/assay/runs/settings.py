"""Run settings: some affect results, others only speed."""

from dataclasses import dataclass

import torch

from assay.engine.api import STOPS
from assay.store.image_store import KEEP
from assay.util.validate import described, one_of, reject, whole

_SHARD = {"cpu": 128}
_ON_DEVICE = 1024
CHECK_LEVELS = ("full", "fast", "none")
"""How much to check: everything; no checks that rerun attacks; nothing."""


_LARGEST_COUNT = 2**31 - 1
"""No number of samples or passes is larger."""


def device_of(name: str) -> str:
    """Resolve a device name; ``"auto"`` picks an accelerator if there is one.

    Raises:
        ValueError: it is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 80 else reason[:80].rpartition(" ")[0] + " …"
        reject(
            "device",
            "auto, cpu, or an accelerator that is there (cuda, cuda:1, mps)",
            described(f"{name!r} ({reason})"),
        )
    return name


@dataclass(frozen=True)
class Settings:
    """How to run an evaluation.

    Attributes:
        slots: most rows in flight.
        search: ``"float32"`` or ``"bfloat16"``.
        stop: ``"hit"`` or ``"never"``.
        seed: of all random draws.
        device: where the models run, such as ``"cpu"`` or ``"cuda:0"``.
        errors: ``"raise"`` or ``"record"``.
        max_forwards: most forward passes an attack may spend on a sample; None for no limit.
        adaptive: attack a defence in the way that it declares; False for attacks that do not know of it.
        shard: samples that are attacked together and recorded together; after a kill at most so many are repeated for
            each worker. None for 128 on a processor, 1,024 on an accelerator.
        checks: trust checks to run at the end: ``"full"``, ``"fast"`` (no reruns of attacks) or ``"none"``.
        check_samples: samples that the checks use.
        start: what attacks by labels alone start from: ``"random"`` images, ``"data"`` (for each sample the nearest
            image of another class in the data), or a data set as `assay.data.load` takes it.
        images: which adversarial images are kept: ``"all"``, ``"broken"`` or ``"none"``.
    """

    slots: int = 256
    search: str = "float32"
    stop: str = "hit"
    seed: int = 0
    device: str = "cpu"
    errors: str = "record"
    max_forwards: int | None = None
    adaptive: bool = True
    shard: int | None = None
    start: str = "random"
    images: str = "all"
    checks: str = "full"
    check_samples: int = 64

    def __post_init__(self) -> None:
        whole("slots", self.slots, least=1, most=_LARGEST_COUNT)
        whole("seed", self.seed, most=2**63 - 1)
        one_of("search", self.search, ("float32", "bfloat16"))
        one_of("stop", self.stop, STOPS)
        one_of("images", self.images, KEEP)
        one_of("checks", self.checks, CHECK_LEVELS)
        whole("checked", self.check_samples, least=1, most=_LARGEST_COUNT)
        if not isinstance(self.start, str) or not self.start:
            reject("start", "random, data, or a data set such as npz:starts.npz", self.start)
        for name in ("max_forwards", "shard"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least=1, most=_LARGEST_COUNT)

    @property
    def samples_per_shard(self) -> int:
        """Samples of a shard."""
        return self.shard or _SHARD.get(torch.device(self.device).type, _ON_DEVICE)
