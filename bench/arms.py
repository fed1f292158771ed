"""The optimizers that bench/quality.py runs beside each other, each as its users would: ask, tell, recommend.

Points are in the unit cube, on the problem's grids. Public: ARMS, Arm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from prometheus_client import CollectorRegistry

from arqon_gp import ArqonSolver
from bench import peers
from bench.problems import Case, Knob, names, nondominated, outcome_names, solver_config


class Arm(Protocol):
    """One optimizer; points are in the unit cube, on the problem's grids."""

    def ask(self) -> np.ndarray:
        """The next point (d,)."""

    def tell(self, x: np.ndarray, y: np.ndarray) -> None:
        """The window (m,) measured at x."""

    def recommend(self) -> np.ndarray:
        """What it would run: (1, d), or with several outcomes its front (k, d)."""


class _Named:
    """Knobs by name."""

    def __init__(self, of: Case) -> None:
        self.names = names("x", of.problem.d)
        self.knobs = of.problem.knobs or (Knob(),) * of.problem.d
        self.outcomes = outcome_names(of.problem.m)

    def params(self, x: np.ndarray) -> dict[str, Any]:
        """A point as params."""
        return {name: knob.value(u) for name, knob, u in zip(self.names, self.knobs, x.tolist(), strict=True)}

    def point(self, params: Any) -> np.ndarray:
        """Params as a point."""
        return np.array([knob.unit(params[name]) for name, knob in zip(self.names, self.knobs, strict=True)])


class Arqon(_Named):
    """ArqonSolver without guardrails: the initial points are results known before the first ask."""

    def __init__(self, of: Case, seed: int) -> None:
        super().__init__(of)
        d, m = of.problem.d, of.problem.m
        config = solver_config(d, m, of.reference, seed=seed, knobs=self.knobs)
        config["budget"] = len(of.noise) - len(of.X)
        self.solver = ArqonSolver(config, registry=CollectorRegistry(), device="cpu")

    def ask(self) -> np.ndarray:
        """The next point (d,)."""
        candidate = self.solver.ask_one()
        assert candidate is not None
        return self.point(candidate)

    def tell(self, x: np.ndarray, y: np.ndarray) -> None:
        """The window (m,) measured at x."""
        self.solver.seed([{"params": self.params(x), "values": dict(zip(self.outcomes, y.tolist(), strict=True))}])

    def recommend(self) -> np.ndarray:
        """What it would run, (k, d)."""
        several = len(self.outcomes) > 1
        found = self.solver.pareto_front() if several else [self.solver.recommend()]
        return np.array([self.point(one.params) for one in found])


class Seen:
    """What was evaluated, and the best of it as it was seen."""

    def __init__(self, of: Case, seed: int) -> None:
        self.of, self.random = of, np.random.default_rng([seed, 77])
        self.X, self.Y = np.zeros((0, of.problem.d)), np.zeros((0, of.problem.m))

    def tell(self, x: np.ndarray, y: np.ndarray) -> None:
        """The window (m,) measured at x."""
        self.X, self.Y = np.vstack([self.X, x]), np.vstack([self.Y, y])

    def ask(self) -> np.ndarray:
        """At random."""
        return self.of.problem.snapped(self.random.random((1, self.of.problem.d)))[0]

    def recommend(self) -> np.ndarray:
        """What it would run, (k, d)."""
        return self.X[_best(self.Y)]


class Botorch(Seen):
    """The loop of BoTorch's tutorials; with choices MixedSingleTaskGP and the mixed optimizer."""

    def __init__(self, of: Case, seed: int) -> None:
        super().__init__(of, seed)
        import torch

        torch.manual_seed(seed)

    def ask(self) -> np.ndarray:
        """The next point (d,)."""
        knobs = self.of.problem.knobs
        found = peers.maximize_botorch(self._model(), self.X, self.of.reference, knobs=knobs)
        return self.of.problem.snapped(found[None, :])[0]

    def _model(self) -> Any:
        return peers.fit_botorch(self.X, self.Y, knobs=self.of.problem.knobs)

    def recommend(self) -> np.ndarray:
        """What it would run, (k, d)."""
        import torch

        model = self._model()
        with torch.no_grad():
            return self.X[_best(-model.posterior(torch.as_tensor(self.X)).mean.numpy())]


