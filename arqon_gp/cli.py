"""The command line: `arqon-gp demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from arqon_gp import ArqonError, __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    parser = argparse.ArgumentParser(
        prog="arqon-gp", description="Keeps live systems tuned, one small safe change at a time."
    )
    parser.add_argument("--version", action="version", version=f"arqon-gp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="tune a real SQLite database under load, live, in about 90 seconds")
    demo.add_argument(
        "--dir", type=Path, help="where database, journal and picture are kept; an unfinished run there goes on"
    )
    demo.add_argument("--windows", type=int, default=40, help="results the study may spend (default %(default)s)")
    demo.add_argument("--window-s", type=float, default=1.0, help="seconds a window is observed (default %(default)s)")
    demo.add_argument(
        "--pairs", type=int, default=6, help="windows of each config in the last comparison (default %(default)s)"
    )
    demo.add_argument("--plain", action="store_true", help="one line a window instead of the live view")
    given = parser.parse_args(argv)
    try:
        from arqon_gp.demo import Settings, play
    except ImportError as error:
        print(f"arqon-gp demo needs {error.name}: pip install 'arqon-gp[demo]'", file=sys.stderr)
        return 2
    try:
        return play(Settings(given.dir, given.windows, given.window_s, given.pairs, given.plain))
    except ArqonError as error:  # another config or another solver in this folder
        print(f"arqon-gp demo: {error}", file=sys.stderr)
        return 2
