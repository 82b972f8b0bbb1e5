"""Days of a meter with a rhythm, forecast without error but for noise."""

from __future__ import annotations

import numpy as np

from operators.detection.detector import DEFAULT, Step, observe
from operators.detection.events import Events
from operators.detection.state import State

HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000


def days(meters, hours, seed=0, noise=0.3):
    """kWh [m, hours] and bands [m, hours, 3]."""
    rng = np.random.default_rng(seed)
    shape = 10 + 4 * np.sin(2 * np.pi * np.arange(hours) / 24)
    kwh = shape + rng.normal(0, noise, (meters, hours))
    band = np.broadcast_to(shape, (meters, hours))[:, :, None] + noise * np.array([-1.28, 0.0, 1.28])
    return kwh, band


def step_of(kwh, band, hour, **more):
    known = np.isfinite(kwh[:, hour])
    values = {
        "end_ms": np.full(len(kwh), START_MS + (hour + 1) * HOUR_MS),
        "step_s": 3600,
        "kwh": kwh[:, hour],
        "coverage": known.astype(float),
        "band": band[:, hour],
        "max_kw": np.full(len(kwh), np.nan),
        "fresh": known,
    }
    return Step(**(values | more))


def run(kwh, band, settings=DEFAULT, state=None, **more):
    """State and all events after all hours."""
    state = State.empty(len(kwh)) if state is None else state
    said = [Events.none()]
    for hour in range(kwh.shape[1]):
        seen = observe(state, step_of(kwh, band, hour, **more), settings)
        state = seen.state
        said.append(seen.events)
    return state, said[0].joined(*said[1:])


def told(events, status=0):
    """(meter, kind's name, hour at which it became known) of the events with a status."""
    from operators.detection.events import Kind

    rows = np.flatnonzero(events.status == status)
    hours = (events.at_ms[rows] - START_MS) // HOUR_MS - 1
    names = [Kind(kind).name.lower() for kind in events.kind[rows]]
    return list(zip(events.meter[rows].tolist(), names, hours.tolist(), strict=True))
