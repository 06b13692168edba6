"""The field type of attacks in study files."""

from typing import Annotated

from pydantic import AfterValidator

from assay.attacks.registry import make


def _attack(spec: str) -> str:
    try:
        make(spec, eps=0.1)
    except (ValueError, TypeError, OverflowError) as error:
        try:
            make(spec, eps=8.0)  # a number of values
        except (ValueError, TypeError, OverflowError):
            raise ValueError(str(error)) from None
    return spec


Attack = Annotated[str, AfterValidator(_attack)]
