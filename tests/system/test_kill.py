"""A result that seed() accepted survives kill -9, and the run goes on as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_40_kills_at_random_moments_lose_no_accepted_result_and_change_no_candidate(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.kill", "--kills", "40", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "kill.json").read_text())["figures"]
    assert figures["kills"] == 40
    assert figures["windows"] >= 15, "it got on between the kills"
    assert (figures["lost"], figures["different"]) == (0, 0)
