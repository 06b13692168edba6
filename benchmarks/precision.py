"""What a bfloat16 search saves here, beside what it could: the cost of a pass, the passes needed, the whole job."""

import argparse
import warnings

import torch
from common import best, fashion, interleaved, models, record
from speed import bare_loop

import assay


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data = fashion("test", 512)
    x, y = data.images(), data.y
    rows = {}
    for name in ("plain", "pgd-at"):
        model = models(name)[name].eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)

        def one(dtype, model=model):
            z = x[:256].clone().requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = torch.nn.functional.cross_entropy(model(z).float(), y[:256], reduction="sum")
            return torch.autograd.grad(loss, z)

        times, _ = interleaved({d: lambda d=d: one(d) for d in ("float32", "bfloat16")}, arguments.repeats)

        def job(search, model=model):
            attack = assay.PGD(0.1, steps=40, step_size=0.01)
            return assay.attack(model, x, y, attack, search=search, preflight=False)

        jobs = {
            "bare": lambda model=model: bare_loop(model, x, y),
            "float32": lambda: job("float32"),
            "bfloat16": lambda: job("bfloat16"),
        }
        whole, found = interleaved(jobs, 3)
        outcome = found["float32"]
        ratio = best(times["bfloat16"]) / best(times["float32"])
        needed = outcome.backwards.float().mean().item() / 40
        rows[name] = {
            "pass_ratio": round(ratio, 3),
            "passes_needed": round(needed, 3),
            "floor_of_bare_loop": round(ratio * needed, 3),
            "float32_of_bare_loop": round(best(whole["float32"]) / best(whole["bare"]), 3),
            "bfloat16_of_bare_loop": round(best(whole["bfloat16"]) / best(whole["bare"]), 3),
            "robust_float32": round(100 * outcome.robust_accuracy, 2),
            "robust_bfloat16": round(100 * found["bfloat16"].robust_accuracy, 2),
        }
    record("precision", {"amx": torch.backends.cpu.get_cpu_capability(), "models": rows})


if __name__ == "__main__":
    main()
