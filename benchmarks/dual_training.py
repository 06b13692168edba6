"""AT-Dual beside AT-PGD and clean training on made scenes (paper 000, figure 4 at small scale), by the command line.

The report with the curves over both budgets is runs/dual/report.html.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from common import CACHE, record

from assay.cli.main import main as assay
from assay.data import load
from assay.models import load as load_model

EPS, BACKGROUND = "4/255", "20/255"


def run(*words):
    code = assay([str(w) for w in words])
    if code:
        sys.exit(code)


def accuracy(file, data):
    """On clean images, all of the test part."""
    model = load_model(str(file))
    with torch.no_grad():
        parts = [model(data.images(at)).argmax(1) == data.y[at] for at in torch.arange(len(data)).split(256)]
    return torch.cat(parts).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=400)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--eps", default=EPS)
    parser.add_argument("--background", default=BACKGROUND)
    parser.add_argument("--out", type=Path, default=CACHE / "dual-report")
    arguments = parser.parse_args()
    eps, background = arguments.eps, arguments.background
    data = f"scenes:size=32,count={arguments.images}"
    models, files = [], {}
    for name in ("clean", "pgd-at", "at-dual"):
        out = CACHE / f"dual-{name}-{arguments.images}-{arguments.epochs}-{eps}-{background}".replace("/", "_")
        words = [
            "train",
            "--data",
            data,
            "-o",
            out,
            "--objective",
            name,
            "--arch",
            "tiny-cnn",
            "--batch",
            64,
            "--rate",
            2e-3,
            "--schedule",
            "cosine",
            "--epochs",
            arguments.epochs,
            "--attack-steps",
            7,
        ]
        # both begin from the clean network, as the paper's begin from a network that has learnt to classify
        words += [] if name == "clean" else ["--eps", eps, "--start", models[1].partition("=")[2]]
        words += ["--eps-background", background] if name == "at-dual" else []
        run(*words)
        files[name] = out / "model.safetensors"
        models += ["--model", f"{name}={files[name]}"]
    whole = [eval(text) for text in (eps, background)]
    run(
        "evaluate",
        *models,
        "--data",
        data,
        "--limit",
        arguments.n,
        "--eps",
        eps,
        "--eps-background",
        background,
        "--attack",
        "apgd:steps=50",
        "--attack",
        "dual:steps=50",
        "--attack",
        "dual-apgd:steps=50",
        "--curve-background",
        ",".join(f"{whole[1] * k:.6f}" for k in (0.25, 0.5, 0.75, 1.25, 1.5)),
        "--curve-foreground",
        ",".join(f"{whole[0] * k:.6f}" for k in (0.25, 0.5, 0.75, 1.25, 1.5)),
        "--curve",
        ",".join(f"{whole[0] * k:.6f}" for k in (0.5, 1.5, 2)),
        "-o",
        arguments.out,
    )
    summary = json.loads((arguments.out / "summary.json").read_text())
    cells = [{key: cell[key] for key in ("model", "attack", "robust_accuracy")} for cell in summary["cells"]]
    everything = load(data, split="test")
    rows = [
        {
            "model": m["model"],
            "clean": accuracy(files[m["model"]], everything),
            **{c["attack"]: c["robust_accuracy"] for c in cells if c["model"] == m["model"]},
        }
        for m in summary["models"]
    ]
    record(
        "dual_training",
        {"n": arguments.n, "n_clean": len(everything), "eps": eps, "background": background, "rows": rows},
    )


if __name__ == "__main__":
    main()
