"""Kill -9 at random moments of a study, then the same command: is the table the one of an uninterrupted run?

Every kill is of a fresh run. It hits the driver, or one of its workers (which the driver has to replace by itself).
The workers of a killed driver have to end by themselves.

    python kills.py --count 50                # local workers
    python kills.py --count 10 --executor ray
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import record

STUDY = """
title: To be killed
models:
  clean: {{load: {folder}/clean/model.safetensors}}
  robust: {{load: {folder}/robust/model.safetensors}}
data:
  scenes: {{load: "scenes:size=16,count=400", limit: 24}}
attacks: ["pgd:steps=40", "square:queries=80"]
budgets: [{{eps: 4/255}}]
run: {{shard: 4, stop: never, checked: 6}}
"""


def assay(*words, **more):
    return [sys.executable, "-m", "assay", *map(str, words)]


def prepared(folder):
    for name, objective in (("clean", ["clean"]), ("robust", ["pgd-at", "--eps", "4/255", "--attack-steps", "3"])):
        subprocess.run(
            assay(
                "train",
                "--data",
                "scenes:size=16,count=400",
                "-o",
                folder / name,
                "--epochs",
                4,
                "--objective",
                *objective,
                "--quiet",
            ),
            check=True,
            capture_output=True,
        )
    study = folder / "study.yaml"
    study.write_text(STUDY.format(folder=folder))
    return study


def children(pid):
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in path.read_text().split()]
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def alive(marker):
    """Processes that have a word on their command line."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += marker.encode() in path.read_bytes()
        except OSError:
            continue
    return count


def answers(out):
    """The answers of the checks, without what they cost."""
    from assay.store.ledger import Ledger

    with Ledger(out) as ledger:
        return {
            name: [
                (a["check"], a["about"], a["level"], a["text"])
                for a in ledger.answer(key)["checks"]
                if a["check"] != "B9"
            ]
            for name, key in ledger.meta("checks").items()
        }


def killed(command, out, moment, whom, draw):
    """Start a run and kill it, or a worker, at a moment: what was killed, and what the run had done by then."""
    process = subprocess.Popen([*command, "-o", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment)
    if process.poll() is not None:
        return "nothing: it had ended"
    workers = children(process.pid)
    if whom == "worker" and workers:
        os.kill(draw.choice(workers), signal.SIGKILL)
        process.wait()
        return f"a worker; the run ended with {process.returncode}"
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = sum(Path(f"/proc/{worker}").exists() for worker in workers)
    return "the driver" + (f", {left} workers left behind" if left else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no kill after so long")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    study = prepared(folder)
    command = assay("run", study, "--executor", arguments.executor, "--workers", 2, "--threads", 1, "--quiet")
    began = time.monotonic()
    subprocess.run([*command, "-o", str(folder / "whole")], check=True, capture_output=True)
    whole, seconds = (folder / "whole" / "samples.csv").read_bytes(), time.monotonic() - began
    rows = []
    while len(rows) < arguments.count and time.monotonic() - began < 60 * arguments.minutes:
        number = len(rows)
        out = folder / f"run-{number}"
        moment = draw.uniform(0.15, 0.98) * seconds
        whom = "worker" if arguments.executor == "local" and number % 5 == 4 else "driver"
        what = killed(command, out, moment, whom, draw)
        if what.startswith("nothing"):  # too late: no kill
            shutil.rmtree(out)
            continue
        done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True, check=False)
        same = done.returncode == 0 and (out / "samples.csv").read_bytes() == whole
        stray = [p.name for p in out.rglob("*") if p.name.endswith((".part", "-wal", "-shm"))]
        alike = done.returncode == 0 and answers(out) == answers(folder / "whole")
        rows.append(
            {"moment": round(moment, 2), "killed": what, "same": same, "same answers": alike, "stray files": len(stray)}
        )
        print(rows[-1], done.stderr[-300:] if done.returncode else "", file=sys.stderr)
        shutil.rmtree(out)
    shutil.rmtree(folder)
    record(
        f"kills-{arguments.executor}",
        {
            "study": "2 models, 2 attacks, 24 images, shards of 4, two workers; then all checks",
            "uninterrupted_s": round(seconds, 1),
            "kills": len(rows),
            "same_table": sum(row["same"] for row in rows),
            "same_answers_of_checks": sum(row["same answers"] for row in rows),
            "stray_files": sum(row["stray files"] for row in rows),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
