"""Box decomposition of the region above a reference point that a front leaves undominated; m = 2 or 3, maximised.

The region {h > reference: no f in F with f >= h} is a union of boxes (lower, upper] without common volume, upper maybe
+inf. The hypervolume improvement of a point h is then sum over boxes prod_j (min(h_j, upper_j) - lower_j)_+.
m = 2: the strips over the staircase, at most P + 1. m = 3: the third objective falls from +inf while the staircase of
what was passed is kept as columns, and a new point closes those it touches and opens two (Yang, Emmerich, Deutz and
Baeck 2019, "Efficient computation of expected hypervolume improvement using box decomposition algorithms"): at most
2 P + 1 boxes, here in O(P^2), as columns move up an array. A point that is dominated, repeated, holds NaN or does not
lie above the reference in every coordinate changes nothing; ties in a coordinate are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Boxes:
    """The boxes of S fronts, padded to the longest; every edge once, since a transcendental for each costs most.

    lower, upper (S, K, m); count (S,) boxes hold, beyond are +inf. edges (S, m, E): each sample's distinct values of
    lower and upper in a dimension, rising; edge_count (S, m) hold, the last +inf, as is the padding. lower_index,
    upper_index (S, K, m): where a box's edges stand there (0 in the padding).
    """

    lower: Floats
    upper: Floats
    count: Integers
    edges: Floats
    edge_count: Integers
    lower_index: Integers
    upper_index: Integers


def most_boxes(P: int, m: int) -> int:
    """How many boxes a front of P points of m objectives can need: P + 1, or 2 P + 1 for m = 3."""
    from arqon_kernels._cpu import boxes as compiled

    return compiled.most_boxes(P, m)


def decompose(F: Any, reference: Any) -> tuple[Any, Any]:
    """lower, upper (K, m) for one front F (P, m), as the type that came in.

    The torch reference gives more and smaller boxes of the same region. ValueError for shapes that do not fit.
    """
    if type(F).__module__.partition(".")[0] == "torch":
        from arqon_kernels._torch.boxes import decompose as cells

        return cells(F, reference)
    from arqon_kernels._cpu import boxes as compiled

    F, reference = _checked(F, reference, 2)
    lower, upper = (np.empty((compiled.most_boxes(*F.shape), F.shape[1])) for _ in range(2))
    count = compiled.decompose(F, reference, lower, upper)
    return lower[:count], upper[:count]


def decompose_all(F: Any, reference: Any) -> Boxes:
    """The boxes of each of S fronts F (S, P, m) of NumPy arrays. ValueError for shapes that do not fit."""
    from arqon_kernels._cpu import boxes as compiled

    return Boxes(*compiled.decompose_all(*_checked(F, reference, 3)))


def _checked(F: Any, reference: Any, ndim: int) -> tuple[Floats, Floats]:
    F, reference = (np.ascontiguousarray(x, dtype=np.float64) for x in (F, reference))
    if F.ndim != ndim or reference.shape not in ((2,), (3,)) or F.shape[-1:] != reference.shape:
        expected = "(P, m), (m,)" if ndim == 2 else "(S, P, m), (m,)"
        raise ValueError(f"expected shapes {expected} with m = 2 or 3; found {F.shape}, {reference.shape}")
    if not np.isfinite(reference).all():
        raise ValueError(f"reference: expected finite numbers, found {reference}")
    return F, reference
