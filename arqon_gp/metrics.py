"""Prometheus metrics of a study. Families are registered once a registry; closing a study removes only its own series.

The seed's four names: arqon_history_len, arqon_ask_total, arqon_tell_total, arqon_eval_duration_seconds. Public:
Metrics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from arqon_gp.course import windows_left
from arqon_gp.records import Issued, Kind, Label, Labelled, Observation, Role
from arqon_gp.study import Study

ASK_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
EVAL_BUCKETS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0)
REFUSALS = ("bounds",)
CAUSES = ("jitter", "other_start", "fit", "proposal", "recommendation", "max_ask_s")


class _Families:
    """The metric families of one registry and the studies open on it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open: set[str] = set()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, ["study", *labels], registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ["study", *labels], registry=registry)

        self.history_len = gauge("arqon_history_len", "Results in the history")
        self.ask = counter("arqon_ask", "Calls of ask_one and ask")
        self.tell = counter("arqon_tell", "Accepted calls of seed and tell")
        self.eval_duration = Histogram(
            "arqon_eval_duration_seconds", "From ask to result", ["study"], registry=registry, buckets=EVAL_BUCKETS
        )
        self.ask_duration = Histogram(
            "arqon_ask_duration_seconds", "Time an ask took", ["study"], registry=registry, buckets=ASK_BUCKETS
        )
        self.decisions = counter("arqon_decisions", "Candidates handed out", "kind")
        self.refusals = counter("arqon_guard_refusals", "Proposals refused by the guard, by knob limit", "limit")
        self.rollbacks = counter("arqon_rollbacks", "Rollbacks handed out")
        self.labels = counter("arqon_suspicions", "Suspicions settled", "label")
        self.repeats = counter("arqon_repeated_results", "Results that repeated a known one and changed nothing")
        self.nonpositive = counter(
            "arqon_nonpositive_values", "Values <= 0 of an outcome modelled in log space: taken as missing", "outcome"
        )
        self.fallbacks = counter("arqon_fallbacks", "Fits and proposals that failed or were cut short", "cause")
        self.safe_mode = gauge("arqon_safe_mode", "1 in safe mode")
        self.best_value = gauge("arqon_best_value", "Value (without objectives) or utility of the best, or last_good")
        self.hypervolume = gauge(
            "arqon_hypervolume", "Hypervolume of the observed front, several unweighted objectives"
        )
        self.budget_left = gauge("arqon_budget_left", "Results the budget still pays; +Inf without one")
        self.drift_score = gauge("arqon_drift_score", "How near results are to being asked for a change; 1: they are")
        self.regime = gauge("arqon_regime", "Changes of the system that were found so far")
        self.explored = gauge("arqon_explored_windows", "Candidates that explored")
        self.explored_slo = gauge("arqon_explored_slo_seconds", "Time beyond a limit in the last day by exploring")
        self.coverage = gauge("arqon_interval_coverage", "Share of outcomes inside their predicted 95 % interval")
        self.device = gauge("arqon_device", "1 for the device the surrogate runs on", "device")

    def all(self) -> Iterable[MetricWrapperBase]:
        """Every family."""
        return [family for family in vars(self).values() if isinstance(family, MetricWrapperBase)]


# The one piece of module state: prometheus_client refuses a family twice, and only the registry is shared by solvers.
_families: WeakKeyDictionary[CollectorRegistry, _Families] = WeakKeyDictionary()
_lock = Lock()


