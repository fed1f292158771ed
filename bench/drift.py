"""Drift: who keeps a live system tuned while its traffic, its age and what it depends on change?

Four simulated systems (arqon_gp.simulators.SYSTEMS), one config a window of 5 minutes, 500 windows. All arms
(bench/live.py) begin at the same config, move each knob at most its max_delta a window and see the same noise.
Everything is scored on the noise-free truth of each window:

- Regret: reference - score, averaged over windows, at least 0 in each. The reference is the best known there that
  keeps the limits: the configs of all arms of that (system, seed), and those of the cell "optimum", which are found
  for every 6th window and tried in the five before and after it (where both break a limit, one is found for that
  window). So the score of a config that breaks a limit sets no mark.
- Breaches: windows whose config breaks a limit. "optimum" shows how many nobody could avoid.
- Over-steps: changes beyond the bounds or max_delta, judged from the config alone by over_steps().
- Rollbacks (of several steps they count once): right, if the config that was left truly broke a limit, as it ran or
  in the window of the rollback, or is there worse by more than 1 % of the score than the one that is gone back to.
- Stretch: the systems where arqon's mean regret is within 20 % of that of oracle_tenth, which runs the best config
  within reach, but for one window in ten, a random legal step.
- Recovery: windows after the step at scenario.step_at until the mean regret of the next 12 is below 1.5 times what the
  best of those that learn (arqon and the adaptive baselines) had before the step, by the median; where it never is, as
  many as there are. (Until the fifth count each arm had a mark of its own, which one that is always bad has at once.)

Registered before a counted seed was run: systems, arms, 500 windows, ten seeds from 74000 (five of gp_60 and gp_all,
which are slow, three of arqon_blind, which decides nothing). Passed (exit status 0): on at least three systems
arqon's mean regret is at most half of every adaptive baseline's (static, hindsight and oracle are none) and below
best_static's; its breaches are at most half, over all systems, of those of each system's adaptive baseline with the
least regret; no over-steps. Seeds from 80000 on are pilots, in a file of their own. The simulators are frozen since
2026-11-27, before any counted seed was run. A first count, on seeds from 70000, a second, from 71000, and a fourth,
from 73000, did not pass (results/first, results/second, results/fourth). A third, from 72000, was ahead and was stopped
before GPSampler ran (results/third): its asks were told how many arrivals the window that begins would count. The
engine was mended after each was looked at, so the fifth has seeds of its own.

One line a (system, seed, arm) in drift.jsonl: safe to stop and to run in shards; --summary judges.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arqon_gp.simulators import SYSTEMS, Moving
from arqon_gp.simulators.moving import WINDOW, Params
from bench import live, record
from bench.live import ADAPTIVE, ARMS
from bench.parity import append, known

WINDOWS, SEEDS = 500, 10
FEWER_SEEDS = {"gp_60": 5, "gp_all": 5, "arqon_blind": 3}  # of the slow arms
FIRST_SEED, FIRST_PILOT_SEED = 74_000, 80_000
OPTIMUM, EVERY = "optimum", 6  # a search takes 0.1 to 0.6 s
CELLS = (OPTIMUM, *ARMS)
STRETCH = "oracle_tenth"  # added when the fifth count was under way: decides nothing, nor what is best
NEAR_ORACLE = 1.2
MOST_REGRET, MOST_BREACHES, LEAST_SYSTEMS = 0.5, 0.5, 3
WORSE = 0.01  # of the score, that makes a rollback right
AHEAD, RECOVERED = 12, 1.5
HOUR = 12  # windows
RESAMPLES = 10_000


def cell(system: str, seed: int, arm: str, windows: int) -> dict[str, Any]:
    """One loop, or the optimum: the true score of each window, and which of them break a limit."""
    shown: dict[str, Any] = {"system": system, "seed": seed, "arm": arm, "windows": windows}
    of = Moving(SYSTEMS[system], seed)
    try:
        found = optimum(of, windows) if arm == OPTIMUM else loop(of, seed, arm, windows)
    except Exception as error:  # a lost cell is counted and shown, and the others go on
        return shown | {"error": f"{type(error).__name__}: {error}"[:200]}
    return shown | found | {"commit": record.commit()}


def optimum(of: Moving, windows: int) -> dict[str, Any]:
    """The better of the optima found before and after, tried in each window; one of its own where both break one."""
    found = [of.optimum(number * WINDOW)[0] for number in range(0, windows + EVERY, EVERY)]
    scores, broken = [], []
    for number in range(windows):
        at = number * WINDOW
        kept, score = max(_merit(of, params, at) for params in found[number // EVERY : number // EVERY + 2])
        if not kept:
            kept, score = _merit(of, of.optimum(at)[0], at)
        scores.append(round(score, 1))
        broken += [] if kept else [number]
    return {"scores": scores, "broken": broken}


def _merit(of: Moving, params: Params, at: float) -> tuple[bool, float]:
    """Whether it keeps the limits, and its score."""
    truth = of.truth(params, at)
    return not of.breaches(truth), of.score(truth)


def loop(of: Moving, seed: int, arm: str, windows: int) -> dict[str, Any]:
    """One arm on the live system."""
    one, config = ARMS[arm](of, seed, windows), of.config()
    here, scores, ms = one.start, list[float](), list[float]()
    broken, over = list[int](), 0
    judged = {True: 0, False: 0}
    for number in range(windows):
        at = number * WINDOW
        began = time.perf_counter()
        params = one.ask(at)
        asked = time.perf_counter() - began
        if one.back is not None:
            judged[_right(of, here, one.back, at)] += 1
        over += over_steps(config, here, params)
        truth, outcomes = of.truth(params, at), of.observe(params, at)
        scores.append(round(of.score(truth), 1))
        broken += [number] if of.breaches(truth) else []
        began = time.perf_counter()
        one.tell(params, outcomes, at)
        ms.append(1000.0 * (asked + time.perf_counter() - began))
        here = params
    return {
        "scores": scores,
        "broken": broken,
        "over_steps": over,
        "rollbacks": {"right": judged[True], "wrong": judged[False]},
        "ms": round(statistics.median(ms), 1),
    }


def over_steps(config: Mapping[str, Any], here: Params, there: Params) -> int:
    """How many knobs are out of bounds, or further from where they were than max_delta."""
    over = 0
    for (name, bound), delta in zip(config["bounds"].items(), config["guardrails"]["max_delta"], strict=True):
        old, new = here[name], there[name]
        if bound["type"] == "categorical":
            over += new not in bound["choices"] or (new != old and delta != 1)
            continue
        whole = bound["type"] != "int" or isinstance(new, int)
        inside = bound["min"] <= float(new) <= bound["max"]
        over += not (whole and inside and abs(float(new) - float(old)) <= delta * (1.0 + 1e-9))
    return over


def _right(of: Moving, left: Params, back: Params, at: float) -> bool:
    """Whether it was right to leave this config for that one."""
    ran, now, other = of.truth(left, at - WINDOW), of.truth(left, at), of.truth(back, at)
    worse = of.score(other) - of.score(now) > WORSE * abs(of.score(other))
    return worse or of.breaches(ran) or of.breaches(now)


# ---- the verdict -------------------------------------------------------------------------------------------------

Lines = dict[tuple[str, int, str], dict[str, Any]]


def chosen(lines: Sequence[dict[str, Any]], seeds: range, windows: int) -> Lines:
    """(system, seed, arm) -> its line, of these seeds and that length."""
    return {
        (line["system"], line["seed"], line["arm"]): line
        for line in lines
        if line["windows"] == windows and line["seed"] in seeds and "scores" in line
    }


def regrets(found: Lines, system: str, seed: int) -> dict[str, np.ndarray]:
    """Of each arm of this (system, seed), by window; none as long as the optimum is not there."""
    cells = {arm: line for (s, n, arm), line in found.items() if (s, n) == (system, seed)}
    if OPTIMUM not in cells:
        return {}
    scores = {arm: np.array(line["scores"]) for arm, line in cells.items()}
    reference = np.full(len(scores[OPTIMUM]), -np.inf)
    for arm, line in cells.items():
        if arm == STRETCH:
            continue
        kept = np.ones(len(reference), dtype=bool)
        kept[line["broken"]] = False
        reference = np.where(kept, np.maximum(reference, scores[arm]), reference)
    reference = np.where(np.isfinite(reference), reference, scores[OPTIMUM])  # where nobody keeps the limits
    return {arm: np.maximum(reference - mine, 0.0) for arm, mine in scores.items()}


def recovery(regret: np.ndarray, step: int, usual: float) -> int | None:
    """Windows from the step until the regret is as usual; None where the run does not reach beyond the step."""
    if not 0 < step <= len(regret) - AHEAD:
        return None
    after = np.convolve(regret[step:], np.full(AHEAD, 1.0 / AHEAD), "valid")
    back = np.flatnonzero(after <= RECOVERED * usual)
    return int(back[0]) if len(back) else len(after)


def _usual(arms: Mapping[str, np.ndarray], step: int) -> float:
    """The least median regret before the step of those that learn."""
    learning = [regret for arm, regret in arms.items() if arm == "arqon" or arm in ADAPTIVE]
    return min((float(np.median(regret[:step])) for regret in learning), default=0.0)


def summary(lines: Sequence[dict[str, Any]], first: int, seeds: int, windows: int) -> dict[str, Any]:
    """By system and arm: mean regret, paired differences to arqon, breaches, over-steps, rollbacks; the verdict."""
    found = chosen(lines, range(first, first + seeds), windows)
    figures: dict[str, Any] = {"systems": {}, "errors": [line for line in lines if "error" in line]}
    for system in SYSTEMS:
        each = {seed: regrets(found, system, seed) for seed in range(first, first + seeds)}
        figures["systems"][system] = {
            arm: _row(system, arm, {s: of[arm] for s, of in each.items() if arm in of}, each, found)
            for arm in CELLS
            if any(arm in of for of in each.values())
        }
    figures["registered"] = _verdict(figures["systems"], found, first, seeds)
    return figures


def _row(
    system: str, arm: str, mine: dict[int, np.ndarray], each: dict[int, dict[str, np.ndarray]], found: Lines
) -> dict[str, Any]:
    cells = [found[system, seed, arm] for seed in mine]
    row: dict[str, Any] = {
        "seeds": len(mine),
        "regret": round(statistics.mean(float(r.mean()) for r in mine.values()), 3),
        "breaches": round(statistics.mean(len(line["broken"]) for line in cells), 2),
    }
    if arm == OPTIMUM:
        return row
    steps = {seed: int(Moving(SYSTEMS[system], seed).scenario.step_at // WINDOW) + 1 for seed in mine}
    usual = {seed: _usual(each[seed], step) for seed, step in steps.items()}
    times = [t for seed, r in mine.items() if (t := recovery(r, steps[seed], usual[seed])) is not None]
    row |= {
        "over_steps": sum(line["over_steps"] for line in cells),
        "right": sum(line["rollbacks"]["right"] for line in cells),
        "wrong": sum(line["rollbacks"]["wrong"] for line in cells),
        "recovery": statistics.median(times) if times else None,
        "ms": round(statistics.median(line["ms"] for line in cells), 1),
    }
    both = [seed for seed in mine if "arqon" in each[seed]]
    if both and arm != "arqon":
        ours = np.array([each[seed]["arqon"].mean() for seed in both])
        pairs = np.array([mine[seed].mean() for seed in both]) - ours
        means = np.random.default_rng(0).choice(pairs, (RESAMPLES, len(pairs))).mean(axis=1)
        row["arqon"] = {  # on the seeds that both have
            "regret": round(float(ours.mean()), 3),
            "breaches": round(statistics.mean(len(found[system, seed, "arqon"]["broken"]) for seed in both), 2),
            "difference": [round(float(x), 3) for x in (pairs.mean(), *np.quantile(means, [0.025, 0.975]))],
        }
    return row


def _verdict(systems: dict[str, Any], found: Lines, first: int, seeds: int) -> dict[str, Any]:
    """What was registered, as far as it can be said."""
    won, near, ours, theirs = [], [], 0.0, 0.0
    for system, rows in systems.items():
        peers = {arm: rows[arm] for arm in ADAPTIVE if "arqon" in rows.get(arm, {})}
        hindsight = rows.get("best_static", {})
        paying = rows.get(STRETCH, {})
        if "arqon" in paying and paying["arqon"]["regret"] <= NEAR_ORACLE * paying["regret"]:
            near.append(system)
        if not peers or "arqon" not in hindsight:
            continue
        half = all(row["arqon"]["regret"] <= MOST_REGRET * row["regret"] for row in peers.values())
        won += [system] if half and hindsight["arqon"]["regret"] < hindsight["regret"] else []
        best = min(peers.values(), key=lambda row: row["regret"])
        ours, theirs = ours + best["arqon"]["breaches"], theirs + best["breaches"]
    counted = {arm: FEWER_SEEDS.get(arm, SEEDS) for arm in CELLS if arm != STRETCH}
    complete = (first, seeds) == (FIRST_SEED, SEEDS) and all(
        (system, FIRST_SEED + i, arm) in found for system in SYSTEMS for arm, n in counted.items() for i in range(n)
    )
    over = sum(rows["arqon"]["over_steps"] for rows in systems.values() if "arqon" in rows)
    enough = len(won) >= LEAST_SYSTEMS and ours <= MOST_BREACHES * theirs
    return {
        "complete": complete,
        "won": won,
        "stretch": near,
        "breaches": round(ours, 2),
        "breaches_of_best_baselines": round(theirs, 2),
        "over_steps": over,
        "passed": complete and enough and over == 0,
    }


def table(figures: dict[str, Any]) -> str:
    """Markdown, one row a system and arm."""
    heads = ("system", "arm", "seeds", "mean regret", "arm - arqon", "breaches", "over-steps", "right", "wrong")
    lines = ["| " + " | ".join((*heads, "recovery", "ms")) + " |", "|" + "---|" * (len(heads) + 2)]
    for system, rows in figures["systems"].items():
        for arm, row in rows.items():
            apart = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*row["arqon"]["difference"]) if "arqon" in row else ""
            shown = [row.get(key, "") for key in ("breaches", "over_steps", "right", "wrong", "recovery", "ms")]
            lines.append(
                f"| {system} | {arm} | {row['seeds']} | {row['regret']:.2f} | {apart} | "
                + " | ".join("" if value is None else str(value) for value in shown)
                + " |"
            )
    return "\n".join(lines)


def plot(lines: Sequence[dict[str, Any]], path: Path, first: int, seeds: int, windows: int) -> None:
    """The regret of each hour by system and arm, averaged over the seeds that the arm has."""
    from matplotlib.figure import Figure

    found, figure = chosen(lines, range(first, first + seeds), windows), Figure(figsize=(13, 8), layout="constrained")
    colours = {"arqon": "black", "arqon_blind": "grey"}
    for number, system in enumerate(SYSTEMS):
        axes = figure.add_subplot(2, 2, number + 1)
        each = [regrets(found, system, seed) for seed in range(first, first + seeds)]
        for arm in ARMS:
            hours = [of[arm][: windows // HOUR * HOUR].reshape(-1, HOUR).mean(axis=1) for of in each if arm in of]
            if hours and arm != "oracle":  # off the scale
                drawn = {"color": colours.get(arm), "linewidth": 2.0 if arm in colours else 1.0}
                style = "-" if arm in colours or arm in ADAPTIVE else ":"
                axes.plot(np.mean(hours, axis=0), style, label=arm, **drawn)
        axes.set(title=system, xlabel="hours", ylabel="mean regret", yscale="log")
    names = {name: line for axes in figure.axes for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(list(names.values()), list(names), loc="outside right center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def wanted(systems: Sequence[str], seeds: range, shard: tuple[int, int]) -> Iterator[tuple[str, int]]:
    """(system, seed), seed by seed, so that a run that is stopped early is balanced; no system is always on one
    shard."""
    for i, seed in enumerate(seeds):
        yield from (
            (system, seed)
            for number, system in enumerate(systems)
            if (i * len(systems) + number + i) % shard[1] == shard[0]
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shard", default="0/1", help="i/k: every k-th (system, seed), from the i-th on")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--arms", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="from 80000 on: pilots")
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--summary", action="store_true", help="judge what is there; runs nothing")
    parser.add_argument("--out", type=Path, default=record.RESULTS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    pilot = given.first_seed >= FIRST_PILOT_SEED
    name = "drift-pilot" if pilot else "drift"
    path, seeds = given.out / f"{name}.jsonl", range(given.first_seed, given.first_seed + given.seeds)
    if not given.summary:
        i, _, k = given.shard.partition("/")
        for system, seed in wanted(given.systems, seeds, (int(i), int(k))):
            for arm in given.arms:
                there = (system, seed, arm) in chosen(known(path), seeds, given.windows)
                if not there and seed < given.first_seed + FEWER_SEEDS.get(arm, given.seeds):
                    append(path, line := cell(system, seed, arm, given.windows))
                    print({key: v for key, v in line.items() if key not in ("scores", "broken")}, file=sys.stderr)
        return 0
    figures = summary(known(path), given.first_seed, given.seeds, given.windows)
    print(table(figures))
    print(json.dumps(figures["registered"]))
    settings = {"windows": given.windows, "first_seed": given.first_seed, "seeds": given.seeds, "every": EVERY}
    settings |= {"penalty": live.PENALTY, "recent": live.RECENT, "statics": live.STATICS, "threads": 1}
    record.write(name, figures, settings=settings, folder=given.out)
    plot(known(path), given.out / f"{name}.svg", given.first_seed, given.seeds, given.windows)
    return int(not figures["registered"]["passed"])


if __name__ == "__main__":
    sys.exit(main())
