"""Answer: the protocol of diagnostic results."""

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@runtime_checkable
class Answer(Protocol):
    """The answer to one question about a model or a training trail."""

    def frame(self) -> list[dict[str, Any]]:
        """One record a row; ``pandas.DataFrame(answer.frame())`` makes a table of it."""
        ...

    def figure(self) -> "Figure":
        """A matplotlib figure."""
        ...

    def verdict(self) -> str:
        """One sentence."""
        ...