class Metrics:
    """The series of one open study, present at zero from the start."""

    def __init__(self, study: Study, registry: CollectorRegistry | None) -> None:
        registry = REGISTRY if registry is None else registry
        with _lock:
            if registry not in _families:
                _families[registry] = _Families(registry)
            self._of = _families[registry]
            self.study = _free_name(study.config.name, self._of.open)
            self._of.open.add(self.study)
        self._hits = self._predictions = 0
        self._fallbacks: dict[str, int] = {}
        self._device = "none"
        self._appear(study)
        self.follow(study)

    def _appear(self, study: Study) -> None:
        labelled: tuple[tuple[MetricWrapperBase, Iterable[str]], ...] = (
            (self._of.decisions, list(Kind)),
            (self._of.refusals, [*study.config.space.names, *REFUSALS]),
            (self._of.labels, list(Label)),
            (self._of.nonpositive, sorted(study.config.goals.positive)),
            (self._of.fallbacks, CAUSES),
            (self._of.device, ["none"]),
        )
        for family, values in labelled:
            for value in values:
                family.labels(self.study, value)
        for family in self._of.all():
            if family._labelnames == ("study",):  # the public API has no way to ask
                family.labels(self.study)

    def follow(self, study: Study) -> None:
        """The gauges that show the state of the study, once there is one."""
        shown = {
            self._of.history_len: len(study.history),
            self._of.safe_mode: study.guard.safe_mode is not None,
            self._of.drift_score: study.drift.score,
            self._of.regime: study.history.regime,
        }
        if study.deployment.order:
            left = windows_left(study.config, study.history)
            shown[self._of.budget_left] = left - len(study.deployment.pending)
        if study.exploration.counts(study.config):
            shown[self._of.explored] = study.exploration.explored
            shown[self._of.explored_slo] = study.exploration.broken_s(study.at)
        for gauge, value in shown.items():
            gauge.labels(self.study).set(value)

    def asked(self, study: Study, events: Iterable[object], refusals: Iterable[str], seconds: float) -> None:
        """One ask was answered."""
        self._of.ask.labels(self.study).inc()
        self._of.ask_duration.labels(self.study).observe(seconds)
        for limit in refusals:
            self._of.refusals.labels(self.study, limit).inc()
        for event in events:
            match event:
                case Issued(kind=kind):
                    self._of.decisions.labels(self.study, kind).inc()
                    self._of.rollbacks.labels(self.study).inc(kind is Kind.ROLLBACK)
                case Labelled(label=label):
                    self._of.labels.labels(self.study, label).inc()
        self.follow(study)

    def told(self, study: Study, observations: Iterable[Observation], at: float, repeats: int) -> None:
        """One batch of results was accepted."""
        to_model = study.config.goals.to_model  # where all below the floor of an outcome is alike
        self._of.tell.labels(self.study).inc()
        self._of.repeats.labels(self.study).inc(repeats)
        for row in observations:
            if row.role is Role.CORRECTION:
                continue
            for name, value in row.values.items():
                if value is not None and value <= 0 and name in study.config.goals.positive:
                    self._of.nonpositive.labels(self.study, name).inc()
            issued = study.deployment.find(row.id) if row.id is not None and row.kind is not None else None
            if issued is None:
                continue
            self._of.eval_duration.labels(self.study).observe(max(0.0, at - issued.at))
            for name, predicted in study.deployment.predicted(row, study.config).items():
                low, seen, high = (to_model(name, x) for x in (predicted.lower, row.values.get(name), predicted.upper))
                if seen == seen:
                    self._predictions += 1
                    self._hits += low <= seen <= high
        if self._predictions:
            self._of.coverage.labels(self.study).set(self._hits / self._predictions)
        self.follow(study)

    def measured(
        self,
        *,
        best: float | None,
        hypervolume: float | None,
        device: str,
        fallbacks: Mapping[str, int],
    ) -> None:
        """Figures that only a decision knows."""
        if best is not None:
            self._of.best_value.labels(self.study).set(best)
        if hypervolume is not None:
            self._of.hypervolume.labels(self.study).set(hypervolume)
        for cause, count in fallbacks.items():
            self._of.fallbacks.labels(self.study, cause).inc(count - self._fallbacks.get(cause, 0))
        self._fallbacks = dict(fallbacks)
        if device != self._device:
            self._of.device.labels(self.study, self._device).set(0)
            self._of.device.labels(self.study, device).set(1)
            self._device = device

    def close(self) -> None:
        """Remove this study's series, and no other's."""
        with _lock:
            for family in self._of.all():
                family.remove_by_labels({"study": self.study})
            self._of.open.discard(self.study)


def _free_name(name: str, taken: set[str]) -> str:
    number, label = 1, name
    while label in taken:
        number += 1
        label = f"{name}#{number}"
    return label
