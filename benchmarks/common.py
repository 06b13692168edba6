"""What the benchmarks share: data, models, timing, the record."""

import json
import subprocess
import sys
import time
import types
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import torch

import assay
from assay.data import load as load_data
from assay.training import Recipe, train
from assay.util.environment import facts

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
FASHION = "idx:/usr/share/datasets/fashion-mnist"  # where Debian's package dataset-fashion-mnist puts it


def fashion(split, limit):
    return load_data(FASHION, split=split, limit=limit)


def models(*names):
    """Small CNNs on Fashion-MNIST, trained once: the plain one on all images, the robust ones on 12,000."""
    robust = {"objective": "pgd-at", "epochs": 6, "batch": 128, "attack_steps": 7}
    recipes = {
        "plain": Recipe(arch="strattack-cnn", epochs=4, batch=128, rate=1e-3),
        "pgd-at": Recipe(arch="strattack-cnn", rate=1e-3, eps=0.1, **robust),
        "pgd-at-bn": Recipe(arch="tiny-cnn", rate=2e-3, eps=0.1, **robust),
        "pgd-at-l2": Recipe(arch="tiny-cnn", rate=2e-3, eps=1.0, norm="l2", **robust),
    }
    made = {}
    for name in names:
        if name in LOSSES:
            made[name] = plainly_trained(name)
            continue
        data = fashion("train", None if name == "plain" else 12000)
        made[name] = train(data, recipes[name], CACHE / name, progress=lambda e: print(e, file=sys.stderr)).model
    return made


def trades(model, x, y, seed):
    """Zhang et al., ICML 2019: cross-entropy plus 6 times the divergence that seven steps within 0.1 can reach."""
    from torch.nn import functional as F

    attack = assay.PGD(0.1, steps=7, loss="kl")
    adversarial = assay.perturb(model, x, y, attack, seed=seed)
    clean, moved = model(x), model(adversarial)
    return F.cross_entropy(clean, y) + 6 * F.kl_div(
        moved.log_softmax(1), clean.log_softmax(1), log_target=True, reduction="batchmean"
    )


def noisy(model, x, y, seed):
    """Cross-entropy under Gaussian noise of 0.25: the network under a smoothed classifier."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.cross_entropy(model((x + 0.25 * noise).clamp(0, 1)), y)


def four(model, x, y, seed):
    """PGD adversarial training."""
    attack = assay.PGD(0.1, steps=7)
    return torch.nn.functional.cross_entropy(model(assay.perturb(model, x, y, attack, seed=seed)), y)


LOSSES = {"trades": trades, "noise": noisy, "four-classes": four}


def plainly_trained(name, epochs=6):
    """A network trained by a loop written out, on 12,000 images; the small one knows the first four classes."""
    from assay.models import build, load, save

    path, classes = CACHE / name / "model.safetensors", 4 if name == "four-classes" else 10
    recipe = {"arch": "strattack-cnn", "channels": 1, "classes": classes, "size": 28, "normalize": "half"}
    if path.is_file():
        return load(str(path))
    data = fashion("train", 12000)
    data = data.take(data.y < classes)
    torch.manual_seed(0)
    model = build(**recipe)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        for step, at in enumerate(torch.randperm(len(data)).split(128)):
            model.train()
            loss = LOSSES[name](model, data.images(at), data.y[at], 1000 * epoch + step)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        print(name, epoch, float(loss.detach()), file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path, recipe)
    return model.eval()


def timed(work, repeats):
    """Wall times of ``repeats`` runs and the last result."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - began)
    return times, result


def interleaved(jobs, repeats):
    """Run all jobs in turn, ``repeats`` rounds, so that noise of the machine meets them alike.

    Returns:
        Per name: the times and the last result.
    """
    times, results = {name: [] for name in jobs}, {}
    for _ in range(repeats):
        for name, job in jobs.items():
            began = time.perf_counter()
            results[name] = job()
            times[name].append(time.perf_counter() - began)
    return times, results


def best(times):
    """The least disturbed run."""
    return min(times)


def robust_accuracy(model, images, y):
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in images.split(256)]) == y
    return right.float().mean().item()


def merged(name, rows, key):
    """The rows, after those of an earlier record whose key is not among them: parts of a benchmark can be run again."""
    path = HERE / "results" / f"{name}.json"
    known = json.loads(path.read_text())["rows"] if path.is_file() else []
    rows = [{**row, "commit": _commit()} for row in rows]
    return [row for row in known if row[key] not in {new[key] for new in rows}] + rows


def _commit():
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return found.stdout.strip()


def record(name, result):
    """Write a result with date, hardware and commit."""
    full = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "hardware": facts()["processor"],
        "torch": torch.__version__,
        "assay": assay.__name__,
        **result,
    }
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(full, indent=1) + "\n")
    print(json.dumps(full, indent=1))


@cache
def import_adv_lib():
    """adv-lib wants torchvision's operators and visdom, which a CPU environment lacks; it uses neither here."""
    lib = torch.library.Library("torchvision", "DEF")
    for op in ("nms", "qnms"):
        lib.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.modules["visdom"] = types.ModuleType("visdom")
    sys.modules["visdom"].Visdom = object
    import adv_lib.attacks as attacks

    return attacks, lib
