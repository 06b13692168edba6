"""Run settings: some affect results, others only speed."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import torch
from pydantic import AfterValidator, Field

from assay.util.fields import Seed, Whole
from assay.util.validate import described, one_of, reject, whole

_SHARD = {"cpu": 128}
_ON_DEVICE = 1024
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


def _device_name(name: str) -> str:
    """The name, if it is one of a device, here or elsewhere."""
    try:
        torch.device("cpu" if name == "auto" else name)
    except RuntimeError:
        raise ValueError(f"expected auto, cpu, cuda or cuda:1, got {name!r}") from None
    return name


@dataclass(frozen=True)
class Settings:
    """How to run an evaluation: the options of ``assay evaluate``, and the section ``run`` of a study.

    Attributes:
        slots: Most rows in flight. By default 128 on a processor, 256 on an accelerator.
        search: Precision of the search: float32 or bfloat16; hits are measured again in float32 in either case.
        stop: When a sample ends: at its first adversarial example (hit), or after all steps (never).
        seed: Random seed, also for the choice of images.
        device: Where the models run: auto (an accelerator if there is one), cpu, cuda, cuda:1, mps.
        errors: What to do when the model raises an exception: record it beside the sample, or raise it.
        max_forwards: Most forward passes (queries) that an attack may spend on a sample; it is never exceeded.
        adaptive: Attack a defence in the way that it declares; with --no-adaptive attacks ignore it, and the report
            says so.
        shard: Samples that are attacked together and recorded together; after a kill at most so many are repeated for
            each worker. By default 128 on a processor, 1,024 on an accelerator.
        checks: Trust checks at the end, which decide the grade: full (until it is decided), all, fast (no reruns of
            attacks) or none.
        check_samples: Samples that the checks use.
        start: What attacks by labels alone start from: random (images), data (for each sample the nearest image of
            another class in the data), or a data set such as npz:FILE. A sample without a start is not run.
        images: Which adversarial images are kept: all, broken or none.
    """

    slots: Whole | None = None
    search: Literal["float32", "bfloat16"] = "float32"
    stop: Literal["hit", "never"] = "hit"
    seed: Seed = 0
    device: Annotated[str, AfterValidator(_device_name)] = "auto"
    errors: Literal["raise", "record"] = "record"
    max_forwards: Whole | None = None
    adaptive: bool = True
    shard: Whole | None = None
    start: Annotated[str, Field(min_length=1)] = "random"
    images: Literal["all", "broken", "none"] = "all"
    checks: Literal["full", "all", "fast", "none"] = "full"
    check_samples: Whole = 64

    def __post_init__(self) -> None:
        if not isinstance(self.adaptive, bool):
            reject("adaptive", "True or False", self.adaptive, error=TypeError)
        if not isinstance(self.device, str) or not self.device:
            reject("device", "the name of a device, such as auto, cpu or cuda:1", self.device, error=TypeError)
        whole("seed", self.seed, most=2**63 - 1)
        for name, kind in get_type_hints(Settings).items():
            if get_origin(kind) is Literal:
                one_of(name, getattr(self, name), get_args(kind))
        whole("check_samples", self.check_samples, least=1, most=_LARGEST_COUNT)
        if not isinstance(self.start, str) or not self.start:
            reject("start", "random, data, or a data set such as npz:starts.npz", self.start)
        for name in ("slots", "max_forwards", "shard"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least=1, most=_LARGEST_COUNT)

    def resolved(self) -> "Settings":
        """The same, with the name of a device in place of ``"auto"``."""
        return replace(self, device=device_of("auto")) if self.device == "auto" else self

    def on_this_machine(self) -> "Settings":
        """As `resolved`, after a look whether the device is here.

        Raises:
            ValueError: the device is not here.
        """
        return replace(self, device=device_of(self.device))

    @property
    def samples_per_shard(self) -> int:
        """Samples of a shard."""
        return self.shard or _SHARD.get(torch.device(self.resolved().device).type, _ON_DEVICE)
