"""Attack signatures (REDRL): train recognisers of the attack that produced an image."""

from assay.signatures.answers import Confusion, Innocence, confusion, innocence, recogniser_confusion
from assay.signatures.calibration import calibrate
from assay.signatures.examples import Examples, make_examples
from assay.signatures.identifier import Guess, Identifier, load_identifier
from assay.signatures.losses import Helpers
from assay.signatures.networks import Recogniser, Reconstructor
from assay.signatures.plan import SCENARIOS, Plan
from assay.signatures.recognition import Recognition
from assay.signatures.settings import KINDS, Grid, Setting, settings
from assay.signatures.tables import RecognitionTable, RestorationTable, recognition_table, restoration_table
from assay.signatures.training import train_recogniser

__all__ = [
    "KINDS",
    "SCENARIOS",
    "Confusion",
    "Examples",
    "Grid",
    "Guess",
    "Helpers",
    "Identifier",
    "Innocence",
    "Plan",
    "Recogniser",
    "Recognition",
    "RecognitionTable",
    "Reconstructor",
    "RestorationTable",
    "Setting",
    "calibrate",
    "confusion",
    "innocence",
    "load_identifier",
    "make_examples",
    "recogniser_confusion",
    "recognition_table",
    "restoration_table",
    "settings",
    "train_recogniser",
]
