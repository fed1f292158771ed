"""Simulated systems with a known truth: still ones for examples, and four whose optimum moves, for measuring drift.

Public: ConnectionPool, JvmGc (still: examples, notebooks and benches hang on their numbers); Moving, SYSTEMS (a
connection pool, a cache, a queue and a JVM under diurnal traffic, ageing, and a step of what they depend on),
Conditions, Scenario. Numpy only; nothing of the engine is imported. tests/test_discrete_events.py checks the formulas.
"""

from arqon_gp.simulators.cache import Cache
from arqon_gp.simulators.jvm import Jvm
from arqon_gp.simulators.moving import Conditions, Moving, Plant, Scenario
from arqon_gp.simulators.pool import Pool
from arqon_gp.simulators.queue import Queue
from arqon_gp.simulators.still import ConnectionPool, JvmGc

SYSTEMS: dict[str, Plant] = {"pool": Pool(), "cache": Cache(), "queue": Queue(), "jvm": Jvm()}

__all__ = ["SYSTEMS", "Conditions", "ConnectionPool", "JvmGc", "Moving", "Plant", "Scenario"]
