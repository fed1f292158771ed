"""Record what arqonhpo 0.3.3 does in the sessions. Its wheel is for CPython 3.12 only:

pip install arqonhpo==0.3.3 && python -m tests.compatibility.record
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from tests.compatibility.sessions import SESSIONS

FIXTURE = Path(__file__).parent / "arqonhpo-0.3.3.json"


def main() -> None:
    import arqonhpo

    assert version("arqonhpo") == "0.3.3"
    seen = {name: session(arqonhpo.ArqonSolver, arqonhpo.ArqonProbe) for name, session in SESSIONS.items()}
    FIXTURE.write_text(json.dumps(seen, indent=1) + "\n")


if __name__ == "__main__":
    main()
