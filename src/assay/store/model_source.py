"""ModelSource: how to load a model, stored in the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from assay.defences.registry import defend
from assay.models.load import load as load_model

_FOLDER = "{run}"
"""What stands in a record for the folder of the run, so that it may be moved."""


@dataclass(frozen=True)
class ModelSource:
    """Where a process gets a model from.

    Attributes:
        spec: as `assay.models.load` takes it.
        recipe: what a weights file leaves out, as pairs.
        defence: around it, as `assay.defences.defend` takes it; None for none.
    """

    spec: str
    recipe: tuple[tuple[str, Any], ...] = ()
    defence: str | None = None

    def to_json(self, folder: Path) -> dict[str, Any]:
        """What JSON can hold; a file inside a folder by its place there, so that the folder may be moved."""
        path = Path(self.spec).absolute()
        inside = path.is_file() and path.is_relative_to(folder.absolute())
        spec = path.relative_to(folder.absolute()).as_posix() if inside else self.spec
        own = None if self.defence is None else self.defence.replace(f"={folder.absolute()}/", f"={_FOLDER}/")
        return {"spec": spec, "recipe": list(self.recipe), "defence": own, "inside": inside}

    @staticmethod
    def from_json(info: Mapping[str, Any], folder: Path) -> "ModelSource":
        """Inverse of `to_json`."""
        spec = str(folder / info["spec"]) if info["inside"] else info["spec"]
        defence = info["defence"]
        if defence is not None:
            defence = defence.replace(f"={_FOLDER}/", f"={folder.absolute()}/")
        return ModelSource(spec, tuple((key, value) for key, value in info["recipe"]), defence)

    def load(self) -> nn.Module:
        """The model, in evaluation mode."""
        model = load_model(self.spec, recipe=dict(self.recipe) if self.recipe else None)
        return model if self.defence is None else defend(model, self.defence)
