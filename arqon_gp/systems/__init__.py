"""Systems that can be tuned: the port, and one module for each kind of system.

A system is told a config and observed for a while; it knows nothing of optimization. Public: System.
"""

from __future__ import annotations

from typing import Protocol

from arqon_gp.records import Params


class System(Protocol):
    """A running system under load."""

    def apply(self, params: Params) -> None:
        """Reconfigure the running system; returns when the new config is in force."""

    def observe(self, window_s: float) -> dict[str, float]:
        """Measure for `window_s` seconds: outcome name -> value, raw units."""

    def close(self) -> None:
        """Stop what this object started; the system's data stays."""
