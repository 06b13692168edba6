"""Docstrings here have a section ``Example``; griffe reads it as code under the name ``Examples``."""

import re
from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Rename the section before a docstring is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename it in one docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.M)
