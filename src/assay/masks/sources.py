"""Where foreground masks come from, by name."""

from assay.data.dataset import Dataset
from assay.masks.foreground import folder_masks, salient_mask, threshold_mask
from assay.masks.saliency import SpectralResidual
from assay.util.validate import reject

FOREGROUNDS = ("auto", "data", "saliency", "intensity")


def with_foreground(data: Dataset, source: str) -> Dataset:
    """The data with masks from where they were asked for."""
    if source == "auto":
        source = "data" if data.masks is not None else "saliency"
    if source == "data":
        if data.masks is None:
            reject("foreground", "saliency, intensity or folder:PATH (the data have no masks)", source)
        return data
    if source.startswith("folder:"):
        names = [str(i) for i in range(len(data))]
        masks = folder_masks(source.removeprefix("folder:"), names, (data.x.shape[2], data.x.shape[3]))
    elif source == "intensity":
        masks = threshold_mask(data.images().mean(1, keepdim=True))
    elif source == "saliency":
        masks = salient_mask(SpectralResidual(), data.images())
    else:
        reject("foreground", ", ".join(FOREGROUNDS) + " or folder:PATH", source)
    return Dataset(data.x, data.y, data.classes, masks=masks > 0.5, name=data.name, source=data.source)
