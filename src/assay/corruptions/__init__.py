"""Common corruptions: noise, blur, weather and digital damage at five severities, and the scores made of them."""

from assay.corruptions.registry import CORRUPTIONS, corrupt
from assay.corruptions.score import ALEXNET, Damage, corruption_errors, measure

__all__ = ["ALEXNET", "CORRUPTIONS", "Damage", "corrupt", "corruption_errors", "measure"]
