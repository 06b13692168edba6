"""PGD-40 and APGD-100 on PreActResNet-18 at 32×32 with 512 slots: images a second, and the share of the bare loop.

For a machine with a CUDA device: python gpu.py. All rows stay active (a budget of 1e-6), so that the pure cost of the
engine shows; then the production case, stopping at the first hit. Each in eager mode, compiled, and with CUDA graphs,
in float32 and with bfloat16 search. On a CPU, python gpu.py --device cpu --n 8 --steps 2 --modes no only shows that it
runs.
"""

import argparse
import time
import warnings
from functools import partial

import torch
from common import record

import assay
from assay.models import build


def bare(model, x, y, steps, precision):
    adv = x.clone()
    for _ in range(steps):
        adv.requires_grad_()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(model(adv), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, adv)
        adv = (adv.detach() + 0.01 * grad.sign()).clamp(x - 0.03, x + 0.03).clamp(0, 1)
    return adv


def clock(work, device):
    """Seconds of the second of two runs (the first compiles and warms up)."""
    for _ in range(2):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--n", type=int, default=2048)
    parser.add_argument("--slots", type=int, default=512)
    parser.add_argument("--steps", type=int, default=0, help="instead of 40 and 100")
    parser.add_argument("--modes", nargs="*", default=["no", "default", "reduce-overhead"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    device = arguments.device
    model = build("preactresnet18", channels=3, classes=10, size=32, normalize="cifar10").to(device).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    x = torch.rand(arguments.n, 3, 32, 32)
    with torch.no_grad():
        y = torch.cat([model(part.to(device)).argmax(1).cpu() for part in x.split(arguments.slots)])
    cases = (
        ("PGD-40", lambda eps: assay.PGD(eps, steps=arguments.steps or 40), arguments.steps or 40),
        ("APGD-100", lambda eps: assay.APGD(eps, steps=arguments.steps or 100), arguments.steps or 100),
    )
    rows = []
    for name, make, steps in cases:
        for precision in ("float32", "bfloat16"):
            part, labels = x[: arguments.slots].to(device), y[: arguments.slots].to(device)
            floor = clock(partial(bare, model, part, labels, steps, precision), device)
            rate = len(part) / floor
            for mode in arguments.modes:
                for kind, eps in (("all rows active", 1e-6), ("stop at the first hit", 1 / 255)):
                    settings = {"slots": arguments.slots, "search": precision, "compile": mode, "preflight": False}
                    seconds = clock(partial(assay.attack, model, x, y, make(eps), **settings), device)
                    rows.append(
                        {
                            "attack": name,
                            "precision": precision,
                            "compile": mode,
                            "case": kind,
                            "images_per_second": round(arguments.n / seconds, 1),
                            "of_bare_loop": round(arguments.n / seconds / rate, 3),
                        }
                    )
                    print(rows[-1], flush=True)
    if device.startswith("cuda"):
        record(
            "gpu", {"device": torch.cuda.get_device_name(), "n": arguments.n, "slots": arguments.slots, "rows": rows}
        )


if __name__ == "__main__":
    main()
