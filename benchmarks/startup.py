"""What it takes to begin: `import assay` and an evaluation of twelve images, as ratios to `import torch`, in turn.

The evaluation is the whole command, with its report; its attack, and the first backward pass of the process, are shown
apart, for they are no part of beginning.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import CACHE, FASHION, interleaved, record

BEGIN = "import time; t = time.perf_counter(); import torch; a = time.perf_counter(); "
IMPORTS = BEGIN + "import assay; assay.PGD; assay.attack; b = time.perf_counter(); print((b - t) / (a - t))"
TORCH = "import torch"


def command(folder):
    return [
        *(sys.executable, "-m", "assay", "evaluate", "--data", FASHION, "--limit", "12", "--attack", "pgd:steps=1"),
        *("--eps", "0.1", "--checks", "none", "--quiet", "-o", str(folder)),
        *("--model", str(CACHE / "plain" / "model.safetensors")),
    ]


def attack_seconds(folder):
    """What the ledger of a run says that its shards took."""
    from assay.store.ledger import Ledger

    with Ledger(folder) as ledger:
        return sum(part.seconds for parts in ledger.shards().values() for part in parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    attacks = []

    def evaluation():
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            subprocess.run(command(out), check=True, capture_output=True)
            attacks.append(attack_seconds(out))

    def imports():
        return subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True).stdout

    ratios = sorted(float(imports()) for _ in range(arguments.repeats))
    jobs = {"torch": lambda: subprocess.run([sys.executable, "-c", TORCH], check=True), "evaluation": evaluation}
    times, _ = interleaved(jobs, arguments.repeats)
    torch_s, whole, attack = min(times["torch"]), min(times["evaluation"]), min(attacks)
    result = {
        "import_assay_of_import_torch": round(ratios[len(ratios) // 2], 3),
        "import_torch_s": round(torch_s, 2),
        "evaluation_s": round(whole, 2),
        "of_which_attack_s": round(attack, 2),
        "evaluation_beside_the_attack_of_import_torch": round((whole - attack) / torch_s, 2),
    }
    print(json.dumps(result, indent=1))
    record("startup", {"repeats": arguments.repeats, **result})


if __name__ == "__main__":
    main()
