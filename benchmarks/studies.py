"""The small studies, or those on real data, as somebody runs them: seconds, and each claim with our number.

python studies.py                   # --workers 2, which is what a machine with two cores has
python studies.py --only survey     # that one anew; the others stay as they are in the record, with their commits
python studies.py --folder real --only adversarial-training-over-time-cifar10 --set data.cifar.load=npz:cifar10.npz
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from common import HERE, merged, record

from assay.study.parse import read_study

CLAIM = ("says", "theirs", "ours", "interval", "verdict", "threshold")


def ran(study, title, out, arguments):
    """Seconds of the command, and what its summary says."""
    command = [sys.executable, "-m", "assay", "run", study, "-o", out, "--workers", str(arguments.workers), "--quiet"]
    command += [word for change in arguments.set for word in ("--set", change)]
    began = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    summary = json.loads((out / "summary.json").read_text())
    parts = summary.get("studies", [summary])
    return {
        "study": study.stem,
        "title": title,
        "seconds": None if arguments.untimed else round(seconds, 1),
        "grades": {row["model"]: row["grade"] and row["grade"]["grade"] for part in parts for row in part["models"]},
        "claims": [{key: claim[key] for key in CLAIM} for claim in summary["claims"]],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("--only", nargs="+", help="these studies; the others from the record")
    parser.add_argument("--folder", choices=("small", "real"), default="small")
    parser.add_argument(
        "--untimed", action="store_true", help="record no seconds: the machine does other work meanwhile"
    )
    parser.add_argument("--set", action="append", default=[], help="changes of the study, as of assay run")
    arguments = parser.parse_args()
    name = {"small": "studies", "real": "studies-real"}[arguments.folder]
    out = arguments.out or Path(tempfile.mkdtemp(prefix="studies-"))
    for study in sorted((HERE.parent / "studies" / arguments.folder).glob("*.yaml")):
        if arguments.only and study.stem not in arguments.only:
            continue
        row = ran(study, read_study(study).title, out / study.stem, arguments)
        print(json.dumps(row, indent=1), file=sys.stderr)
        keep(name, row, arguments.workers)


def keep(name, row, workers):
    """Write the record with one row more, or anew."""
    rows = sorted(merged(name, [row], "study"), key=lambda row: row["study"])
    claims = [claim for row in rows for claim in row["claims"]]
    record(
        name,
        {
            "workers": workers,
            "seconds": round(sum(row["seconds"] or 0 for row in rows), 1),
            "claims": len(claims),
            "measured": sum(claim["ours"] != "not measured" for claim in claims),
            "verdicts": dict(Counter(claim.get("verdict") for claim in claims)),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
