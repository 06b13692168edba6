"""A million per-sample records: how fast the ledger takes them, and what the report of them costs.

The numbers are made up; nothing is attacked. 20 models under 10 attacks, 5,000 samples each.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from common import record

from assay.core.outcome import Status
from assay.data import Dataset
from assay.report.page import write_report
from assay.runs.publish import publish
from assay.store.columns import COLUMNS, CellNames, Shard
from assay.store.image_store import store_data
from assay.store.ledger import Ledger
from assay.store.load_report import studies_of

SHARD = 500


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB on Linux


def numbers(draw, y, share):
    n = len(y)
    status = np.where(draw.random(n) < 0.1, int(Status.MISCLASSIFIED), np.where(draw.random(n) < share, 1, 2))
    broken = status == int(Status.BROKEN)
    found = {name: np.zeros(n, np.int64) for name, kind in COLUMNS.items() if kind is int}
    found |= {
        "status": status,
        "y": y,
        "predicted_clean": np.where(status == 0, (y + 1) % 10, y),
        "predicted": np.where(status == 2, y, (y + 1) % 10),
        "target": np.full(n, -1),
        "steps": draw.integers(1, 100, n),
        "forwards": draw.integers(1, 200, n),
        "backwards": draw.integers(1, 200, n),
        "checks": np.full(n, 2),
        "stage": np.where(broken, 0, -1),
    }
    real = {name: np.where(broken, draw.random(n), 0.0) for name, kind in COLUMNS.items() if kind is float}
    return found | real


def filled(folder, models, attacks, samples):
    draw = np.random.default_rng(0)
    y = torch.from_numpy(draw.integers(0, 10, samples))
    x = torch.from_numpy(draw.integers(0, 255, (samples, 3, 32, 32), dtype=np.uint8))
    data = Dataset(x, y, tuple(f"class {i}" for i in range(10)), name="made")
    with Ledger(folder, write=True) as ledger:
        ledger.add_data(
            data.digest,
            {
                "name": "made",
                "file": store_data(folder, data),
                "n": samples,
                "shape": [3, 32, 32],
                "title": "A million records",
                "warnings": [],
            },
        )
        ledger.set_meta(told={"title": "A million records", "headline": ["8/255"]})
        plan, spent, rows = [], 0.0, 0
        for m in range(models):
            for a in range(attacks):
                words = CellNames(f"model {m}", "made", f"attack {a} linf 8/255", f"attack {a}", "8/255", 8 / 255)
                cell = ledger.add_cell(f"{m}-{a}", data.digest, samples, asdict(words), words.attack, (words.attack,))
                plan.append((cell, words))
                for first in range(0, samples, SHARD):
                    part = numbers(draw, y[first : first + SHARD].numpy(), 0.3 + 0.05 * a)
                    began = time.perf_counter()
                    ledger.add_shard(cell, Shard(first, SHARD, 1.0, "here", None, None, ()), part)
                    spent, rows = spent + time.perf_counter() - began, rows + SHARD
        ledger.set_plan(plan)
    return rows, spent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--attacks", type=int, default=10)
    parser.add_argument("--samples", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = peak()
        rows, seconds = filled(folder, arguments.models, arguments.attacks, arguments.samples)
        after = peak()
        with Ledger(folder, write=True) as ledger:
            began = time.perf_counter()
            page = write_report(studies_of(folder, ledger)[0], folder / "page.html")
            report = time.perf_counter() - began
            shown = peak()
            began = time.perf_counter()
            publish(folder, ledger)
            all_ = time.perf_counter() - began
        sizes = {p.name: p.stat().st_size for p in folder.iterdir() if p.is_file()}
        record(
            "million",
            {
                "records": rows,
                "inserted_per_s": round(rows / seconds),
                "insert_s": round(seconds, 2),
                "report_s": round(report, 2),
                "report_MiB": round(page.stat().st_size / 2**20, 2),
                "everything_s": round(all_, 2),
                "ledger_MiB": round(sizes["ledger.sqlite"] / 2**20, 1),
                "csv_MiB": round(sizes["samples.csv"] / 2**20, 1),
                "parquet_MiB": round(sizes.get("samples.parquet", 0) / 2**20, 1),
                "memory_MiB": {
                    "before": round(before),
                    "filled": round(after),
                    "report": round(shown),
                    "all": round(peak()),
                },
            },
        )


if __name__ == "__main__":
    main()
