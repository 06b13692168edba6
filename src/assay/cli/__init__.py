"""The command line: thin commands over the library."""

from assay.cli.main import main, program

__all__ = ["main", "program"]
