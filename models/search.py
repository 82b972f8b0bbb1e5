"""Search for an architecture's settings (Optuna, Akiba et al. 2019): seeded, and judged on time after the training's.

The architecture's own settings are tried first, so that a search never ends with worse ones on the time it judges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from models import architectures, importance
from models.contract import Fit, Range
from models.estate import Estate

HELD_BACK = 0.2
"""Share of the time before --until that trials are judged on, its end."""
SHORTER = 4
"""A trial trains for this part of the steps."""


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    settings: dict[str, Any]
    """The best trial's."""
    trials: list[dict[str, Any]]
    """Settings and quantile loss of each, in order; the first is the architecture's own."""


def search(
    name: str,
    estate: Estate,
    period_ms: tuple[int, int],
    fit: Fit,
    rows: int,
    trials: int,
    told: Callable[[int, float], None],
) -> Found:
    """Trains shortly with several settings and keeps the best.

    Args:
        name: of the architecture.
        estate: the meters.
        period_ms: of the data that may be trained on; its last part is held back to judge.
        fit: how long the training itself will be, and the seed.
        rows: of a batch.
        trials: how many, the architecture's own settings included.
        told: called with the number and the loss of each trial.

    Raises:
        ValueError: the architecture has no settings to choose, or there is nothing to judge trials on.
    """
    import optuna

    space = architectures.search_space(name)
    if not space:
        raise ValueError(f"architecture '{name}' has no settings to search for: leave --search out")
    first, last = period_ms
    cut = int(last - HELD_BACK * (last - first))
    judged = estate.judged(cut, last)
    if judged is None:
        raise ValueError("no window to judge trials on: give more data before --until, or leave --search out")
    earlier = estate.earlier(cut)
    short = replace(fit, steps=max(1, fit.steps // SHORTER), limit_s=None)
    done: list[dict[str, Any]] = []

    def trial(one: optuna.Trial) -> float:
        settings = {setting: _chosen(one, setting, of) for setting, of in space.items()}
        network = architectures.load(name, **settings)
        network.fit(earlier.batches(short.seed, short.steps, rows), short, lambda share, loss: None)
        loss = importance.loss(network.predict(judged[0]), judged[1])
        done.append({**settings, "loss": round(loss, 6)})
        told(len(done), loss)
        return loss

    optuna.logging.set_verbosity(logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=fit.seed))
    study.enqueue_trial(_own(name, space))
    study.optimize(trial, n_trials=trials)
    return Found(dict(study.best_params), done)


def _own(name: str, space: Mapping[str, Range]) -> dict[str, Any]:
    made = architectures.load(name)
    return {setting: getattr(made, setting) for setting in space}


def _chosen(one: Any, setting: str, of: Range) -> Any:
    if of.step is None:
        return one.suggest_float(setting, of.low, of.high, log=True)
    return one.suggest_int(setting, int(of.low), int(of.high), step=of.step)
