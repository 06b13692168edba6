"""Collected only in a process of its own, which `tests/test_simulated.py` starts: the device changes torch for good."""

import os

collect_ignore_glob = [] if os.environ.get("ASSAY_SIMULATED") else ["test_*.py"]

if os.environ.get("ASSAY_SIMULATED"):
    from simulated.device import install

    install()
