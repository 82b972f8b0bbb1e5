"""Measurements, no tests: engines side by side on one workload, in one run. `make bench`, docs/benchmarks.md."""
