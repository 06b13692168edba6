"""What diagnostics cost: parameter saliency beside a loop over images; sharedness of 1,000 perturbations by 5,000.

Each in a process of its own, for the peak of memory.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from common import best, fashion, interleaved, models, record
from torch.nn import functional as F

from assay.diagnostics import filter_gradients, filters_of, spread
from assay.models import build
from assay.models.small import tiny_cnn


def loop(model, x, y):
    """One image after the other, as it is usually written."""
    names, found = filters_of(model), []
    weights = [p for name, p in model.named_parameters() if name in names]
    for image, label in zip(x, y, strict=True):
        slopes = torch.autograd.grad(F.cross_entropy(model(image[None]), label[None]), weights)
        found.append(torch.cat([slope.abs().flatten(1).mean(1) for slope in slopes]))
    return torch.stack(found)


def together(model, x, y):
    """The gradient of the whole batch: what no way of computing each image's own can go below."""
    weights = [p for name, p in model.named_parameters() if name in filters_of(model)]
    for part, labels in zip(x.split(32), y.split(32), strict=True):
        torch.autograd.grad(F.cross_entropy(model(part), labels), weights)


def saliency(count):
    rows = []
    for name, model, n in (
        ("strattack-cnn", models("plain")["plain"], count),
        ("tiny-cnn", models("pgd-at-bn")["pgd-at-bn"], count),
        ("resnet18", build("resnet18", channels=1, classes=10, size=28).eval(), count // 10),
    ):
        data = fashion("test", n)
        x, y = data.images(), data.y
        model.requires_grad_(True)
        jobs = {
            "ours": lambda model=model, x=x, y=y: filter_gradients(model, x, y),
            "loop": lambda model=model, x=x, y=y: loop(model, x, y),
            "batch": lambda model=model, x=x, y=y: together(model, x, y),
        }
        times, results = interleaved(jobs, 2)
        worst = float((results["ours"] - results["loop"]).abs().max() / results["loop"].abs().max())
        rows.append(
            {
                "network": name,
                "images": n,
                "ours_s": round(best(times["ours"]), 2),
                "loop_s": round(best(times["loop"]), 2),
                "ratio": round(best(times["ours"]) / best(times["loop"]), 3),
                "gradient_of_the_batch_alone": round(best(times["batch"]) / best(times["loop"]), 3),
                "largest_difference": worst,
            }
        )
        print(rows[-1], flush=True)
    return rows


def peak():
    """Most memory that this process has had, MiB. Not getrusage, which counts the parent's before the start."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def sharedness(perturbations, images):
    """Run in a process of its own; peak of memory beyond the data and the network, a tiny-cnn of width 4."""
    generator = torch.Generator().manual_seed(0)
    model = tiny_cnn(1, 10, 28, width=4).eval()
    x, y = torch.rand(images, 1, 28, 28, generator=generator), torch.arange(images) % 10
    deltas = 0.1 * torch.randn(perturbations, 1, 28, 28, generator=generator).sign()
    with torch.no_grad():
        model(x[:2])
    before, began = peak(), time.perf_counter()
    spread(model, deltas, x, y)
    seconds = time.perf_counter() - began
    print(
        json.dumps(
            {
                "perturbations": perturbations,
                "images": images,
                "seconds": round(seconds, 1),
                "mib_beyond": round(peak() - before, 1),
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--pairs", nargs=2, type=int)
    arguments = parser.parse_args()
    if arguments.pairs:
        sharedness(*arguments.pairs)
        return
    rows = saliency(arguments.images)
    record("diagnostics", {"asked": {"ratio": 0.2}, "rows": rows, "sharedness": []})
    memory = []
    for pairs in ((100, 1000), (1000, 5000)):
        command = [sys.executable, __file__, "--pairs", *map(str, pairs)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        memory.append(json.loads(told.splitlines()[-1]))
        print(memory[-1], flush=True)
    record("diagnostics", {"asked": {"ratio": 0.2}, "rows": rows, "sharedness": memory})


if __name__ == "__main__":
    main()
