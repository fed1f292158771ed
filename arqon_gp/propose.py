"""The model's side of a decision: fit, expect, propose, recommend. Implements advice.Advisor with the GP surrogate.

Everything is a function of the study; the fitted surrogate of the present history is kept so that it is made once.
Public: ModelAdvisor.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.utils.multi_objective.hypervolume import Hypervolume
from scipy import special

from arqon_gp import acquisition
from arqon_gp.advice import Goal, Proposal, Request, random_step
from arqon_gp.comparison import UTILITY, Expectation, Yardstick
from arqon_gp.design import sobol, spread
from arqon_gp.device import deterministic, on_device, resolve
from arqon_gp.errors import FitError
from arqon_gp.history import Dataset, key, training_set
from arqon_gp.objectives import nondominated
from arqon_gp.records import Params, Prediction, Refitted
from arqon_gp.space import Box, Floats
from arqon_gp.study import Study
from arqon_gp.surrogate import FEASIBLE, Settings, Surrogate, fit, restore

log = logging.getLogger("arqon_gp")
NORMALS = 256  # quasi-random normal draws for moments of the utility
SAFE_POINTS = 512  # points screened for P(all limits hold) when the maximiser's is not safe enough
SAFE_SHORTLIST = 64
DEFAULT_CONFIDENCE = 0.95
NUMERICAL = (FitError, RuntimeError, ValueError, ArithmeticError, np.linalg.LinAlgError)  # answered by falling back
NUMERICAL = (FitError, RuntimeError, ValueError, ArithmeticError, np.linalg.LinAlgError)  # failures answered in place


class ModelAdvisor:
    """`device`: "auto", "cpu", "cuda" or "cuda:1". `fallbacks` counts fits and proposals that failed, by cause."""

    def __init__(self, device: str = "auto") -> None:
        self._wanted = device
        self._fitted: tuple[Study, Surrogate, Dataset] | None = None
        self.fallbacks: dict[str, int] = {}
        self.device: str = "none"

    # ---- fit ----

    def refit(self, study: Study) -> Refitted | None:
        """Fit to what is known now; None when nothing can be fitted."""
        try:
            surrogate = self._fit(study, known=False)
        except FitError as error:
            self._count("fit", error)
            return None
        return Refitted(surrogate.hyperparameters)

    def surrogate(self, study: Study) -> tuple[Surrogate, Dataset] | None:
        """The surrogate of the present history and its rows, None when it cannot be fitted."""
        try:
            self._fit(study, known=study.fitted == study.version)
        except FitError:
            return None
        return self._fitted[1:] if self._fitted else None

    def _fit(self, study: Study, *, known: bool) -> Surrogate:
        kept = self._fitted
        if (
            kept
            and kept[0].history is study.history
            and study.hyperparameters
            in (
                kept[0].hyperparameters,  # fitted from the same warm start
                kept[1].hyperparameters,  # and written down since
            )
        ):
            return kept[1]
        config = study.config
        data = training_set(study.history, config.space, config.goals)
        settings = Settings(config.space, config.goals.modelled, config.exact)
        if not len(data.X):
            raise FitError("nothing was measured yet")
        device = resolve(self._wanted)
        with deterministic(config.rng_seed):
            try:
                if known:
                    found = restore(data, settings, device, study.hyperparameters)
                else:
                    found, _ = on_device(device, lambda device: fit(data, settings, device, study.hyperparameters))
            except NUMERICAL as error:
                raise FitError(f"the fit failed: {error}") from error
        self._fitted = (study, found, data)
        self.device = str(found.device)
        return found

    def _count(self, cause: str, error: Exception) -> None:
        self.fallbacks[cause] = self.fallbacks.get(cause, 0) + 1
        log.warning("the %s failed, falling back: %s", cause, error)

    # ---- expect ----

    def expectation(self, study: Study, yard: Yardstick) -> Expectation:
        """By how much a config, its own windows unknown, is expected to differ from another: series -> (mean, std)."""
        found = self.surrogate(study)
        if found is None:
            return lambda params, other: None
        surrogate, space = found[0], study.config.space
        known: dict[object, dict[str, tuple[float, float]]] = {}

        def expect(params: Params, other: Params) -> dict[str, tuple[float, float]]:
            pair = (key(params), key(other))
            if pair not in known:
                X = np.array([space.encode(params), space.encode(other)])
                joint = {name: surrogate[name].without(params, X) for name in surrogate.settings.outcomes}
                series = {name: _difference(mean, covariance) for name, (mean, covariance) in joint.items()}
                known[pair] = series | {UTILITY: _moments(self._utility_difference(study, yard, joint))}
            return known[pair]

        return expect

    def _utility_difference(self, study: Study, yard: Yardstick, joint: Mapping[str, tuple[Floats, Floats]]) -> Floats:
        """Draws of utility here less utility there, from the joint posterior of two points by outcome."""
        objectives = study.config.goals.objectives
        draws, here, there = _normals(2 * len(objectives)), [], []
        for j, o in enumerate(objectives):
            mean, covariance = joint[o.name]
            eigenvalues, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
            pair = mean + draws[:, 2 * j : 2 * j + 2] @ root.T
            here.append(pair[:, 0])
            there.append(pair[:, 1])
        return yard.utility(_raw(np.column_stack(here), study)) - yard.utility(_raw(np.column_stack(there), study))

    def _utility_moments(
        self, study: Study, yard: Yardstick, series: dict[str, tuple[float, float]]
    ) -> tuple[float, float]:
        goals = study.config.goals
        draws = _normals(len(goals.objectives))
        columns = [series[o.name][0] + series[o.name][1] * draws[:, j] for j, o in enumerate(goals.objectives)]
        U = yard.utility(_raw(np.column_stack(columns), study))
        return float(U.mean()), float(U.std())

    def predict(self, study: Study, params: Params) -> dict[str, Prediction] | None:
        """The next window at a config: mean and central 95 % interval of each outcome, noise included, raw units."""
        found = self.surrogate(study)
        return None if found is None else self._intervals(study, found[0], params, noise=True)

    def describe(self, study: Study, params: Params) -> tuple[dict[str, Prediction], float] | None:
        """The same, free of noise, and P(all limits hold)."""
        found = self.surrogate(study)
        if found is None:
            return None
        return self._intervals(study, found[0], params, noise=False), self.p_limits(study, found[0], params)

    def _intervals(self, study: Study, surrogate: Surrogate, params: Params, *, noise: bool) -> dict[str, Prediction]:
        x, logs = study.config.space.encode(params)[None, :], study.config.goals.logs
        predicted = {}
        for name in surrogate.settings.outcomes:
            gp = surrogate[name]
            mean, variance = (float(v[0]) for v in gp.predict(x))
            std = np.sqrt(variance + (gp.noise if noise else 0.0))
            low, high = mean - 1.96 * std, mean + 1.96 * std
            if name in logs:
                predicted[name] = Prediction(float(np.exp(mean + std**2 / 2)), float(np.exp(low)), float(np.exp(high)))
            else:
                predicted[name] = Prediction(mean, float(low), float(high))
        return predicted

    # ---- propose ----

    def propose(self, study: Study, yard: Yardstick, request: Request) -> Proposal:
        """A config of the box; where the model cannot choose one, a random one of the same box that says so."""
        try:
            return self._propose(study, yard, request)
        except NUMERICAL as error:
            self._count("proposal", error)
            return random_step(study.config, request, study.deployment.may_run, f"the model failed ({error})")

    def _propose(self, study: Study, yard: Yardstick, request: Request) -> Proposal:
        found = self.surrogate(study)
        if found is None:
            raise FitError("there is no surrogate")
        with deterministic(_stream(study.config.rng_seed, request.number)):
            params, fraction = self._choose(study, yard, request, *found)
        return self._proposal(study, yard, request, params, fraction)

    def _choose(
        self, study: Study, yard: Yardstick, request: Request, surrogate: Surrogate, data: Dataset
    ) -> tuple[Params, float | None]:
        """The maximiser in the box if it is safe enough, else the best point that is, else a cautious step."""
        space = study.config.space
        target = self._acquisition(study, yard, request, surrogate, data)

        def best_in(box: Box) -> Params:
            x, _ = on_device(surrogate.device, lambda device: acquisition.maximize(target, space, box, device))
            return space.decode(x, box)

        if request.goal is Goal.PROBE:
            points = [
                spread(space, request.box, u) for u in sobol(len(space.knobs), SAFE_POINTS, study.config.rng_seed)
            ]
            points = points[request.number - 1 :]
            safe = (p for p in points if self.p_limits(study, surrogate, p) >= (request.confidence or 0.0))
            chosen = next(safe, None)
        else:
            chosen = best_in(request.box)
        if request.confidence is None or (chosen and self.p_limits(study, surrogate, chosen) >= request.confidence):
            return chosen or points[0], None
        chosen = self._safe(study, request, surrogate, target) if request.goal is not Goal.PROBE else None
        if chosen is not None:
            return chosen, None
        if request.cautious is None or request.cautious.empty:
            return study.deployment.may_run, request.fraction
        return best_in(request.cautious), request.fraction

    def _safe(self, study: Study, request: Request, surrogate: Surrogate, target: AcquisitionFunction) -> Params | None:
        """The point with the highest acquisition among screened ones that keep the limits."""
        space = study.config.space
        points = [
            spread(space, request.box, u)
            for u in sobol(len(space.knobs), SAFE_POINTS, study.config.rng_seed, request.number)
        ]
        safe = [p for p in points if self.p_limits(study, surrogate, p) >= (request.confidence or 0.0)][:SAFE_SHORTLIST]
        if not safe:
            return None
        X = torch.as_tensor(np.array([space.encode(p) for p in safe]), device=surrogate.device).unsqueeze(-2)
        with torch.no_grad():
            return safe[int(target(X).argmax())]

    def _acquisition(
        self, study: Study, yard: Yardstick, request: Request, surrogate: Surrogate, data: Dataset
    ) -> AcquisitionFunction:
        goals, bounds = study.config.goals, _bounds(study)
        if request.goal is Goal.RECOVER and (bounds or FEASIBLE in surrogate):
            return acquisition.recovery(surrogate, bounds)
        shape = acquisition.frame(surrogate, goals, yard.utility, data.X)
        limits = acquisition.constraints(surrogate, bounds)
        signs = reference = None
        if goals.pareto:
            signs, reference = [o.sign for o in goals.objectives], _reference(study, data)
            if study.config.guardrails:  # the front is explored only where a regression is less likely than not
                limits = [*limits, self._no_regression(study, yard, shape)]
        pending = np.array([study.config.space.encode(p) for p in request.pending])
        return acquisition.build(
            surrogate,
            shape,
            limits,
            data.X,
            pending,
            signs=signs,
            reference=reference,
            rng_seed=_stream(study.config.rng_seed, request.number),
        )

    def _no_regression(self, study: Study, yard: Yardstick, shape: acquisition.Frame) -> acquisition.Constraint:
        level = self.mean_utility(study, yard, study.guard.last_good)
        floor = (level - yard.min_effect - shape.centre) / shape.spread
        return lambda Z: floor - shape.score(Z)

    def _proposal(
        self, study: Study, yard: Yardstick, request: Request, params: Params, fraction: float | None
    ) -> Proposal:
        found = self.surrogate(study)
        assert found is not None  # _propose raised otherwise
        p = self.p_limits(study, found[0], params)
        over = study.guard.last_good if study.config.guardrails else self.best_measured(study, yard)
        gain = self.improvement(study, yard, params, over)
        match request.goal:
            case Goal.RECOVER:
                reason = f"recover: the highest P(all limits hold) within reach, {p:.2f}"
                return Proposal(params, reason, self.predict(study, params), None, p)
            case Goal.PROBE:
                reason = "initial design: a scrambled Sobol point"
            case Goal.IMPROVE:
                name = "hypervolume improvement" if study.config.goals.pareto else "improvement"
                reason = f"the highest noisy expected {name} within reach; expected gain in utility {gain:.3g}"
        if fraction is not None:
            reason = f"no move keeps the limits surely enough: a cautious step of {fraction:.0%} of max_delta"
        return Proposal(params, reason, self.predict(study, params), gain, p, fraction)

    # ---- judge ----

    def p_limits(self, study: Study, surrogate: Surrogate, params: Params) -> float:
        """P(all limits hold, and the window succeeds) at a config."""
        x, p = study.config.space.encode(params)[None, :], 1.0
        known = [*_bounds(study), *([(FEASIBLE, -1, 0.5)] if FEASIBLE in surrogate else [])]
        for name, side, bound in known:
            mean, variance = surrogate[name].predict(x)
            p *= float(special.ndtr(side * (bound - mean[0]) / np.sqrt(variance[0])))
        return p

    def mean_utility(self, study: Study, yard: Yardstick, params: Params) -> float:
        """Posterior mean of the utility of the noise-free outcomes."""
        found = self.surrogate(study)
        assert found is not None
        x = study.config.space.encode(params)[None, :]
        moments = {o.name: found[0][o.name].predict(x) for o in study.config.goals.objectives}
        series = {name: (float(mean[0]), float(np.sqrt(variance[0]))) for name, (mean, variance) in moments.items()}
        return self._utility_moments(study, yard, series)[0]

    def best_measured(self, study: Study, yard: Yardstick) -> Params:
        """The measured config with the best posterior."""
        found = self.surrogate(study)
        assert found is not None
        return self.best(study, yard, list({key(p): p for p in found[1].params}.values()))

    def best(self, study: Study, yard: Yardstick, among: Sequence[Params]) -> Params:
        """The best config by posterior mean of the utility among those that keep the limits; of the whole space if none
        given.
        """
        found = self.surrogate(study)
        if found is None:
            return among[0] if among else study.deployment.deployed
        confidence = max((x.confidence for x in study.config.goals.limits), default=DEFAULT_CONFIDENCE)

        def rank(params: Params) -> tuple[float, float]:
            p = self.p_limits(study, found[0], params)
            return (min(p, confidence), self.mean_utility(study, yard, params))

        if among:
            return max(among, key=rank)
        surrogate, data = found
        space, seed = study.config.space, study.config.rng_seed
        shape = acquisition.frame(surrogate, study.config.goals, yard.utility, data.X)
        with deterministic(_stream(seed, 0)):
            target = acquisition.posterior_mean(surrogate, shape, _bounds(study), confidence)
            x, _ = on_device(surrogate.device, lambda device: acquisition.maximize(target, space, space.whole, device))
        inside = [p for p in data.params if space.contains(p, space.whole)]
        return max([*inside, space.decode(x, space.whole)], key=rank)

    def gain(self, study: Study, yard: Yardstick, params: Params, over: Params) -> float:
        """Posterior mean of the difference in utility; 0 without a model."""
        if self.surrogate(study) is None:
            return 0.0
        return self.mean_utility(study, yard, params) - self.mean_utility(study, yard, over)

    def improvement(self, study: Study, yard: Yardstick, params: Params, over: Params) -> float:
        """E[max(utility here - utility there, 0)] under the joint posterior, utility units."""
        found = self.surrogate(study)
        assert found is not None
        X = np.array([study.config.space.encode(params), study.config.space.encode(over)])
        joint = {o.name: found[0][o.name].joint(X) for o in study.config.goals.objectives}
        return float(np.maximum(self._utility_difference(study, yard, joint), 0.0).mean())

    def hypervolume(self, study: Study) -> float | None:
        """Hypervolume of the observed feasible front above the reference point; None unless the front is what is
        sought.
        """
        goals = study.config.goals
        if not goals.pareto or self._fitted is None:
            return None
        data = training_set(study.history, study.config.space, goals)
        m = len(goals.objectives)
        Y = _raw(data.Y[:, :m], study)[np.isfinite(data.Y).all(axis=1)]
        signs = np.array([o.sign for o in goals.objectives])
        if not len(Y):
            return None
        front = Y[nondominated(Y * signs)] * signs
        reference = torch.tensor(_reference(study, data)) * torch.tensor(signs)
        return float(Hypervolume(reference).compute(torch.as_tensor(front)))


def _difference(mean: Floats, covariance: Floats) -> tuple[float, float]:
    """Mean and std of the first less the second of two correlated numbers."""
    variance = float(covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1])
    return float(mean[0] - mean[1]), math.sqrt(max(variance, 0.0))


def _moments(draws: Floats) -> tuple[float, float]:
    return float(draws.mean()), float(draws.std())


def _bounds(study: Study) -> list[tuple[str, int, float]]:
    """The limits whose bound is known: outcome, side, bound in model space."""
    goals, found = study.config.goals, []
    for limit in goals.limits:
        bound = limit.bound(study.baseline)
        if bound is not None:
            found.append((limit.outcome, limit.side, goals.to_model(limit.outcome, bound)))
    return found


def _reference(study: Study, data: Dataset) -> list[float]:
    """The reference point, raw units: thresholds; else the baseline worsened by 10 %; else just below the observed
    front.
    """
    goals, reference = study.config.goals, []
    Y = _raw(data.Y[:, : len(goals.objectives)], study)
    for j, o in enumerate(goals.objectives):
        seen = Y[np.isfinite(Y[:, j]), j]
        base = study.baseline.get(o.name)
        if o.threshold is not None:
            reference.append(o.threshold)
        elif study.config.guardrails and base is not None:
            reference.append(base - o.sign * 0.1 * abs(base))
        else:
            worst, best = float((o.sign * seen).min()), float((o.sign * seen).max())
            reference.append(o.sign * (worst - 0.1 * (best - worst)))
    return reference


def _raw(Y: Floats, study: Study) -> Floats:
    """(s, objectives) in model space -> raw units."""
    logs = np.array([o.log for o in study.config.goals.objectives])
    return np.where(logs, np.exp(np.minimum(np.where(logs, Y, 0.0), 700.0)), Y)


def _stream(rng_seed: int, number: int) -> int:
    """The random stream of a candidate: a function of the config's seed and the candidate's number."""
    return int(np.random.SeedSequence([rng_seed, number]).generate_state(1)[0])


def _normals(columns: int) -> Floats:
    """Fixed quasi-random standard normal draws (NORMALS, columns)."""
    u = sobol(columns, NORMALS, rng_seed=0)
    return np.asarray(special.ndtri(np.clip(u, 1e-9, 1 - 1e-9)))
