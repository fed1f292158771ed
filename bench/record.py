"""Where a bench writes its figures: one JSON file with machine, versions and date, so that anyone can repeat it."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("arqon-gp", "torch", "botorch", "gpytorch", "numpy", "scipy", "numba", "optuna", "egobox")


def write(name: str, figures: Any, *, settings: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `<folder>/<name>.json`: the figures, the settings they were made with, and what they were made on."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    shown = {"date": _today(), "machine": machine(), "settings": settings, "figures": figures}
    path.write_text(json.dumps(shown, indent=1) + "\n")
    print(f"written: {path}", file=sys.stderr)
    return path


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, versions and the commit."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": commit(),
    }


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@lru_cache
def commit() -> str | None:
    """The commit that is checked out, abbreviated."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None
