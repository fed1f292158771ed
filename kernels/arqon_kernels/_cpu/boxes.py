"""Box decomposition of what a front leaves undominated, compiled: 2 objectives by a staircase, 3 by a sweep."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arqon_kernels._cpu import compiled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


@compiled
def most_boxes(P: int, m: int) -> int:
    return P + 1 if m == 2 else 2 * P + 1


@compiled
def decompose(F: Floats, reference: Floats, lower: Floats, upper: Floats) -> int:
    m = len(reference)
    kept = np.empty(len(F), np.int64)  # what lies above the reference, by falling last objective
    n = 0
    for i in range(len(F)):
        above = True
        for j in range(m):
            above = above and F[i, j] > reference[j]  # NaN is not above
        if not above:
            continue
        at = n
        while at > 0 and F[kept[at - 1], m - 1] < F[i, m - 1]:
            kept[at] = kept[at - 1]
            at -= 1
        kept[at] = i
        n += 1
    if m == 2:
        return staircase(F, reference, kept[:n], lower, upper)
    return sweep(F, reference, kept[:n], lower, upper)


@compiled
def staircase(F: Floats, reference: Floats, kept: npt.NDArray[np.int64], lower: Floats, upper: Floats) -> int:
    """One box over each step; `kept` falls in the second objective, so a step must rise in the first."""
    count = 0
    left, ceiling = reference[0], math.inf
    for i in kept:
        if F[i, 0] <= left:
            continue  # dominated
        if F[i, 1] < ceiling:  # of two points as high, the wider one moves the same step on
            lower[count, 0], lower[count, 1] = left, F[i, 1]
            upper[count, 0], upper[count, 1] = math.inf, ceiling
            count += 1
            ceiling = F[i, 1]
        left = F[i, 0]
    lower[count, 0], lower[count, 1] = left, reference[1]
    upper[count, 0], upper[count, 1] = math.inf, ceiling
    return count + 1


@compiled
def sweep(F: Floats, reference: Floats, kept: npt.NDArray[np.int64], lower: Floats, upper: Floats) -> int:
    """The third objective falls from +inf to the reference. The plane above the staircase of what was passed is held as
    columns [right[c - 1], right[c]] x [floor[c], inf), open since the height top[c]; a new point closes the columns it
    touches and opens two, so at most 2 P + 1 boxes arise."""
    n = len(kept)
    right, floor, top = np.empty(n + 2), np.empty(n + 2), np.empty(n + 2)
    right[0], floor[0], top[0] = math.inf, reference[1], math.inf
    columns, count = 1, 0
    for i in kept:
        x, y, z = F[i, 0], F[i, 1], F[i, 2]
        last = 0  # the column that holds x: it keeps what lies right of x
        while right[last] <= x:
            last += 1
        if floor[last] >= y:
            continue  # dominated by what was passed, which is as high or higher
        first = last  # the columns first..last lie lower than y, left of x
        while first > 0 and floor[first - 1] <= y:
            first -= 1
        left = reference[0] if first == 0 else right[first - 1]
        for c in range(first, last + 1):
            if top[c] > z:
                lower[count, 0], lower[count, 1], lower[count, 2] = left, floor[c], z
                upper[count, 0], upper[count, 1], upper[count, 2] = right[c], math.inf, top[c]
                count += 1
            left = right[c]
        shift = first + 2 - (last + 1)  # columns first..last become two
        kept_right, kept_floor = right[last], floor[last]
        if shift > 0:
            for c in range(columns - 1, last, -1):
                right[c + 1], floor[c + 1], top[c + 1] = right[c], floor[c], top[c]
        elif shift < 0:
            for c in range(last + 1, columns):
                right[c + shift], floor[c + shift], top[c + shift] = right[c], floor[c], top[c]
        columns += shift
        right[first], floor[first], top[first] = x, y, z
        right[first + 1], floor[first + 1], top[first + 1] = kept_right, kept_floor, z
    left = reference[0]
    for c in range(columns):
        lower[count, 0], lower[count, 1], lower[count, 2] = left, floor[c], reference[2]
        upper[count, 0], upper[count, 1], upper[count, 2] = right[c], math.inf, top[c]
        count += 1
        left = right[c]
    return count


@compiled
def index_edges(
    F: Floats,
    reference: Floats,
    lower: Floats,
    upper: Floats,
    count: int,
    edges: Floats,
    edge_count: Integers,
    lower_index: Integers,
    upper_index: Integers,
) -> None:
    """Fill, for one front, its sorted distinct edges (m, P + 2) and where each box finds its own among them."""
    P, m = F.shape
    values, used = np.empty(P + 2), np.empty(P + 2, np.int32)
    for j in range(m):
        n = 1
        values[0] = reference[j]
        for i in range(P):
            value = F[i, j]
            if not value > reference[j] or value == math.inf:
                continue
            at = n
            while values[at - 1] > value:
                at -= 1
            if values[at - 1] == value:
                continue
            for e in range(n, at, -1):
                values[e] = values[e - 1]
            values[at] = value
            n += 1
        values[n] = math.inf
        n += 1
        used[:n] = 0
        for k in range(count):
            lower_index[k, j] = find(values, n, lower[k, j])
            upper_index[k, j] = find(values, n, upper[k, j])
            used[lower_index[k, j]] = 1
            used[upper_index[k, j]] = 1
        kept = 0
        for e in range(n):
            if used[e] == 1:
                edges[j, kept] = values[e]
                used[e] = kept
                kept += 1
        edge_count[j] = kept
        edges[j, kept:] = math.inf
        for k in range(count):
            lower_index[k, j] = used[lower_index[k, j]]
            upper_index[k, j] = used[upper_index[k, j]]


@compiled
def find(values: Floats, n: int, value: float) -> int:
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) // 2
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def decompose_all(
    F: Floats, reference: Floats
) -> tuple[Floats, Floats, Integers, Floats, Integers, Integers, Integers]:
    S, P, m = F.shape
    K, E = most_boxes(P, m), P + 2
    lower, upper, count = np.full((S, K, m), math.inf), np.full((S, K, m), math.inf), np.zeros(S, np.int32)
    edges, edge_count = np.empty((S, m, E)), np.zeros((S, m), np.int32)
    lower_index, upper_index = np.zeros((S, K, m), np.int32), np.zeros((S, K, m), np.int32)
    for s in range(S):
        count[s] = decompose(F[s], reference, lower[s], upper[s])
        index_edges(
            F[s], reference, lower[s], upper[s], count[s], edges[s], edge_count[s], lower_index[s], upper_index[s]
        )
    k, e = 0, 0
    for s in range(S):
        k = max(k, count[s])
        for j in range(m):
            e = max(e, edge_count[s, j])
    return (
        lower[:, :k].copy(),
        upper[:, :k].copy(),
        count,
        edges[:, :, :e].copy(),
        edge_count,
        lower_index[:, :k].copy(),
        upper_index[:, :k].copy(),
    )


@compiled
def front_counts(Y: Floats) -> npt.NDArray[np.int64]:
    S, P, m = Y.shape
    found = np.zeros(P, np.int64)
    for s in range(S):
        for i in range(P):
            on = math.isfinite(Y[s, i, 0])
            for k in range(P):
                j = 0
                while j < m and Y[s, k, j] >= Y[s, i, j]:
                    j += 1
                if j < m:
                    continue
                for j in range(m):
                    on = on and Y[s, k, j] == Y[s, i, j]
                if not on:
                    break
            found[i] += on
    return found
