from .registry import CORRUPTIONS, corrupt
from .score import ALEXNET, Damage, corruption_errors, measure

__all__ = ["ALEXNET", "CORRUPTIONS", "Damage", "corrupt", "corruption_errors", "measure"]
