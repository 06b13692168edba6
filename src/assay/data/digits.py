"""``digits``: scikit-learn's 1,797 handwritten digits, 8×8, which need no download."""

import numpy as np
import torch

from assay.data.dataset import Dataset
from assay.data.spec import Request, one_set
from assay.util.validate import described, reject

OPTIONS = ("holdout", "seed")


def load(request: Request) -> Dataset:
    """Load the digits, divided 80/20 with the classes in proportion.

    Args:
        request: split; options ``holdout`` (the test part's share) and ``seed`` (which division).

    Returns:
        Float32 ``(n, 1, 8, 8)`` in [0, 1] (the file's 0 … 16, divided by 16); classes ``"0"`` … ``"9"``.

    Raises:
        ImportError: scikit-learn is missing or broken.

    Source:
        E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (its test set).
    """
    try:
        from sklearn.datasets import load_digits
    except Exception as error:
        expected = 'scikit-learn (pip install "assay[digits]")'
        reject("digits", expected, described(f"{type(error).__name__}: {error}"), error=ImportError)
    raw = load_digits()
    x = torch.from_numpy(np.asarray(raw.images, np.float32) / 16)[:, None]
    y = torch.from_numpy(np.asarray(raw.target, np.int64))
    return one_set(Dataset(x, y, tuple("0123456789"), name="digits"), request)
