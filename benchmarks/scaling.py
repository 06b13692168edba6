"""Workers: two against one on the same study, threads of each fixed to one; and what an order costs on Ray.

python scaling.py             # local workers
python scaling.py --ray
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import record

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
    from assay.runs.ledger import Ledger

    began = time.perf_counter()
    subprocess.run(assay("run", study, "-o", out, "--quiet", *words), check=True, capture_output=True)
    whole = time.perf_counter() - began
    with Ledger(out) as ledger:
        parts = [part for found in ledger.parts().values() for part in found]
    return {"whole_s": round(whole, 2), "orders": len(parts), "busy_s": round(sum(p.seconds for p in parts), 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scaling-"))
    train = assay("train", "--data", "scenes:size=32,count=2400", "-o", folder / "net", "--epochs", 4, "--quiet")
    subprocess.run(train, check=True, capture_output=True)
    big, empty = folder / "big.yaml", folder / "empty.yaml"
    big.write_text(STUDY.format(folder=folder, limit=512, steps=150, shard=32))
    empty.write_text(STUDY.format(folder=folder, limit=256, steps=1, shard=4))  # orders that cost next to nothing
    rows = []
    kinds = ("local", "ray") if arguments.ray else ("local",)
    start = started(folder, kinds)
    for repeat in range(arguments.repeats):
        for kind in kinds:
            for workers in (1, 2):
                for name, study in (("attack", big), ("empty orders", empty)):
                    out = folder / f"{name}-{kind}-{workers}-{repeat}"
                    more = ("--executor", kind, "--workers", workers, "--threads", 1)
                    rows.append({"study": name, "executor": kind, "workers": workers, **timed(study, out, *more)})
                    print(rows[-1], file=sys.stderr)
    found = {}
    for kind in kinds:
        best = {
            (name, workers): min(row["whole_s"] for row in rows
                                 if (row["executor"], row["study"], row["workers"]) == (kind, name, workers))
            for name in ("attack", "empty orders") for workers in (1, 2)
        }  # fmt: skip
        least = min(r["busy_s"] for r in rows if r["executor"] == kind and r["study"] == "empty orders")
        orders = next(r["orders"] for r in rows if r["study"] == "empty orders")
        net = [best["attack", workers] - start[kind, workers] for workers in (1, 2)]
        found[kind] = {"speedup_whole": round(best["attack", 1] / best["attack", 2], 2),
                       "start_s": [start[kind, 1], start[kind, 2]], "speedup_without_start": round(net[0] / net[1], 2),
                       "overhead_ms_an_order": round(
                           1000 * (best["empty orders", 1] - start[kind, 1] - least) / orders, 1)}  # fmt: skip
    record("scaling", {"by": found, "rows": rows})


if __name__ == "__main__":
    main()
