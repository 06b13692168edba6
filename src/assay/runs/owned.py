"""The files of a run's folder that its ledger names: only these are replaced or removed."""

from assay.core.arguments import described, reject
from assay.runs.ledger import Ledger


def files(ledger: Ledger) -> tuple[str, ...]:
    """The files of the run's folder that this ledger names, relative to it."""
    images = [row[0] for row in ledger.connection.execute("SELECT images FROM shard WHERE images IS NOT NULL")]
    data = [str(about["file"]) for about in ledger.data().values()]
    return tuple(dict.fromkeys((*(ledger.meta("files") or ()), *images, *data)))


def own(ledger: Ledger, *names: str) -> None:
    """Name files before they are written.

    Raises:
        ValueError: one is there already and is not the run's.
    """
    known = list(ledger.meta("files") or ())
    new = [name for name in names if name not in known]
    strange = [name for name in new if (ledger.path.parent / name).exists()]
    if strange:
        got = f"{', '.join(strange)} in {ledger.path.parent}, which this run did not write"
        reject("out", "no other files of the names that a run writes (move them, or choose another folder with -o)",
               described(got))  # fmt: skip
    if new:
        ledger.keep(files=[*known, *new])
