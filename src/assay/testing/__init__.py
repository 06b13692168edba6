"""The properties that every attack must have, for attacks of other packages."""

from assay.testing.attack_case import AttackCase, ConformanceError
from assay.testing.conformance import PROPERTIES, check_attack

__all__ = ["PROPERTIES", "AttackCase", "ConformanceError", "check_attack"]
