"""Certify the models of a run at the budgets of its attacks, and hold the certificates against the attacks."""

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from assay.attacks.plan import Planned
from assay.certify.bounding import BranchAndBound
from assay.certify.registry import certifiers
from assay.core.combinators import unfold
from assay.core.fingerprint import fingerprint
from assay.core.geometry import Geometry
from assay.parts.balls import Ball, Split
from assay.runs.certify_tasks import CertifyResult, CertifyTask
from assay.runs.executors import Executor
from assay.runs.fault_injection import fault_point
from assay.runs.interrupts import StopRequest
from assay.runs.plan import AttackedModel, Workload
from assay.runs.retry_queue import ATTEMPTS, QueuedTask, run_queue
from assay.runs.settings import Settings
from assay.store.certified import CERTIFICATE, CERTIFICATES, contradictions, region_to_json
from assay.store.image_store import write_images
from assay.store.ledger import Ledger
from assay.util.code_digest import code_digest
from assay.util.progress import Progress, Reporter

_SHARD, _SLOW_SHARD = 32, 8
"""Samples that are certified and recorded together, at most; where one may take a minute."""


@dataclass(frozen=True, eq=False)
class _Claim:
    """A model and a budget, claimed or on a curve, to be certified."""

    workload: Workload
    model: AttackedModel
    budget: str
    geometry: Geometry
    settings: Settings
    claimed: bool

    @property
    def shard(self) -> int:
        """Samples that are certified and recorded together."""
        slow = any(isinstance(own, BranchAndBound) for own in certifiers(self.workload.certify))
        return min(self.settings.samples_per_shard, _SLOW_SHARD if slow else _SHARD)

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.model.name} on {self.workload.name}, {self.budget}"

    def key(self, first: int) -> str:
        """The ledger key of some samples' certificates: a digest of all that they depend on."""
        parts = [
            self.model.identity,
            self.workload.digest,
            self.geometry.describe(),
            *(fingerprint(own).text for own in certifiers(self.workload.certify)),
            code_digest("assay.certify.api", "assay.certify.registry", alone=(__name__, "assay.runs.certify_tasks")),
            torch.__version__,
            torch.device(self.settings.resolved().device).type,
            f"{first} {self.shard}",
        ]
        return "certificate-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def tasks(self, data: Path | None) -> dict[str, CertifyTask]:
        """What is to be done, by key."""
        count = len(self.workload.data)
        return {
            self.key(first): CertifyTask(
                self.model.model,
                data or self.workload.data,
                certifiers(self.workload.certify),
                self.geometry,
                self.label,
                first,
                min(self.shard, count - first),
                self.model.identity,
                self.settings.resolved().device,
            )
            for first in range(0, count, self.shard)
        }


def certify_models(
    workloads: Sequence[Workload],
    files: Mapping[str, Path],
    ledger: Ledger,
    out: Path,
    settings: Settings,
    executor: Executor,
    stop: StopRequest,
    *,
    reporter: Reporter,
) -> tuple[str, ...]:
    """Certify each model at each budget that an attack claims, and on curves; results of an earlier call are reused.

    Args:
        workloads: data, models, attacks and certifiers.
        files: where workers read the data, by digest; empty where tasks run in this process.
        ledger: of the run, with the attacks' results.
        out: the run's folder.
        settings: how to run.
        executor: runs the tasks.
        stop: whether the user has asked to stop.
        reporter: receives sentences and progress.

    Returns:
        A sentence for each contradiction: samples that are certified, and broken by an attack.
    """
    claims = [claim for workload in workloads for claim in _claims(workload, settings)]
    planned = {claim: claim.tasks(files.get(claim.workload.digest)) for claim in claims}
    faults: dict[_Claim, str] = {}
    todo = deque(
        QueuedTask((claim, key), task)
        for claim, tasks in planned.items()
        for key, task in tasks.items()
        if ledger.answer(key) is None
    )
    total, reported = len(todo), set[tuple[_Claim, str]]()
    for workload in workloads:
        for text in _uncertified(workload):
            reporter.note(text)
    ledger.set_meta(**{CERTIFICATES: [_entry(claim, planned[claim], "") for claim in claims]})
    done = {claim: sum(task.count for key, task in planned[claim].items() if ledger.answer(key)) for claim in claims}
    for queued, result in run_queue(todo, executor, stop, lambda queued: _progress(queued.owner[0], done)):
        claim, key = queued.owner
        if result is None and not queued.is_exhausted:
            continue
        if isinstance(result, CertifyResult):
            _store(result, key, ledger, out, settings)
            done[claim] += queued.task.count
            for text in dict.fromkeys(result.record["events"]):
                if (claim, text) not in reported:
                    reported.add((claim, text))
                    reporter.note(f"{claim.label}: {text}")
        else:
            _give_up(claim, _reason(result), todo, faults, reporter)
        reporter.work(f"certify {claim.label}", total - len(todo), total)
    ledger.set_meta(**{CERTIFICATES: [_entry(claim, planned[claim], faults.get(claim, "")) for claim in claims]})
    sentences = contradictions(ledger)
    for text in sentences:
        reporter.note(text)
    return sentences


