"""``assay doctor``: check the installation."""

import importlib
import os
from typing import Any

import torch

from assay.cli.output import print_json, print_table
from assay.util.environment import facts
from assay.util.packages import package_version
from assay.util.text import plain

OPTIONAL = {
    "accelerate": ("train", "training"),
    "sklearn": ("digits", "the digits data"),
    "pyarrow": ("parquet", "parquet data"),
    "transformers": ("hf", "hf: models"),
    "datasets": ("hf", "hf: data"),
    "onnxruntime": ("onnx", "ONNX files"),
    "captum": ("explain", "Grad-CAM of any network"),
    "ray": ("ray", "studies on several machines"),
    "timm": ("vision", "timm: models"),
    "torchvision": ("vision", "torchvision: models and data"),
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def doctor(*, json: bool = False) -> int:
    """Check the installation: versions, hardware, optional packages, and a self-test.

    Parameters
    ----------
    json
        As JSON.
    """
    checks = [*_installed(), _self_test()]
    if json:
        print_json({"facts": facts(), "checks": checks})
    else:
        print_table([[k, v] for k, v in facts().items()], ("fact", "value"))
        print_table([[c["name"], c["state"], c["text"]] for c in checks], ("check", "state", ""))
    return 0 if all(c["state"] != "failed" for c in checks) else 1


def _installed() -> list[dict[str, Any]]:
    results = []
    for library, (extra, purpose) in OPTIONAL.items():
        try:
            importlib.import_module(library)
            state, text = "ok", f"{package_version(DISTRIBUTIONS.get(library, library))}, for {purpose}"
        except ModuleNotFoundError as error:
            missing = error.name == library
            state = "absent" if missing else "broken"
            text = f'for {purpose}: pip install "assay[{extra}]"' if missing else str(error)
        except Exception as error:
            state, text = "broken", f"{type(error).__name__}: {plain(str(error), 120)}"
        results.append({"name": library, "state": state, "text": text})
    results.append({"name": "cores", "state": "ok", "text": f"{os.cpu_count()} seen, {torch.get_num_threads()} used"})
    return results


def _self_test() -> dict[str, Any]:
    """PGD on a linear model must gain exactly eps times the l1 norm of the weights."""
    from assay.attacks.pgd import PGD
    from assay.engine.api import attack

    weight = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, dtype=torch.long)

    def model(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ weight.T + torch.tensor([9.0, 0.0])

    outcome = attack(model, x, y, PGD(0.1, steps=20), stop="never", preflight=False)
    before = float((model(x)[:, 1] - model(x)[:, 0])[0])
    gained, best = float(outcome.margin[0]) - before, 0.1 * 3.5
    right = abs(gained - best) < 1e-4
    text = f"PGD gains {gained:.5f} on a linear model whose optimum is {best:.5f}"
    return {"name": "self-test", "state": "ok" if right else "failed", "text": text}
