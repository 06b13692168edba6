"""How an image classifier breaks, how to harden it, and why.

The names are in ``__init__.pyi``; each is imported when it is first used, so that ``assay --help`` does not wait for
PyTorch; one at a time, as threads that import modules of one package at once get hold of half of them.
"""

import threading
from typing import Any

import lazy_loader

_ONE_IMPORTS = threading.RLock()
_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A name of assay's, imported now."""
    with _ONE_IMPORTS:
        return _import(name)
