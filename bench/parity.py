"""Parity: are the recommendations as good as those of BoTorch's loop? A closed-loop comparison, registered beforehand.

Nine problems (bench/problems.py), 2(d + 1) Sobol points, then 20 asks one at a time; the arms share initial points and
noise. `arqon`: ArqonSolver, the initial points as rows known before the first ask, probe_ratio 0. `botorch`:
SingleTaskGP, Matern-5/2 with BoTorch's own priors, Standardize, fit_gpytorch_mll at every tell, qLogNEI / qLogNEHVI, 10
restarts, 512 raw and 128 samples. `botorch_ours`: the same with our priors. All know the reference point of a front.

Score, lower is better. One outcome: the true regret of the evaluated point with the best posterior mean of the arm's
own model, in % of range. Several: 1 - hypervolume ratio, in %, of the true outcomes of the evaluated points that no
other dominates by the own model's posterior means. Our model's means are those that solver.recommend() shows, asked of
the solver's advisor at each evaluated point (recommend() itself may name a point that was never evaluated). Beside it,
not registered: `seen`, the same of all evaluated points, whatever the model believes.

Registered before a counted seed was run: the seeds, the counts, and the margins. Passed (exit status 0) if the lower
end of the 95 % bootstrap interval of botorch - arqon, averaged over problems, is above -2, and no problem's upper end
is below -2. One line a (problem, seed, arm) in parity.jsonl, with the commit that made it: safe to stop and to run in
shards; --summary judges.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from bench import peers, record
from bench.problems import (
    PROBLEMS,
    Case,
    case,
    front_score,
    nondominated,
    outcome_names,
    point,
    regret,
    result,
    solver_config,
)

ASKS = 20
FIRST_SEED, FIRST_PILOT_SEED = 12_000, 20_000
MARGIN = -2.0  # % of range or of hypervolume
RESAMPLES = 10_000
REGISTERED = {  # seeds a problem, more where the pilot seeds spread wider (2026-11-26)
    "branin2": 15,
    "hart6": 30,
    "levy4": 15,
    "gp3": 15,
    "gp3hi": 40,
    "bc2": 20,
    "gp3x2": 40,
    "gp3x3": 20,
    "dtlz2x3": 20,
}


class Arqon:
    """The product: its public loop; its beliefs from the advisor behind recommend()."""

    def __init__(self, of: Case, seed: int) -> None:
        config = solver_config(of.problem.d, of.problem.m, of.reference, seed=seed)
        self.solver = ArqonSolver(config, registry=CollectorRegistry(), device="cpu")
        self.told = 0

    def ask(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """The point after all results so far; those not told yet are told first."""
        self._tell(X, Y)
        candidate = self.solver.ask_one()
        assert candidate is not None
        return point(candidate)

    def _tell(self, X: np.ndarray, Y: np.ndarray) -> None:
        self.solver.seed([result(x, y) for x, y in zip(X[self.told :], Y[self.told :], strict=True)])
        self.told = len(X)

    def means(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Posterior means (n, m) of the noise-free outcomes at the evaluated points."""
        self._tell(X, Y)
        self.solver.recommend()  # fits to the last result, as any user's call would
        study, advisor = self.solver._study, self.solver._advisor
        described = [advisor.describe(study, result(x, y)["params"]) for x, y in zip(X, Y, strict=True)]
        return np.array([[d[0][name].mean for name in outcome_names(Y.shape[1])] for d in described if d])

    def close(self) -> dict[str, int]:
        """How often a proposal had to fall back, by cause."""
        fallbacks: dict[str, int] = self.solver.status()["model"]["fallbacks"]
        self.solver.close()
        return fallbacks


