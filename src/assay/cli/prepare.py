"""``assay data``: data sets as papers use them."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from assay.cli.output import print_line
from assay.data.recipes.registry import prepare_data
from assay.util.console import console_reporter


def data(
    action: Literal["prepare"],
    recipe: str,
    /,
    *,
    source: Path,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    unchecked: bool = False,
    quiet: bool = False,
) -> int:
    """Prepare a data set of a paper from the files in which its authors distribute it.

    Nothing is downloaded: a message says where to get what is missing. After an interrupt, run the same command.

    Parameters
    ----------
    action
        prepare.
    recipe
        cifar10, stl10, segment6, gtsrb, tiny-imagenet, imagenet10 or imagenet (see: assay ls recipes).
    source
        The folder of the files.
    out
        What is written: a file such as data/stl10.npz; a folder for imagenet.
    unchecked
        Take files whose digest is not the published one.
    quiet
        No progress.
    """
    with console_reporter(quiet=quiet, notes=not quiet) as reporter:
        spec = prepare_data(recipe, source, out, unchecked=unchecked, work=reporter.work)
    print_line(f"data: {spec}")
    return 0
