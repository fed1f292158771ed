"""Expected hypervolume improvement of a candidate over sampled fronts, in closed form over the candidate.

Outcomes u_j ~ N(mean_j, std_j^2) are independent; the maximised objective is h_j = sign_j u_j, or sign_j exp(u_j) where
is_log. With psi_j(a) = E[(h_j - a)_+] and the boxes of `boxes.py`, for each sample s (Yang, Emmerich, Deutz and Baeck
2019, where h is linear)
    E[HVI_s] = sum_k prod_j (psi_j(lower_skj) - psi_j(upper_skj)),    value = log mean_s E[HVI_s].
psi: the expected improvement where h is linear, the lognormal put (sign -1; 0 for a >= 0) or call (sign +1) else: their
formulas stand in `normal.py`. psi(+inf) = 0. It is evaluated once for each distinct edge.

Accuracy: psi is exact to 2e-13 relative for z > -37.5 and 0 below (psi / std < 1e-305). A difference of two psi loses
what they share: its relative error is about 4e-16 psi(lower) / (psi(lower) - psi(upper)), which for edges w apart is at
most 4e-16 max(gain, std) / w; in a sum of boxes an error of 4e-16 psi(lower) stands beside the wide boxes' product. If
the sum over all samples is below 1e-280 it is taken again in logs, and is finite however far below the front a
candidate lies; -inf, with gradients 0, is left for what cannot improve: h = -exp(u) above a reference >= 0.
A std of 0 is read as 1e-100. Scale: outcomes within 1e-20..1e20 of 1, so that m of them neither overflow nor vanish.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from arqon_kernels.boxes import Boxes

Floats = npt.NDArray[np.float64]


def log_expected_hvi(mean: Any, std: Any, sign: Any, is_log: Any, boxes: Boxes) -> Any:
    """The log of the mean over S samples of E[HVI_s]; mean (S, m), std, sign (+-1), is_log (m,).

    Torch tensors run through the differentiable reference and give a tensor of shape (), NumPy arrays give a float.
    """
    if type(mean).__module__.partition(".")[0] == "torch":
        from arqon_kernels._torch.improvement import log_expected_hvi as reference

        return reference(mean, std, sign, is_log, boxes.lower, boxes.upper, boxes.count)
    return log_expected_hvi_gradient(mean, std, sign, is_log, boxes)[0]


def log_expected_hvi_gradient(
    mean: Any, std: Any, sign: Any, is_log: Any, boxes: Boxes
) -> tuple[float, Floats, Floats]:
    """`log_expected_hvi` with its gradients in mean (S, m) and std (m,). ValueError for what does not fit."""
    from arqon_kernels._cpu import improvement as compiled

    mean, std, sign = (np.ascontiguousarray(x, dtype=np.float64) for x in (mean, std, sign))
    is_log = np.ascontiguousarray(is_log, dtype=np.bool_)
    S, m, E = boxes.edges.shape
    if mean.shape != (S, m) or not std.shape == sign.shape == is_log.shape == (m,):
        found = f"{mean.shape}, {std.shape}, {sign.shape}, {is_log.shape}"
        raise ValueError(f"expected shapes {(S, m)}, {(m,)}, {(m,)}, {(m,)}; found {found}")
    if not (np.abs(sign) == 1).all() or (std < 0).any():
        raise ValueError(f"expected signs of +1 or -1 and no std below 0; found {sign}, {std}")
    logs = compiled.edge_logs(boxes.edges, sign, is_log)
    grad_mean, grad_std, work = np.empty((S, m)), np.empty(m), np.empty((3, m, S, E))
    value = compiled.log_expected_hvi_all(
        mean,
        std,
        sign,
        is_log,
        boxes.edges,
        logs,
        boxes.edge_count,
        boxes.lower_index,
        boxes.upper_index,
        boxes.count,
        grad_mean,
        grad_std,
        work,
    )
    return value, grad_mean, grad_std
