"""How an image classifier breaks, how to harden it, and why.

The names are in ``__init__.pyi``; each is imported when it is first used, so that ``assay --help`` does not wait for
PyTorch.
"""

import lazy_loader

from assay.util.imports import name_hint, one_at_a_time

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = one_at_a_time(_load, name_hint(__all__))
