"""The environment of a run: versions of packages, hardware, date."""

import platform
from datetime import UTC, datetime

import torch

from assay.util.packages import package_version


def facts() -> dict[str, str]:
    """Versions, hardware and date, as text for a report."""
    info = {
        "assay": package_version("assay"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": f"{processor()}, {torch.get_num_threads()} threads",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    if torch.cuda.is_available():
        info["accelerator"] = torch.cuda.get_device_name()
    return info


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
