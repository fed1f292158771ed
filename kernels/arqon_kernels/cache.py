"""Where compiled code is kept on disk. Public: cache_folder."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path


@cache
def cache_folder() -> Path | None:
    """The first of $NUMBA_CACHE_DIR, the package's own __pycache__ and the user's cache that can be written to."""
    here = Path(__file__).parent / "_cpu"
    sources = sorted([*here.glob("*.py"), *here.parent.glob("*.py")])
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    wanted = os.environ.get("NUMBA_CACHE_DIR")
    for parent in (*([Path(wanted)] if wanted else []), here / "__pycache__", users / "arqon-gp"):
        folder = parent / f"numba-{stamp}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f"probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError:
            continue
        return folder
    return None
