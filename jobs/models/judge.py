"""A candidate beside the champion and the baselines on the same past windows, as the gate wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.errors import UserError

if TYPE_CHECKING:
    from models.backtest import Judged, Span
    from models.dataset import MeterSeries
    from models.gate import Side, Verdict
    from operators.forecaster import Forecaster

CHAMPION = "champion"
Progress = Callable[[float], None]


def judge(
    candidate: Forecaster,
    champion: Forecaster,
    sets: Sequence[MeterSeries],
    unseen: frozenset[str],
    span: Span,
    progress: Progress | None = None,
) -> Verdict:
    """What the gate says.

    Args:
        candidate: who is to be promoted.
        champion: who serves now.
        sets: past energy; meters named in `unseen` took no part in the candidate's training.
        unseen: names of meters.
        span: which forecasts are judged: after the training of both.
        progress: told the share that is done.

    Raises:
        UserError: there is nothing to judge in the span.
    """
    from models.gate import decide

    parts: list[dict[str, Side]] = []
    names: list[str] = []
    for number, series in enumerate(sets):
        judged = [
            _backtest(each, series, span, _share(progress, 2 * number + i, 2 * len(sets)))
            for i, each in enumerate((candidate, champion))
        ]
        if judged[0] is None or judged[1] is None:
            continue
        parts.append(_sides(judged[0], judged[1]))
        names += judged[0].names
    if not parts:
        raise UserError("no forecast can be judged after the models' training: give later readings, or --from")
    joined = _joined(parts)
    seen = np.array([name not in unseen for name in names])
    return decide({"seen": _part(joined, seen), "unseen": _part(joined, ~seen)})


def _share(progress: Progress | None, done: int, parts: int) -> Progress | None:
    """Progress of one part among several."""
    return None if progress is None else lambda share: progress((done + share) / parts)


def _backtest(forecaster: Forecaster, series: MeterSeries, span: Span, progress: Progress | None) -> Judged | None:
    from models.backtest import BacktestError, backtest

    try:
        return backtest(forecaster, series, span, calibrate=False, progress=progress)
    except BacktestError:
        return None


def _sides(candidate: Judged, champion: Judged) -> dict[str, Side]:
    from models.backtest import MODEL
    from models.gate import CANDIDATE, Side

    found = {CANDIDATE: candidate.figures(MODEL), CHAMPION: champion.figures(MODEL)}
    found |= {name: candidate.figures(name) for name in candidate.sums if name != MODEL}
    return {name: Side(figures.nrmse, figures.wql) for name, figures in found.items()}


def _joined(parts: Sequence[Mapping[str, Side]]) -> dict[str, Side]:
    from models.gate import Side

    return {
        name: Side(
            np.concatenate([part[name].nrmse for part in parts]), np.concatenate([part[name].wql for part in parts])
        )
        for name in parts[0]
    }


def _part(sides: Mapping[str, Side], mask: Any) -> dict[str, Side]:
    from models.gate import Side

    return {name: Side(side.nrmse[mask], side.wql[mask]) for name, side in sides.items()}


def trained_until_ms(card: Mapping[str, Any]) -> int | None:
    """The end of a card's training, epoch ms; None where it does not say."""
    said = card.get("data", {}).get("train_until")
    try:
        found = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def judged_span(cards: Sequence[Mapping[str, Any]], start_ms: int | None, stride_h: int) -> Span:
    """Which forecasts are judged: those after the training of all, unless somebody says from when.

    Raises:
        UserError: a stride that is none.
    """
    from models.backtest import Span

    if stride_h < 1:
        raise UserError("--stride-h must be 1 or more", 2)
    ends = [end for card in cards if (end := trained_until_ms(card)) is not None]
    return Span(start_ms if start_ms is not None else max(ends, default=None), None, stride_h)
