"""Machine code from the cache: loaded without its bitcode, right also where another function is compiled against it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
from arqon_kernels._cpu import compiled

@compiled
def inner(x):
    return 2.0 * x + 1.0

@compiled
def outer(x):
    return inner(x) * inner(-x)
"""
PARSED = """
import llvmlite.binding as llvm
from numba.core import event

parsed, compiled = [], []
parse = llvm.parse_bitcode
llvm.parse_bitcode = lambda code, *rest: parsed.append(1) or parse(code, *rest)

class Seen(event.Listener):
    def on_start(self, e): compiled.append(e.data["dispatcher"].__name__)
    def on_end(self, e): pass

event.register("numba:compile", Seen())
import bodies
"""


def run(folder: Path, code: str) -> str:
    (folder / "bodies.py").write_text(MODULE)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_is_called_is_neither_compiled_nor_parsed_again(tmp_path: Path) -> None:
    run(tmp_path, "import bodies; bodies.inner(1.0)")
    assert run(tmp_path, PARSED + "print(bodies.inner(2.0), parsed, compiled)") == "5.0 [] []"


def test_a_function_compiled_against_it_later_gets_the_right_body(tmp_path: Path) -> None:
    run(tmp_path, "import bodies; bodies.inner(1.0)")
    code = PARSED + "print(bodies.inner(2.0), bodies.outer(2.0), len(parsed), compiled)"
    assert run(tmp_path, code) == "5.0 -15.0 1 ['outer']"
    assert run(tmp_path, PARSED + "print(bodies.outer(3.0), bodies.inner(1.0), parsed, compiled)") == "-35.0 3.0 [] []"


def test_where_numba_has_changed_its_own_way_is_taken(tmp_path: Path) -> None:
    run(tmp_path, "import bodies; bodies.inner(1.0)")
    changed = (
        "from arqon_kernels._cpu import machine_code\n"
        "def gone(self): raise AttributeError('_finalize_final_module')\n"
        "machine_code._Library._finalize_final_module = gone\n"
    )
    assert run(tmp_path, PARSED + changed + "print(bodies.inner(2.0), len(parsed), compiled)") == "5.0 1 []"
