"""Attacks, one file each; each is imported when it is first used.

Importing one by name does not import the others: the first attack of a program is not to wait for fifty files.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
