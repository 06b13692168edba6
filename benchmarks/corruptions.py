"""Corruptions beside imagecorruptions, on photographs: what is fixed pixel by pixel, what is random by its statistics.

The peer wants old libraries, so it has an environment of its own: python corruptions.py --peer makes its images,
python corruptions.py compares.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
IMAGES, THEIRS = HERE / ".cache" / "corruptions-images.npy", HERE / ".cache" / "corruptions-theirs.npz"
FIXED = {
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
}
SEVERITIES = (1, 3, 5)


def photographs(count=8, side=224):
    """Pieces of the photographs that scikit-learn carries."""
    from sklearn.datasets import load_sample_images

    pieces, photos = [], load_sample_images().images
    for i in range(count):
        photo = photos[i % len(photos)]
        top, left = (i * 37) % (photo.shape[0] - side), (i * 91) % (photo.shape[1] - side)
        pieces.append(photo[top : top + side, left : left + side])
    return np.stack(pieces)


def peer():
    import skimage.filters

    known = skimage.filters.gaussian

    def gaussian(image, *args, multichannel=None, **more):  # the name of the argument has changed since
        return known(image, *args, channel_axis=-1 if multichannel else None, **more)

    skimage.filters.gaussian = gaussian
    from imagecorruptions import corrupt, get_corruption_names

    images, made = np.load(IMAGES), {}
    np.random.seed(0)
    for name in get_corruption_names("all"):
        for severity in SEVERITIES:
            made[f"{name}/{severity}"] = np.stack([corrupt(x, corruption_name=name, severity=severity) for x in images])
    np.savez_compressed(THEIRS, **made)


def roughness(x):
    """Mean difference of neighbours."""
    return np.abs(np.diff(x, axis=1)).mean(), np.abs(np.diff(x, axis=2)).mean()


def main():
    import torch
    from common import record

    from assay.corruptions import CORRUPTIONS, corrupt

    if not THEIRS.is_file():
        IMAGES.parent.mkdir(exist_ok=True)
        np.save(IMAGES, photographs())
        sys.exit(f"images are at {IMAGES}; now run python corruptions.py --peer where imagecorruptions is installed")
    images, theirs = np.load(IMAGES), np.load(THEIRS)
    x, rows = torch.from_numpy(images).permute(0, 3, 1, 2) / 255, []
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            ours = corrupt(x, name, severity, table="imagenet").permute(0, 2, 3, 1).numpy()
            other = theirs[f"{name}/{severity}"] / 255
            changed = np.abs(other - images / 255).mean()
            change = np.abs(ours - images / 255).mean()
            row = {
                "corruption": name,
                "severity": severity,
                "change": round(float(change), 4),
                "theirs": round(float(changed), 4),
                "mean": round(float(ours.mean() - other.mean()), 4),
                "deviation": round(float(ours.std() / other.std()), 3),
                "roughness": round(float(np.mean(roughness(ours)) / np.mean(roughness(other))), 3),
            }
            if name in FIXED:
                row["pixelwise"] = round(float(np.abs(ours - other).mean()) * 255, 3)
            rows.append(row)
            print(row)
    record("corruptions", {"n": len(images), "rows": rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", action="store_true")
    peer() if parser.parse_args().peer else main()
