from .api import certified, certified_distance
from .bounding import AlphaCrown, BranchAndBound, Crown, CrownIBP, IntervalBounds
from .certificates import Certificates, Decision, Finding
from .lipschitz import LipschitzMargin
from .network import Network
from .region import Region, region_of
from .registry import CERTIFIERS, certifiers
from .smoothing import SmoothingCertificate
from .subject import Certifier, CertifierInput
from .tracing import trace

__all__ = [
    "CERTIFIERS",
    "AlphaCrown",
    "BranchAndBound",
    "Certificates",
    "Certifier",
    "CertifierInput",
    "Crown",
    "CrownIBP",
    "Decision",
    "Finding",
    "IntervalBounds",
    "LipschitzMargin",
    "Network",
    "Region",
    "SmoothingCertificate",
    "certified",
    "certified_distance",
    "certifiers",
    "region_of",
    "trace",
]
