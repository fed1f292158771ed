"""Quality: where does a loop end on noisy problems, beside random search, optuna's TPE and GPSampler, BoTorch and Ax?

Ten problems (bench/problems.py). Every arm gets the same 2(d + 1) initial points and, at its n-th evaluation, the same
noise; then it asks one point at a time. Settings are the arms' own defaults (ARMS). Scored is the noise-free truth of
what an arm recommends at the end in its own terms: regret in % of range, or 1 - hypervolume ratio in %. Lower is
better. Recommendations: Arqon GP recommend() and pareto_front(); optuna and random the best windows seen; BoTorch the
evaluated points with the best posterior means; Ax its model's choice among them.

Registered before a counted seed was run: problems, evaluations, arms, the first seed, the margins. Seeds are added
until the half-width of the 95 % interval of botorch - arqon is 2/3 of the margin on each problem, or 40 (10 for Ax).
Passed (exit status 0): against BoTorch the lower bound, averaged over problems, is above the margin and no problem's
upper bound is below; our mean rank is the best; and the three targets of TARGETS hold.

One line a (problem, seed, arm) in quality.jsonl: safe to stop and to run in shards; --summary judges and draws.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import math
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import peers, record
from bench.arms import ARMS
from bench.parity import append, known
from bench.problems import PROBLEMS, case, front_score, regret

EVALUATIONS = {  # the initial ones included
    "branin2_5": 30,
    "branin2_grows": 40,
    "hart6": 60,
    "hart6_gross": 60,
    "hart6_of_20": 100,
    "ackley5": 60,
    "levy4": 50,
    "mixed5": 50,
    "bc2": 40,
    "pool3": 50,
}
MARGINS = {1: 3.0, 2: 2.0, 3: 2.0}  # by number of outcomes: % of range or of hypervolume
LEAST_SEEDS, MOST_SEEDS, AX_SEEDS = 10, 40, 10
FIRST_SEED, FIRST_PILOT_SEED = 50_000, 60_000
TARGETS = {"hart6_gross": 15.0, "hart6_of_20": 6.0, "pool3": 8.0}  # medians, at most
RESAMPLES = 10_000

made = lru_cache(maxsize=1)(case)


def cell(name: str, seed: int, arm: str, evaluations: int) -> dict[str, Any]:
    """One closed loop: the score of its recommendation, and the median time of an ask with its tell, ms."""
    shown: dict[str, Any] = {"problem": name, "seed": seed, "arm": arm, "evaluations": evaluations}
    of = made(name, seed, evaluations - 2 * (PROBLEMS[name].d + 1))
    ms = []
    try:
        loop = ARMS[arm](of, seed)
        for number, x in enumerate(of.X):
            loop.tell(x, of.observe(x, number))
        for number in range(len(of.X), evaluations):
            began = time.perf_counter()
            x = loop.ask()
            y = of.observe(x, number)
            loop.tell(x, y)
            ms.append(1000.0 * (time.perf_counter() - began))
        found = loop.recommend()
    except Exception as error:  # a lost cell is counted and shown, and the others go on
        return shown | {"error": f"{type(error).__name__}: {error}"[:200]}
    score = regret(of, found[0]) if of.problem.m == 1 else front_score(of, found)
    return shown | {"score": round(score, 4), "ask_ms": round(statistics.median(ms), 1), "commit": record.commit()}


# ---- which cells -------------------------------------------------------------------------------------------------


def wanted(path: Path, first: int, most: int, shard: tuple[int, int]) -> Iterator[tuple[str, int]]:
    """(problem, seed), seed by seed, each problem until its interval is narrow enough."""
    for i in range(most):
        lines = known(path)
        for number, name in enumerate(EVALUATIONS):
            mine = (i * len(EVALUATIONS) + number + i) % shard[1] == shard[0]  # no problem always on one shard
            if mine and (i < LEAST_SEEDS or not _enough(lines, name, first)):
                yield name, first + i


def _enough(lines: Sequence[dict[str, Any]], name: str, first: int) -> bool:
    """Whether the first LEAST_SEEDS and more say botorch - arqon well enough; never before both arms have them."""
    pairs = differences(scores(lines), name, "botorch", first)
    if len(pairs) < LEAST_SEEDS:
        return False
    half = 1.96 * float(pairs.std(ddof=1)) / math.sqrt(len(pairs))
    return half <= 2.0 / 3.0 * MARGINS[PROBLEMS[name].m]


# ---- the verdict -------------------------------------------------------------------------------------------------

Scores = dict[tuple[str, int, str], float]


def scores(lines: Sequence[dict[str, Any]]) -> Scores:
    """(problem, seed, arm) -> score."""
    return {(one["problem"], one["seed"], one["arm"]): one["score"] for one in lines if "score" in one}


def differences(found: Scores, name: str, peer: str, first: int) -> np.ndarray:
    """peer - arqon on the seeds both have."""
    seeds = range(first, first + MOST_SEEDS)
    pairs = [(found.get((name, s, peer)), found.get((name, s, "arqon"))) for s in seeds]
    return np.array([a - b for a, b in pairs if a is not None and b is not None])


def summary(lines: Sequence[dict[str, Any]], first: int) -> dict[str, Any]:
    """By problem the arms' medians and means and the paired differences; over all the mean ranks; the verdict."""
    found, random = scores(lines), np.random.default_rng(0)
    figures: dict[str, Any] = {"problems": {}, "errors": [line for line in lines if "error" in line]}
    draws: dict[str, list[np.ndarray]] = {}
    for name in EVALUATIONS:
        row: dict[str, Any] = {}
        for arm in ARMS:
            values = [v for (n, s, a), v in found.items() if (n, a) == (name, arm) and s >= first]
            if values:
                row[arm] = {
                    "seeds": len(values),
                    "mean": round(statistics.mean(values), 2),
                    "median": round(statistics.median(values), 2),
                    "quartiles": [round(float(q), 2) for q in np.quantile(values, [0.25, 0.75])],
                }
            pairs = differences(found, name, arm, first) if arm != "arqon" else np.zeros(0)
            if len(pairs) > 1:
                means = random.choice(pairs, (RESAMPLES, len(pairs))).mean(axis=1)
                draws.setdefault(arm, []).append(means)
                row[f"{arm} - arqon"] = _interval(float(pairs.mean()), means)
                row[f"sd of {arm} - arqon"] = round(float(pairs.std(ddof=1)), 2)
        figures["problems"][name] = row
    figures["all"] = {
        f"{arm} - arqon": _interval(float(np.mean(means)), np.mean(means, axis=0)) for arm, means in draws.items()
    }
    figures["ranks"] = ranks(found, first)
    figures["registered"] = _verdict(figures, found, first)
    return figures


