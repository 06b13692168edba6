"""Workers: two against one on the same study, threads of each fixed to one; and what an order costs on Ray.

python scaling.py             # local workers
python scaling.py --ray
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import torch
from common import record

from assay.attacks.plan import plan
from assay.data import load
from assay.models import digest
from assay.runs.executors import Inline, Local, closing
from assay.runs.interrupts import StopRequest
from assay.runs.ray_executor import RayExecutor
from assay.runs.retry_queue import QueuedTask, run_queue
from assay.runs.settings import Settings
from assay.runs.tasks import AttackTask
from assay.store.image_store import store_data
from assay.store.model_source import ModelSource

STUDY = """
title: To be scaled
models:
  net: {{load: {folder}/net/model.safetensors}}
data:
  scenes: {{load: "scenes:size=32,count=2400", limit: {limit}}}
attacks: ["pgd:steps={steps}", "apgd:steps={steps}"]
budgets: [{{eps: 2/255}}, {{eps: 4/255}}]
run: {{shard: {shard}, stop: never, checks: none, images: none}}
"""


def assay(*words):
    return [sys.executable, "-m", "assay", *map(str, words)]


def started(folder, kinds):
    """Seconds of a command that does next to nothing, by executor and number of workers: what does not divide."""
    study, found = folder / "one.yaml", {}
    study.write_text(STUDY.format(folder=folder, limit=1, steps=1, shard=1))
    for kind in kinds:
        for workers in (1, 2):
            out = folder / f"one-{kind}-{workers}"
            found[kind, workers] = timed(study, out, "--executor", kind, "--workers", workers, "--threads", 1)[
                "whole_s"
            ]
    return found


def timed(study, out, *words):
    """Seconds of attacking alone, as the ledger has them, and of the whole command."""
    from assay.store.ledger import Ledger

    began = time.perf_counter()
    subprocess.run(assay("run", study, "-o", out, "--quiet", *words), check=True, capture_output=True)
    whole = time.perf_counter() - began
    with Ledger(out) as ledger:
        parts = [part for found in ledger.shards().values() for part in found]
    return {"whole_s": round(whole, 2), "orders": len(parts), "busy_s": round(sum(p.seconds for p in parts), 2)}


def an_order(kind, weights, folder, batches=5, size=60):
    """Milliseconds that an order costs beside its attack: the best of several batches, workers and data being there."""
    data = load("scenes:size=32,count=2400", limit=4)
    path = folder / store_data(folder, data)
    source = ModelSource(str(weights))
    order = AttackTask(
        source, path, plan("pgd:steps=1", eps=2 / 255), Settings(images="none"), 0, 4, digest(source.load())
    )
    executor = {"here": Inline, "local": lambda: Local(1, threads=1), "ray": lambda: RayExecutor(workers=1)}[kind]()
    found = []
    with closing(executor):
        for _ in range(batches + 1):  # the first one warms up
            began = time.perf_counter()
            done = list(run_queue(deque(QueuedTask(None, order) for _ in range(size)), executor, StopRequest()))
            found.append((time.perf_counter() - began - sum(result.seconds for _, result in done)) / size)
    return round(1000 * min(found[1:]), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="scaling-"))
    train = assay("train", "--data", "scenes:size=32,count=2400", "-o", folder / "net", "--epochs", 4, "--quiet")
    subprocess.run(train, check=True, capture_output=True)
    big = folder / "big.yaml"
    big.write_text(STUDY.format(folder=folder, limit=512, steps=100, shard=32))
    rows = []
    kinds = ("local", "ray") if arguments.ray else ("local",)
    start = started(folder, kinds)
    for repeat in range(arguments.repeats):  # side by side: the machine is not as fast at every time
        for kind in kinds:
            for workers in (1, 2):
                out = folder / f"{kind}-{workers}-{repeat}"
                more = ("--executor", kind, "--workers", workers, "--threads", 1)
                rows.append({"executor": kind, "workers": workers, **timed(big, out, *more)})
                print(rows[-1], file=sys.stderr)
    found = {}
    for kind in kinds:
        best = [
            min(row["whole_s"] for row in rows if (row["executor"], row["workers"]) == (kind, workers))
            for workers in (1, 2)
        ]
        net = [whole - start[kind, workers] for whole, workers in zip(best, (1, 2), strict=True)]
        found[kind] = {
            "speedup_whole": round(best[0] / best[1], 2),
            "start_s": [start[kind, 1], start[kind, 2]],
            "speedup_without_start": round(net[0] / net[1], 2),
        }
    orders = {kind: an_order(kind, folder / "net" / "model.safetensors", folder) for kind in ("here", *kinds)}
    record("scaling", {"by": found, "an_order_ms": orders, "rows": rows})


if __name__ == "__main__":
    main()
