"""Flink jobs, and the command line that runs them."""
