"""Attack a randomised classifier: the expectation over its noise, not one lucky draw."""

import assay
from assay.data import load
from assay.masks import SpectralResidual
from assay.models import build

# %% A classifier smoothed by Gaussian noise.
data = load("scenes:size=16,count=300", limit=24)
base = build("tiny-cnn", channels=3, classes=8, size=16).eval()
smooth = assay.Expectation(base, draws=8, sigma=0.1)
x, y = data.images(), smooth(data.images()).argmax(1)

# %% Loss and foreground score are averaged over the noise at every step.
attack = assay.DualPerturbation(4 / 255, 20 / 255, steps=5, saliency=SpectralResidual(), lam=0.1)
outcome = assay.attack(smooth, x, y, attack, mask=data.masks)
print(outcome)
print("forward passes a sample, draws included:", outcome.forwards.float().mean().item())
fresh = assay.Expectation(base, draws=64, sigma=0.1, seed=1)
print("still right under fresh noise:", (fresh(outcome.images).argmax(1) == y).float().mean().item())
