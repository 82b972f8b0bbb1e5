"""Detection of anomalies in a shard of meters: spikes, drops, stuck meters, level shifts, missing meters.

Pure functions on arrays, all meters at once; `operators.detection.watch.Watch` is what a job or a command uses.
"""
