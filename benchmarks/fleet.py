"""ImageNet × 50 models × the standard suite on 64 GPUs, simulated from step counts that were recorded on a processor.

Recorded: how many steps each sample takes in each stage of `Standard`, on networks of the ladder. Simulated: 50 models,
each with the counts of one of them, drawn with replacement for 5,000 images; shards in the order of the cells go to the
GPU that is free first. A step on b rows takes as long as b + h rows at full speed, where h stands for what a GPU wastes
on a small batch (half of it at b = h): an assumption, so three values are shown. Lost is what the time of all GPUs
holds beside full speed: small batches at the end of a stage, and GPUs that wait for the last shard. The hours assume
2,500 forward passes a second, what a ResNet-50 in float32 does on a data-centre GPU; the shares do not depend on it.
"""

import argparse
import heapq
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from common import record
from ladder import images, network, rungs

import assay

MODELS, IMAGES, GPUS, SLOTS, RATE = 50, 5000, 64, 256, 2500
COSTS = {"APGD-CE": 3, "APGD-T": 3, "FAB-T": 6, "Square": 1}
"""Forward equivalents of a row's step: a backward pass counts as two; FAB has two forward and two backward ones."""
BESIDE = {"APGD-CE": 1, "APGD-T": 9, "FAB-T": 9, "Square": 1}
"""Rows of a sample that can run beside each other."""
COUNTS = Path(__file__).parent / ".cache" / "fleet.json"


def stages(rung):
    apgd = {"norm": rung.norm, "steps": 100}
    return {
        "APGD-CE": assay.APGD(rung.eps, **apgd),
        "APGD-T": assay.APGD(rung.eps, loss="dlr", targets=9, **apgd),
        "FAB-T": assay.FAB(rung.eps, targets=9, **apgd),
        "Square": assay.Square(rung.eps, norm=rung.norm),
    }


def counted(rung, n):
    """Steps of each sample in each stage; what an earlier stage has ended, or was wrong before, has none."""
    model, data = network(rung), images(rung.data, "test", n)
    x, y = data.images(), data.y
    open_still, steps = torch.ones(n, dtype=torch.bool), {}
    for name, attack in stages(rung).items():
        at = open_still.nonzero().squeeze(1)
        outcome = assay.attack(model, x[at], y[at], attack, preflight=False)
        steps[name] = torch.zeros(n, dtype=torch.int64).index_put((at,), outcome.steps).tolist()
        open_still[at] = outcome.robust
    return {"network": rung.name, "robust": int(open_still.sum()), "steps": steps}


def stage_time(work, cost, beside, half):
    """Seconds of a stage on one GPU: each sample has so many row-steps left, and up to ``beside`` rows at a time."""
    left, rows_at_full_speed = work[work > 0].astype(np.int64), 0.0
    while len(left):
        ends = np.cumsum(np.minimum(left, beside))
        mine = np.diff(np.minimum(ends, SLOTS), prepend=0)
        stretch = max(1, int((left[mine > 0] // np.maximum(mine[mine > 0], 1)).min()))  # nothing changes for so long
        rows_at_full_speed += stretch * (mine.sum() + half)
        left = left - stretch * mine
        left = left[left > 0]
    return rows_at_full_speed * cost / RATE


def simulated(counts, shard, half, draw):
    """Makespan and the share of the GPUs' time that is lost inside shards and at the end."""
    shards, ideal = [], 0.0
    for model in range(MODELS):
        own = counts[model % len(counts)]["steps"]
        chosen = draw.integers(0, len(next(iter(own.values()))), IMAGES)
        for part in np.array_split(chosen, -(-IMAGES // shard)):
            seconds = 0.0
            for name, steps in own.items():
                work = np.asarray(steps)[part]
                seconds += stage_time(work, COSTS[name], BESIDE[name], half)
                ideal += work.sum() * COSTS[name] / RATE
            shards.append(seconds)
    free = [0.0] * GPUS
    for seconds in shards:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    span, busy = max(free), sum(shards)
    return {
        "shard": shard,
        "half_used_at_rows": half,
        "hours": round(span / 3600, 2),
        "hours_at_full_speed": round(ideal / GPUS / 3600, 2),
        "lost_to_small_batches": round((busy - ideal) / (GPUS * span), 3),
        "lost_at_the_end": round((GPUS * span - busy) / (GPUS * span), 3),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--networks", nargs="*", default=["pgd-at", "trades", "awp"], help="kinds of training")
    parser.add_argument("--again", action="store_true", help="count the steps again")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.again or not COUNTS.is_file():
        chosen = [rung for rung in rungs() if rung.training in arguments.networks]
        COUNTS.write_text(json.dumps([counted(rung, arguments.n) for rung in chosen]))
    counts = json.loads(COUNTS.read_text())
    rows = [
        simulated(counts, shard, half, np.random.default_rng(0)) for shard in (1024, 512, 256) for half in (8, 32, 64)
    ]
    for row in rows:
        print(row, flush=True)
    known = [{"network": c["network"], "robust": c["robust"], "n": len(c["steps"]["Square"])} for c in counts]
    scale = {"models": MODELS, "images": IMAGES, "gpus": GPUS, "slots": SLOTS, "forwards_a_second": RATE}
    record("fleet", {**scale, "counted_on": known, "rows": rows})


if __name__ == "__main__":
    main()
