"""What an ONNX file says of other files, read without opening any of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from assay.core.arguments import described, reject


def named_files(path: Path) -> list[str]:
    """The other files that an ONNX file names as the places of its weights, as it names them.

    Args:
        path: the file.

    Raises:
        ImportError: ONNX is not installed.
        ValueError: not an ONNX file.

    Source: onnx/docs/ExternalData.md. The check of such names in onnx had to be mended more than once (CVE-2022-25882,
    CVE-2024-27318, CVE-2026-27489), so no file is opened on the word of another one.
    """
    import onnx

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as failure:  # the decoder's errors have no public names
        reject("path", "an ONNX file", described(f"{path.name} ({str(failure)[:80]})"))
    external = onnx.TensorProto.EXTERNAL
    tensors = (tensor for tensor in _tensors(model, onnx.TensorProto) if tensor.data_location == external)
    names = (entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location")
    return list(dict.fromkeys(names))


def _tensors(message: Any, kind: type) -> Iterator[Any]:
    """Every tensor anywhere inside a message: initialisers, attributes, inner graphs, functions."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                yield from _tensors(part, kind)