def ranks(found: Scores, first: int) -> dict[str, float]:
    """Mean rank of each arm, 0 best to 1, over the (problem, seed) that all arms have, each problem counted once."""
    each: dict[str, list[dict[str, float]]] = {}
    for name in EVALUATIONS:
        for seed in range(first, first + MOST_SEEDS):
            row = [found.get((name, seed, arm)) for arm in ARMS]
            if None not in row:
                order = np.array(row, dtype=float)
                better, ties = (order < order[:, None]).sum(axis=1), (order == order[:, None]).sum(axis=1) - 1
                share = (better + 0.5 * ties) / (len(ARMS) - 1)
                each.setdefault(name, []).append(dict(zip(ARMS, share.tolist(), strict=True)))
    means = [{arm: statistics.mean(row[arm] for row in rows) for arm in ARMS} for rows in each.values()]
    return {arm: round(statistics.mean(mean[arm] for mean in means), 3) for arm in ARMS} if means else {}


def _interval(mean: float, means: np.ndarray) -> list[float]:
    return [round(float(x), 2) for x in (mean, *np.quantile(means, [0.025, 0.975]))]


def _verdict(figures: dict[str, Any], found: Scores, first: int) -> dict[str, Any]:
    key, problems = "botorch - arqon", figures["problems"]
    margin = -statistics.mean(MARGINS[PROBLEMS[name].m] for name in EVALUATIONS)
    worse = [n for n, row in problems.items() if key in row and row[key][2] < -MARGINS[PROBLEMS[n].m]]
    missed = [
        name
        for name, most in TARGETS.items()
        if "arqon" not in problems[name] or problems[name]["arqon"]["median"] > most
    ]
    complete = all(
        (name, first + i, arm) in found for name in EVALUATIONS for arm in ARMS for i in range(LEAST_SEEDS)
    ) and all(
        _half(problems[name], key) <= 2.0 / 3.0 * MARGINS[PROBLEMS[name].m]
        or len(differences(found, name, "botorch", first)) == MOST_SEEDS
        for name in EVALUATIONS
    )
    best = min(figures["ranks"], key=lambda arm: figures["ranks"][arm], default=None)
    lower = figures["all"].get(key, [None, None])[1]
    passed = complete and lower is not None and lower > margin and not worse and not missed and best == "arqon"
    return {
        "complete": complete,
        "margin": round(margin, 3),
        "lower_bound": lower,
        "clearly_worse": worse,
        "targets_missed": missed,
        "best_mean_rank": best,
        "passed": passed,
    }


