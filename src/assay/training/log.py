"""Trackers of training runs: TensorBoard and MLflow, if they are installed. Their failures never stop a run."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from assay.util.validate import described, reject


class Logger(Protocol):
    """A tracker."""

    def start(self, config: Mapping[str, Any]) -> None:
        """The settings of the run."""
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Values of an epoch."""
        ...

    def finish(self) -> None:
        """The end."""
        ...


class TensorBoard:
    """Event files in a folder (``pip install tensorboard``)."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))

    def start(self, config: Mapping[str, Any]) -> None:
        """The settings, as text."""
        self.writer.add_text("recipe", "\n".join(f"    {key}: {value}" for key, value in config.items()))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A scalar each."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self) -> None:
        """Close the file."""
        self.writer.close()


class MLflow:
    """A run of the tracking server that MLflow's own environment variables name (``pip install mlflow-skinny``)."""

    def __init__(self, folder: Path) -> None:
        import mlflow  # type: ignore[import-not-found,unused-ignore]

        self.mlflow, self.name = mlflow, folder.name

    def start(self, config: Mapping[str, Any]) -> None:
        """Parameters."""
        self.mlflow.start_run(run_name=self.name)
        self.mlflow.log_params(dict(config))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A metric each."""
        self.mlflow.log_metrics(dict(values), step=step)

    def finish(self) -> None:
        """End the run."""
        self.mlflow.end_run()


TRACKERS: dict[str, Callable[[Path], Logger]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


class Guarded:
    """Trackers of a run, each dropped with a warning when it fails."""

    def __init__(self, names: tuple[str, ...], folder: Path) -> None:
        self.loggers: list[Logger] = []
        for name in names:
            if name not in TRACKERS:
                reject("track", "any of " + ", ".join(TRACKERS), name)
            try:
                self.loggers.append(TRACKERS[name](folder))
            except Exception as failure:  # a broken installation raises all kinds
                reject("track", f"a working installation of {name}", described(str(failure)))

    def call(self, method: str, *arguments: Any) -> None:
        """Call a method of every tracker."""
        for logger in list(self.loggers):
            try:
                getattr(logger, method)(*arguments)
            except Exception as failure:
                self.loggers.remove(logger)
                warnings.warn(f"{type(logger).__name__} is dropped: {failure}", stacklevel=2)
