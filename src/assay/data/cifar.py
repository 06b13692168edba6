"""``cifar:path``: CIFAR-10 and CIFAR-100 as distributed, "python" or "binary" version.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. The python version is pickled; a pickle can run any code, so the
batches are read by an unpickler that knows four names, and none of them is the real one.
"""

import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.data.arrays import labels, pixels
from assay.data.dataset import Dataset
from assay.data.spec import MissingData, Request
from assay.data.text import read_lines
from assay.util.validate import described, reject

OPTIONS = ("labels",)

_PIXELS = 3 * 32 * 32
_MOST = 2**29
_FOLDERS = ("cifar-10-batches-py", "cifar-100-python", "cifar-10-batches-bin", "cifar-100-binary")


class _Form(NamedTuple):
    """One of the four forms in which the sets are distributed."""

    name: str
    batches: dict[str, tuple[str, ...]]
    classes: str
    header: int
    """Label bytes before the pixels of a binary record; 0 for the python version."""


_TRAIN = tuple(f"data_batch_{k}" for k in range(1, 6))
_FORMS = (
    _Form("cifar10", {"train": _TRAIN, "test": ("test_batch",)}, "batches.meta", 0),
    _Form("cifar10", {"train": tuple(f"{n}.bin" for n in _TRAIN), "test": ("test_batch.bin",)}, "batches.meta.txt", 1),
    _Form("cifar100", {"train": ("train",), "test": ("test",)}, "meta", 0),
    _Form("cifar100", {"train": ("train.bin",), "test": ("test.bin",)}, "{labels}_label_names.txt", 2),
)


def load(request: Request) -> Dataset:
    """Load CIFAR-10 or CIFAR-100 from the folder of its batches, or from the folder that holds that one.

    Args:
        request: path, split, and the option ``labels`` (``fine`` or ``coarse``) for CIFAR-100.

    Returns:
        The images of the split, uint8 ``(n, 3, 32, 32)``.

    Raises:
        ValueError: batches are missing or damaged, or a pickle names anything but arrays.
    """
    if request.split not in ("train", "test"):
        reject("split", "'train' or 'test' for CIFAR", request.split)
    kind = request.choice("labels", "fine", ("fine", "coarse"))
    root, form = _find_root(request.place())
    if "labels" in request.options and form.name == "cifar10":
        reject("option labels", "no such option for CIFAR-10, which has one kind of label", kind)
    read = _read_binary if form.header else _read_pickled
    parts = [read(_require_file(root / name), form, kind) for name in form.batches[request.split]]
    x = np.concatenate([part[0] for part in parts]).reshape(-1, 3, 32, 32)
    y = np.concatenate([part[1] for part in parts])
    classes = _classes(_require_file(root / form.classes.format(labels=kind)), form, kind)
    return Dataset(pixels(x, "cifar", "nchw"), labels(y, "cifar"), classes, name=form.name)


def _find_root(path: Path) -> tuple[Path, _Form]:
    for root in (path, *(path / name for name in _FOLDERS)):
        for form in _FORMS:
            if any((root / name).is_file() for names in form.batches.values() for name in names):
                return root, form
    return reject(
        "cifar path", "a folder with data_batch_1 … or train and test, or their .bin", str(path), error=MissingData
    )


def _require_file(path: Path) -> Path:
    if not path.is_file():
        reject("cifar", f"a file {path.name!r} in {str(path.parent)!r}", described("none"))
    if path.stat().st_size > _MOST:
        reject(f"cifar {path}", f"at most {_MOST} bytes", described(f"{path.stat().st_size}"))
    return path


def _read_binary(path: Path, form: _Form, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    record = form.header + _PIXELS
    if len(data) == 0 or len(data) % record:
        reject(f"cifar {path}", f"records of {record} bytes", described(f"{len(data)} bytes"))
    rows = data.reshape(-1, record)
    column = 1 if form.header == 2 and kind == "fine" else 0
    return rows[:, form.header :], rows[:, column]


def _read_pickled(path: Path, form: _Form, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    batch = read_pickle(path)
    x = batch.get("data")
    if not isinstance(x, _Array):
        reject(f"cifar {path}", "an array 'data'", described(f"{type(x).__name__}"))
    pixels_ = x.array(path)
    if pixels_.ndim != 2 or pixels_.shape[1] != _PIXELS or pixels_.dtype != np.uint8:
        reject(f"cifar {path}", f"uint8 data (n, {_PIXELS})", described(f"{pixels_.dtype} {pixels_.shape}"))
    key = "labels" if form.name == "cifar10" else f"{kind}_labels"
    y = batch.get(key)
    if not isinstance(y, list) or not all(isinstance(label, int) for label in y) or len(y) != len(pixels_):
        reject(f"cifar {path}", f"a list {key!r} of {len(pixels_)} whole numbers", y)
    return pixels_, np.array(y, np.int64)


def _classes(path: Path, form: _Form, kind: str) -> tuple[str, ...]:
    if form.header:
        return read_lines(path)
    key = "label_names" if form.name == "cifar10" else f"{kind}_label_names"
    names = read_pickle(path).get(key)
    if not isinstance(names, list):
        reject(f"cifar {path}", f"a list {key!r}", names)
    return tuple(_text(name) for name in names)


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a pickled dictionary of numbers, text, lists and arrays, and nothing else.

    Args:
        path: the file.

    Returns:
        The dictionary, its keys as text; arrays are still packed.

    Raises:
        ValueError: the pickle names anything but the parts of an array, is damaged, or is no dictionary.
    """
    try:
        result = _Unpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:
        expected = "a pickle of numbers, text, lists and arrays"
        reject(f"cifar {path}", expected, described(f"{type(error).__name__}: {error}"))
    if not isinstance(result, dict):
        reject(f"cifar {path}", "a pickled dictionary", described(type(result).__name__))
    return {_text(key): value for key, value in result.items()}


class _Dtype:
    """Stands for ``numpy.dtype``: takes the code and the byte order, makes nothing."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = _text(code)

    def __setstate__(self, state: Any) -> None:
        del state  # the byte order and the like; only one-byte pixels are accepted


class _Array:
    """Stands for ``numpy.ndarray``: keeps the state that the pickle gives, to be checked and read afterwards."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self, path: Path) -> NDArray[np.uint8]:
        """The array, if it is one of uint8 in C order whose bytes fill its shape."""
        try:
            _, shape, dtype, fortran, data = self.state
            if dtype.code not in ("u1", "|u1") or fortran:
                raise ValueError(f"dtype {dtype.code!r}, Fortran order {bool(fortran)}")
            return np.frombuffer(data, np.uint8).reshape(shape)
        except Exception as error:
            reject(f"cifar {path}", "a C-contiguous uint8 array", described(f"{type(error).__name__}: {error}"))


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, *_: Any) -> bytes:
    """Stands for ``_codecs.encode``, by which protocol 2 of Python 3 writes bytes."""
    return str(text).encode("latin-1")


_KNOWN = (
    ("numpy.core.multiarray", "_reconstruct", _reconstruct),
    ("numpy._core.multiarray", "_reconstruct", _reconstruct),
    ("numpy", "ndarray", _Array),
    ("numpy", "dtype", _Dtype),
    ("_codecs", "encode", _encode),
)


class _Unpickler(pickle.Unpickler):
    """An unpickler for which nothing exists but the parts of an array."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name, or an error."""
        for known, its_name, stand_in in _KNOWN:
            if (module, name) == (known, its_name):
                return stand_in
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which no CIFAR batch needs")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
