"""Until when an ask may think. Public: Deadline, NEVER."""

from __future__ import annotations

import math
import time


class Deadline:
    """`after` seconds from now, None for never. `cut` remembers whether something found it passed, and stopped."""

    def __init__(self, after: float | None) -> None:
        self._began = time.perf_counter()
        self._after = math.inf if after is None else after
        self.cut = False

    @property
    def never(self) -> bool:
        """Whether there is none."""
        return math.isinf(self._after)

    def left(self, share: float = 1.0) -> float | None:
        """Seconds until this share of the time is over, 0 at least; None for never."""
        return None if self.never else max(0.0, self._began + share * self._after - time.perf_counter())

    def passed(self, share: float = 1.0) -> bool:
        """Whether this share of the time is over."""
        if self.never or time.perf_counter() < self._began + share * self._after:
            return False
        self.cut = True
        return True


NEVER = Deadline(None)