class Botorch:
    """BoTorch's loop."""

    def __init__(self, of: Case, seed: int, *, our_priors: bool, **search: int) -> None:
        self.reference, self.our_priors, self.search = of.reference, our_priors, search
        torch.manual_seed(seed)

    def _fit(self, X: np.ndarray, Y: np.ndarray) -> Any:
        return peers.fit_botorch(X, Y, matern=True, our_priors=self.our_priors)

    def ask(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """The point after all results so far."""
        return peers.maximize_botorch(self._fit(X, Y), X, self.reference, **self.search)

    def means(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """Posterior means (n, m) at the evaluated points."""
        model = self._fit(X, Y)
        with torch.no_grad():
            return -model.posterior(torch.as_tensor(X)).mean.numpy()

    def close(self) -> dict[str, int]:
        """Nothing to count."""
        return {}


SMALL = {"restarts": 2, "raw_samples": 16, "samples": 16}
ARMS: dict[str, Callable[[Case, int, dict[str, int]], Arqon | Botorch]] = {
    "arqon": lambda of, seed, search: Arqon(of, seed),
    "botorch": lambda of, seed, search: Botorch(of, seed, our_priors=False, **search),
    "botorch_ours": lambda of, seed, search: Botorch(of, seed, our_priors=True, **search),
}
made = lru_cache(maxsize=1)(case)


def cell(name: str, seed: int, arm: str, asks: int, search: dict[str, int]) -> dict[str, Any]:
    """One closed loop: its scores, and the median time of an ask (tell included), ms."""
    of = made(name, seed, asks)
    X, ms = of.X, []
    Y = np.array([of.observe(x, i) for i, x in enumerate(X)])
    shown: dict[str, Any] = {"problem": name, "seed": seed, "arm": arm, "asks": asks, "commit": record.commit()}
    try:
        solver = ARMS[arm](of, seed, search)
        for number in range(len(X), len(X) + asks):
            began = time.perf_counter()
            x = solver.ask(X, Y)
            ms.append(1000.0 * (time.perf_counter() - began))
            X, Y = np.vstack([X, x]), np.vstack([Y, of.observe(x, number)])
        means = solver.means(X, Y)
        fallbacks = solver.close()
    except Exception as error:  # a lost cell is counted and shown, and the others go on
        return shown | {"error": f"{type(error).__name__}: {error}"[:200]}
    score = regret if of.problem.m == 1 else front_score
    recommended = X[int(means[:, 0].argmin())] if of.problem.m == 1 else X[nondominated(means)]
    seen = min(regret(of, x) for x in X) if of.problem.m == 1 else front_score(of, X)
    shown |= {"score": round(score(of, recommended), 4), "seen": round(seen, 4), "start": round(_start(of), 4)}
    return shown | {"ask_ms": round(statistics.median(ms), 1), "fallbacks": fallbacks, "fused": peers.logei_is_fused()}


def _start(of: Case) -> float:
    """`seen` of the initial points alone."""
    return min(regret(of, x) for x in of.X) if of.problem.m == 1 else front_score(of, of.X)


# ---- which cells, and what is there already ----------------------------------------------------------------------


def wanted(counts: dict[str, int], first: int, shard: tuple[int, int]) -> Iterator[tuple[str, int]]:
    """(problem, seed): seed by seed over all problems, so that a run that is stopped early is balanced."""
    pairs = [(name, first + i) for i in range(max(counts.values())) for name in counts if i < counts[name]]
    yield from (pair for number, pair in enumerate(pairs) if number % shard[1] == shard[0])


def known(path: Path) -> list[dict[str, Any]]:
    """The lines so far; one that was torn when a run was killed is left out."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"left out, not a whole line: {line[:80]!r}", file=sys.stderr)
    return found


def append(path: Path, line: dict[str, Any]) -> None:
    """One write a line, on a line of its own even after a torn one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a") as out:
        out.write("\n" * torn + json.dumps(line) + "\n")


# ---- the verdict -------------------------------------------------------------------------------------------------


def summary(lines: list[dict[str, Any]], counts: dict[str, int], first: int, asks: int) -> dict[str, Any]:
    """Paired differences peer - arqon by problem, by number of outcomes and over all, with 95 % intervals."""
    scores = {
        (line["problem"], line["seed"], line["arm"]): line
        for line in lines
        if line["asks"] == asks and line["seed"] in range(first, first + counts.get(line["problem"], 0))
    }
    arms = [arm for arm in ARMS if any(key[2] == arm for key in scores)]
    figures: dict[str, Any] = {
        "problems": {},
        "errors": [line for line in scores.values() if "error" in line],
        "complete": all(
            "score" in scores.get((n, first + i, a), {}) for n in counts for i in range(counts[n]) for a in ARMS
        ),
    }
    random = np.random.default_rng(0)
    draws: dict[tuple[str, str, str], np.ndarray] = {}
    for name in counts:
        row = _problem(name, scores, arms)
        for peer in [arm for arm in arms if arm != "arqon"]:
            for what in ("score", "seen"):
                differences = _differences(name, scores, peer, what)
                if len(differences):
                    means = random.choice(differences, (RESAMPLES, len(differences))).mean(axis=1)
                    draws[peer, what, name] = means
                    row[f"{peer} - arqon, {what}"] = _interval(differences.mean(), means)
                    row[f"sd of {peer} - arqon, {what}"] = round(
                        float(differences.std(ddof=int(len(differences) > 1))), 2
                    )
        figures["problems"][name] = row
    groups = {"all": list(counts)} | {
        f"{m} outcome{'s' * (m > 1)}": [n for n in counts if PROBLEMS[n].m == m] for m in (1, 2, 3)
    }
    for group, names in groups.items():
        figures[group] = {}
        for peer, what in dict.fromkeys(key[:2] for key in draws):
            of = [draws[peer, what, n] for n in names if (peer, what, n) in draws]
            if of:
                together = np.mean(of, axis=0)
                figures[group][f"{peer} - arqon, {what}"] = _interval(together.mean(), together)
    figures["registered"] = {peer: _verdict(figures, peer) for peer in arms if peer != "arqon"}
    return figures


def _problem(name: str, scores: dict[tuple[str, int, str], dict[str, Any]], arms: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for arm in arms:
        lines = [line for (n, _, a), line in scores.items() if (n, a) == (name, arm) and "score" in line]
        if lines:
            row[arm] = {
                "seeds": len(lines),
                "score": round(statistics.mean(line["score"] for line in lines), 3),
                "seen": round(statistics.mean(line["seen"] for line in lines), 3),
                "ask_ms": round(statistics.median(line["ask_ms"] for line in lines), 1),
                "fallbacks": sum(sum(line["fallbacks"].values()) for line in lines),
            }
    return row


def _differences(name: str, scores: dict[tuple[str, int, str], dict[str, Any]], peer: str, what: str) -> np.ndarray:
    pairs = []
    for (n, seed, arm), line in scores.items():
        other = scores.get((name, seed, peer), {})
        if n == name and arm == "arqon" and what in line and what in other:
            pairs.append(other[what] - line[what])
    return np.array(pairs)


def _interval(mean: float, means: np.ndarray) -> list[float]:
    """Mean, lower and upper end."""
    return [round(float(x), 3) for x in (mean, *np.quantile(means, [0.025, 0.975]))]


def _verdict(figures: dict[str, Any], peer: str) -> dict[str, Any]:
    key = f"{peer} - arqon, score"
    worse = [name for name, row in figures["problems"].items() if key in row and row[key][2] < MARGIN]
    lower = figures["all"][key][1] if key in figures["all"] else None
    return {"lower_bound": lower, "clearly_worse": worse, "passed": lower is not None and lower > MARGIN and not worse}


def table(figures: dict[str, Any]) -> str:
    """Markdown."""
    peer_arms = list(figures["registered"])
    lines = ["| problem | seeds | " + " | ".join([*ARMS, *(f"{p} - arqon" for p in peer_arms)]) + " |"]
    lines.append("|" + "---|" * (2 + len(ARMS) + len(peer_arms)))
    for name, row in [*figures["problems"].items(), *((g, v) for g, v in figures.items() if g == "all" or "outc" in g)]:
        seeds = row.get("arqon", {}).get("seeds", "")
        shown = [f"{row[arm]['score']:.2f}" if arm in row else "" for arm in ARMS]
        for peer in peer_arms:
            mean, low, high = row.get(f"{peer} - arqon, score", [np.nan] * 3)
            shown.append(f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]")
        lines.append(f"| {name} | {seeds} | {' | '.join(shown)} |")
    for peer, verdict in figures["registered"].items():
        if verdict["lower_bound"] is None:
            continue
        state = "passed" if verdict["passed"] else "not passed"
        worse = ", ".join(verdict["clearly_worse"]) or "none"
        lines.append(f"against {peer}: {state}; lower bound {verdict['lower_bound']:+.2f}, clearly worse: {worse}")
    if not figures["complete"]:
        lines.append("not complete: cells are missing, so nothing is decided")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shard", default="0/1", help="i/k: every k-th (problem, seed), from the i-th on")
    parser.add_argument("--problems", nargs="+", choices=REGISTERED, default=list(REGISTERED))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--pilot", type=int, metavar="SEEDS", help="seeds that do not count, in a file of their own")
    parser.add_argument("--summary", action="store_true", help="judge what is there; runs nothing")
    parser.add_argument("--smoke", action="store_true", help="one pilot seed, two asks, a small search")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    pilot, asks = (1, 2) if given.smoke else (given.pilot, ASKS)
    stem, first = ("parity-pilot", FIRST_PILOT_SEED) if pilot else ("parity", FIRST_SEED)
    counts = {name: pilot or REGISTERED[name] for name in given.problems}
    path, search = given.out / f"{stem}.jsonl", SMALL if given.smoke else {}
    if not given.summary:
        peers.load_fused_kernel(wanted=not given.smoke)
        i, _, k = given.shard.partition("/")
        done = {
            tuple(line[key] for key in ("problem", "seed", "arm", "asks")) for line in known(path) if "score" in line
        }
        for name, seed in wanted(counts, first, (int(i), int(k))):
            for arm in [arm for arm in given.arms if (name, seed, arm, asks) not in done]:
                append(path, line := cell(name, seed, arm, asks, search))
                print(line, file=sys.stderr)
        if not given.smoke:
            return 0
    figures = summary(known(path), counts, first, asks)
    print(table(figures))
    if not pilot or given.smoke:
        settings = {"asks": asks, "seeds": counts, "first_seed": first, "margin": MARGIN, "smoke": given.smoke}
        settings |= {"botorch": {"restarts": peers.RESTARTS, "raw_samples": peers.RAW_SAMPLES} | search, "threads": 1}
        record.write("parity", figures, settings=settings, folder=given.out)
    return 0 if pilot else int(not (figures["complete"] and figures["registered"]["botorch"]["passed"]))


if __name__ == "__main__":
    sys.exit(main())
