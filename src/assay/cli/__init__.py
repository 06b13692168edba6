"""The command line: thin commands over the library."""

from assay.cli.main import main

__all__ = ["main"]