def _progress(claim: _Claim, done: Mapping[_Claim, int]) -> Progress:
    return Progress(f"certify {claim.label}", done[claim], len(claim.workload.data), 0, 0)


def _store(result: CertifyResult, key: str, ledger: Ledger, out: Path, settings: Settings) -> None:
    """Store certificates, and the images that certifiers broke samples with."""
    kept: dict[str, str] = {}
    if len(result.at) and settings.images != "none":
        name, digest = write_images(out, key, result.images, result.at)
        kept = {"images": name, "sha256": digest}
        fault_point("certificate-images-written")
    ledger.add_answer(key, CERTIFICATE, {**result.record, **kept})
    fault_point("certificate-committed")


def samples_left(workload: Workload, settings: Settings, ledger: Ledger) -> dict[tuple[str, str], int]:
    """How many samples of each model and budget have no certificates yet, by their names.

    Args:
        workload: data, models, attacks and certifiers.
        settings: how to run.
        ledger: of the run.
    """
    return {
        (claim.model.name, claim.budget): sum(
            task.count for key, task in claim.tasks(None).items() if ledger.answer(key) is None
        )
        for claim in _claims(workload, settings)
    }


def budgets_of(plans: Sequence[Planned], on_curves: Sequence[Planned] = ()) -> dict[str, tuple[Geometry, bool]]:
    """The budgets that bounds know, by name, and whether each is claimed.

    Args:
        plans: the attacks whose budgets are claimed.
        on_curves: others, for accuracy–budget curves.
    """
    budgets: dict[str, tuple[Geometry, bool]] = {}
    for planned, claimed in (*((own, True) for own in plans), *((own, False) for own in on_curves)):
        geometry = unfold(planned.attack)[0].attack.geometry
        if isinstance(geometry, Ball | Split):
            budgets.setdefault(planned.budget, (geometry, claimed))
    return budgets


def _uncertified(workload: Workload) -> list[str]:
    """A sentence where budgets of attacks are not certified."""
    known = budgets_of(workload.plans, workload.curve)
    others = list(dict.fromkeys(own.budget for own in workload.plans if own.budget not in known))
    if not workload.certify or not others:
        return []
    which = ", ".join("no limit" if budget == "none" else budget for budget in others)
    least = "" if known else ", so nothing is certified"
    return [f"{workload.name}: not certified: {which} (bounds know balls in linf, l2 and l1){least}"]


def _claims(workload: Workload, settings: Settings) -> list[_Claim]:
    budgets = budgets_of(workload.plans, workload.curve) if workload.certify else {}
    return [
        _Claim(workload, model, budget, geometry, settings, claimed)
        for model in workload.models
        for budget, (geometry, claimed) in budgets.items()
    ]


def _give_up(
    claim: _Claim,
    reason: str,
    todo: deque[QueuedTask[tuple[_Claim, str], CertifyTask]],
    faults: dict[_Claim, str],
    reporter: Reporter,
) -> None:
    """Withdraw what is left of a model that cannot be certified, and say why."""
    if claim not in faults:
        faults[claim] = reason
        reporter.note(f"{claim.label}: cannot be certified: {reason}")
    others = [waiting for waiting in todo if waiting.owner[0] is not claim]
    todo.clear()
    todo.extend(others)


def _reason(result: Any) -> str:
    if result is None:
        return f"its process ended {ATTEMPTS} times (killed, out of memory?)"
    return str(result) if isinstance(result, ValueError | TypeError) else f"{type(result).__name__}: {result}"


def _entry(claim: _Claim, tasks: Mapping[str, CertifyTask], fault: str) -> dict[str, Any]:
    """What the ledger keeps of a claim: names, and the keys of its samples' certificates in order."""
    return {
        "data": claim.workload.name,
        "model": claim.model.name,
        "budget": claim.budget,
        "certifiers": [own.describe() for own in certifiers(claim.workload.certify)],
        "parts": [[key, task.count] for key, task in tasks.items()],
        "fault": fault,
        "claimed": claim.claimed,
        "set": region_to_json(claim.geometry),
    }