def _half(row: dict[str, Any], key: str) -> float:
    return 0.5 * (row[key][2] - row[key][1]) if key in row else math.inf


def table(figures: dict[str, Any]) -> str:
    """Markdown: medians of all arms, and the difference to BoTorch."""
    lines = ["| problem | seeds | " + " | ".join(ARMS) + " | botorch - arqon | ax - arqon |"]
    lines.append("|" + "---|" * (4 + len(ARMS)))
    for name, row in figures["problems"].items():
        medians = [f"{row[arm]['median']:.1f}" if arm in row else "" for arm in ARMS]
        shown = [
            "{:+.1f} [{:+.1f}, {:+.1f}]".format(*row[key]) if (key := f"{arm} - arqon") in row else ""
            for arm in ("botorch", "ax")
        ]
        seeds = row.get("arqon", {}).get("seeds", 0)
        lines.append(f"| {name} | {seeds} | {' | '.join(medians)} | {' | '.join(shown)} |")
    ranked = [f"{figures['ranks'][arm]:.2f}" if arm in figures["ranks"] else "" for arm in ARMS]
    overall = ["{:+.1f} [{:+.1f}, {:+.1f}]".format(*v) for k, v in figures["all"].items() if k[:2] in ("bo", "ax")]
    lines.append(f"| mean rank; mean difference | | {' | '.join(ranked)} | {' | '.join(overall)} |")
    return "\n".join(lines)


def plot(lines: Sequence[dict[str, Any]], path: Path, first: int) -> None:
    """Each seed's score by arm and problem, with the median."""
    from matplotlib.figure import Figure

    found = scores(lines)
    figure = Figure(figsize=(13, 5.5), layout="constrained")
    for number, name in enumerate(EVALUATIONS):
        axes = figure.add_subplot(2, 5, number + 1)
        for i, arm in enumerate(ARMS):
            values = [v for (n, s, a), v in found.items() if (n, a) == (name, arm) and s >= first]
            axes.plot([max(v, 0.05) for v in values], [i] * len(values), "|", color="tab:blue" if i else "tab:red")
            if values:
                axes.plot(max(statistics.median(values), 0.05), i, "o", color="tab:blue" if i else "tab:red")
        axes.set(title=name, xscale="log", yticks=range(len(ARMS)), yticklabels=[] if number % 5 else list(ARMS))
        axes.invert_yaxis()
    figure.supxlabel("regret in % of range, or hypervolume missed in %")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shard", default="0/1", help="i/k: every k-th (problem, seed), from the i-th on")
    parser.add_argument("--problems", nargs="+", choices=EVALUATIONS, default=list(EVALUATIONS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=MOST_SEEDS, help="at most so many")
    parser.add_argument("--pilot", type=int, metavar="SEED", help="seeds from this one on, in a file of their own")
    parser.add_argument("--summary", action="store_true", help="judge what is there; runs nothing")
    parser.add_argument("--smoke", action="store_true", help="one pilot seed, two asks")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    if "ax" in given.arms and not given.summary and importlib.util.find_spec("ax") is None:
        parser.error("Ax is not installed: pip install 'arqon-gp[bench]', or name the other arms with --arms")
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # Ax tells of each trial
    first = (given.pilot or FIRST_PILOT_SEED) if given.pilot or given.smoke else FIRST_SEED
    path = given.out / ("quality.jsonl" if first == FIRST_SEED else "quality-pilot.jsonl")
    if not given.summary:
        peers.load_fused_kernel(wanted=not given.smoke)
        i, _, k = given.shard.partition("/")
        most = 1 if given.smoke else given.seeds
        for name, seed in wanted(path, first, most, (int(i), int(k))):
            if name not in given.problems:
                continue
            evaluations = 2 * (PROBLEMS[name].d + 1) + 2 if given.smoke else EVALUATIONS[name]
            for arm in given.arms:
                done = {(n, s, a) for n, s, a in scores(known(path))}
                if (name, seed, arm) in done or (arm == "ax" and seed >= first + AX_SEEDS):
                    continue
                append(path, line := cell(name, seed, arm, evaluations))
                print(line, file=sys.stderr)
        if not given.smoke:
            return 0
    figures = summary(known(path), first)
    print(table(figures))
    print(json.dumps(figures["registered"]))
    if first == FIRST_SEED:
        plot(known(path), given.out / "quality.svg", first)
        settings = {"evaluations": EVALUATIONS, "margins": MARGINS, "first_seed": first, "threads": 1}
        record.write("quality", figures, settings=settings, folder=given.out)
    return int(not figures["registered"]["passed"] and not given.smoke)


if __name__ == "__main__":
    sys.exit(main())