class Optuna(_Named):
    """A sampler of optuna; what it recommends are the study's best trials."""

    def __init__(self, of: Case, seed: int, *, tpe: bool) -> None:
        import optuna

        super().__init__(of)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = optuna.samplers
        sampler = (
            samplers.TPESampler(seed=seed, n_startup_trials=len(of.X))
            if tpe
            else samplers.GPSampler(seed=seed, n_startup_trials=len(of.X), deterministic_objective=False)
        )
        self.study = optuna.create_study(sampler=sampler, directions=["minimize"] * of.problem.m)
        self.create = optuna.trial.create_trial
        self.spaces: dict[str, Any] = {}
        for name, knob in zip(self.names, self.knobs, strict=True):
            if knob.choices:
                choices = tuple(f"c{i}" for i in range(knob.choices))
                self.spaces[name] = optuna.distributions.CategoricalDistribution(choices)
            elif knob.whole:
                self.spaces[name] = optuna.distributions.IntDistribution(int(knob.low), int(knob.high), log=knob.log)
            else:
                self.spaces[name] = optuna.distributions.FloatDistribution(knob.low, knob.high, log=knob.log)
        self.trial: Any = None

    def ask(self) -> np.ndarray:
        """The next point (d,)."""
        self.trial = self.study.ask(self.spaces)
        return self.point(self.trial.params)

    def tell(self, x: np.ndarray, y: np.ndarray) -> None:
        """The window (m,) measured at x."""
        if self.trial is not None:
            self.study.tell(self.trial, y.tolist())
            return
        given = self.create(params=self.params(x), distributions=self.spaces, values=y.tolist())
        self.study.add_trial(given)

    def recommend(self) -> np.ndarray:
        """What it would run, (k, d)."""
        return np.array([self.point(trial.params) for trial in self.study.best_trials])


class Ax(_Named):
    """Ax's client with its default method; noise inferred."""

    def __init__(self, of: Case, seed: int) -> None:
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        super().__init__(of)
        self.client, parameters = Client(random_seed=seed), []
        for name, knob in zip(self.names, self.knobs, strict=True):
            if knob.choices:
                values = [f"c{i}" for i in range(knob.choices)]
                parameters.append(ChoiceParameterConfig(name, values, "str", is_ordered=False))
                continue
            kind, scaling = "int" if knob.whole else "float", "log" if knob.log else "linear"
            parameters.append(RangeParameterConfig(name, (knob.low, knob.high), kind, scaling=scaling))
        self.client.configure_experiment(parameters=parameters)
        several = len(self.outcomes) > 1
        self.client.configure_optimization(
            objective=", ".join(f"-{name}" for name in self.outcomes),
            outcome_constraints=[f"{n} <= {r}" for n, r in zip(self.outcomes, of.reference, strict=True)]
            if several
            else None,
        )
        self.client.configure_generation_strategy(
            initialization_budget=len(of.X), initialization_random_seed=seed, initialize_with_center=False
        )
        self.index: int | None = None

    def ask(self) -> np.ndarray:
        """The next point (d,)."""
        ((self.index, params),) = self.client.get_next_trials(max_trials=1).items()
        return self.point(params)

    def tell(self, x: np.ndarray, y: np.ndarray) -> None:
        """The window (m,) measured at x."""
        index = self.client.attach_trial(self.params(x)) if self.index is None else self.index
        self.client.complete_trial(index, dict(zip(self.outcomes, y.tolist(), strict=True)))

    def recommend(self) -> np.ndarray:
        """What it would run, (k, d)."""
        if len(self.outcomes) > 1:
            front = [self.point(params) for params, *_ in self.client.get_pareto_frontier()]
            return np.array(front).reshape(len(front), len(self.names))
        return self.point(self.client.get_best_parameterization()[0])[None, :]


ARMS: dict[str, Callable[[Case, int], Arm]] = {
    "arqon": Arqon,
    "botorch": Botorch,
    "optuna_gp": lambda of, seed: Optuna(of, seed, tpe=False),
    "optuna_tpe": lambda of, seed: Optuna(of, seed, tpe=True),
    "ax": Ax,
    "random": Seen,
}


def _best(Y: np.ndarray) -> Any:
    """Which rows of minimised outcomes (n, m) are the best one, or the front."""
    return [int(Y[:, 0].argmin())] if Y.shape[1] == 1 else nondominated(Y)
