"""Workload W, once for each engine, as the engine's own documentation recommends; `tests.bench.registry` lists them."""
