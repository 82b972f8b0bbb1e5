"""The meters of a training as a Spark table: windows are cut, changed and judged where a meter lies."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.retraining import rows
from jobs.retraining.rows import Kept, Sent
from models.backtest import BacktestError, Judged, Span, backtest
from models.contract import Batch
from models.dataset import split_unseen
from models.drawing import NO_LOAD, ROUND, Plan, key_of
from models.estate import Facts, InMemory, reference_of
from models.evaluate import STRIDES, Score, score_groups
from models.metrics import Sums
from models.training import Split
from operators.features import CONTEXT_HOURS, HORIZON_HOURS, Inputs
from operators.forecaster import Forecaster
from operators.serving import drift
from operators.weather import Weather

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SAMPLE = 64
"""Meters, the first by name, whose windows an export is compared on and whose inputs are weighed."""

JUDGED = "seen boolean, stride long, judged binary"

Frames = Iterable[pd.DataFrame]


class OnSpark:
    """An `Estate` (models/estate.py) of rows of `rows.SERIES`; keeps the rows in the executors' memory or on disk."""

    def __init__(
        self, series: DataFrame, until_ms: int, seed: int, unseen_share: float, weather: Weather | None = None
    ) -> None:
        """
        Args:
            series: a row a meter.
            until_ms: no training target at or after this, epoch ms UTC.
            seed: of who is kept out.
            unseen_share: of them.
            weather: of the meters' sites; None: the model is to have no inputs for it.
        """
        self._series = series if series.is_cached else series.persist()
        self._until_ms = until_ms
        self._weather = weather
        self._sent = self._series.sparkSession.sparkContext.broadcast(Sent.of(weather))
        self._kept, self._names = _kept_out(self._series, seed, unseen_share)
        self._facts: Facts | None = None
        self._meters = 0
        self._sample: InMemory | None = None

    def facts(self) -> Facts:
        """As `Estate.facts`."""
        if self._facts is None:
            until_ms, kept = self._until_ms, self._kept

            def counted(frames: Frames) -> Iterator[pd.DataFrame]:
                for frame in frames:
                    found = [rows.count_of(row, until_ms) for row in frame.itertuples() if kept.sees(row)]
                    yield pd.DataFrame({"windows": np.array(found, dtype=np.int64)})

            # Whole numbers: their sum does not depend on the order.
            found = self._series.mapInPandas(counted, "windows long").filter("windows > 0")
            total = found.selectExpr("count(*) AS meters", "sum(windows) AS windows").first()
            if total is None or not total.meters:
                raise ValueError("no training window before --until: choose a later one, or give more data")
            self._meters = int(total.meters)
            unseen = tuple(name for name, key in self._names if key in kept.unseen)
            first = self._series.selectExpr("min(start_ms) AS first").first()
            self._facts = Facts(len(self._names), unseen, int(total.windows), int(first["first"]) if first else 0)
        return self._facts

    def batches(self, seed: int, steps: int, rows: int) -> Iterator[Batch]:
        """As `Estate.batches`: a round is made on the cluster while the one before it is trained on."""
        self.facts()
        return islice(self._rounds(Plan(seed, rows, self._meters), steps), steps)

    def probe(self, seed: int) -> Inputs:
        """As `Estate.probe`."""
        return self._some().probe(seed)

    def reference(self) -> str:
        """As `Estate.reference`: each meter is counted where it lies."""
        until_ms, kept = self._until_ms, self._kept

        def counted(frames: Frames) -> Iterator[pd.DataFrame]:
            for frame in frames:
                found = [json.dumps(rows.inputs_seen(row, until_ms)) for row in frame.itertuples() if kept.sees(row)]
                yield pd.DataFrame({"seen": found})

        seen: drift.Counts = drift.added({}, {})
        for row in self._series.mapInPandas(counted, "seen string").toLocalIterator():
            seen = drift.added(seen, json.loads(row.seen))
        return reference_of(seen)

    def judged(self, first_ms: int, last_ms: int) -> tuple[Inputs, NDArray[np.float32]] | None:
        """As `Estate.judged`, of some meters."""
        return self._some().judged(first_ms, last_ms)

    def scores(self, forecaster: Forecaster, content: bytes, label: str, first_ms: int, last_ms: int) -> list[Score]:
        """As `Estate.scores`: each meter is judged where it lies, and its sums come back."""
        kept = self._kept
        sent, sky = self._series.sparkSession.sparkContext.broadcast(content), self._sent

        def judged(frames: Frames) -> Iterator[pd.DataFrame]:
            model, weather = Forecaster.from_bytes(sent.value), sky.value.weather()
            for frame in frames:
                found = [
                    {"seen": kept.sees(row), "stride": stride, "judged": _packed(each)}
                    for row in frame.itertuples()
                    for _, stride in STRIDES
                    if (each := _backtest(model, row, Span(first_ms, last_ms, stride), weather)) is not None
                ]
                yield pd.DataFrame(found, columns=["seen", "stride", "judged"])

        found = [
            (int(row.stride), bool(row.seen), _unpacked(bytes(row.judged)))
            for row in self._series.mapInPandas(judged, JUDGED).toLocalIterator()
        ]
        sent.destroy()
        if not found:
            raise BacktestError("no meter has a week of history and a day after it in the chosen period: widen it")
        return score_groups(label, found)

    def earlier(self, until_ms: int) -> OnSpark:
        """As `Estate.earlier`."""
        other = object.__new__(OnSpark)
        other.__dict__.update(self.__dict__, _until_ms=until_ms, _facts=None, _sample=None)
        return other

    def _rounds(self, plan: Plan, steps: int) -> Iterator[Batch]:
        """At least so many batches, if there are so many; a batch without any load is left out, as in memory."""
        with ThreadPoolExecutor(1) as ahead:
            wanted = _pieces(steps)
            coming, made_any = ahead.submit(self._piece, plan, *next(wanted)), False
            try:
                for following in wanted:
                    made = coming.result()
                    steps -= len(made)
                    made_any |= bool(made)
                    if following[0] > 0 and not made_any:
                        raise ValueError(NO_LOAD)
                    # The next piece is made while this one is trained on, but only if there is need of it.
                    if steps > 0:
                        coming = ahead.submit(self._piece, plan, *following)
                    yield from made
                    if steps <= 0:
                        return
            finally:
                if not coming.done():
                    self._series.sparkSession.sparkContext.cancelJobGroup(_GROUP)

    def _piece(self, plan: Plan, number: int, first: int, last: int) -> list[Batch]:
        """The batches of a round from `first` on and before `last`, in order."""
        until_ms, kept, sky = self._until_ms, self._kept, self._sent

        def drawn(frames: Frames) -> Iterator[pd.DataFrame]:
            weather = sky.value.weather()
            for frame in frames:
                for row in frame.itertuples():
                    found = rows.drawn(row, plan, number, until_ms, first, last, weather) if kept.sees(row) else None
                    if found is not None:
                        yield found

        def made(windows: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame(list(rows.made(windows, plan, number)), columns=_columns(rows.BATCHES))

        self._series.sparkSession.sparkContext.setJobGroup(_GROUP, f"round {number}", interruptOnCancel=True)
        table = self._series.mapInPandas(drawn, rows.WINDOWS).groupBy("batch").applyInPandas(made, rows.BATCHES)
        # Partitions come in any order; a round's batches in theirs.
        return [_batch(row) for row in sorted(table.toArrow().to_pylist(), key=lambda row: int(row["batch"]))]

    def _some(self) -> InMemory:
        if self._sample is None:
            kept, names = self._kept, [key for _, key in self._names[: 2 * SAMPLE]]
            wanted = set(names)

            def chosen(frames: Frames) -> Iterator[pd.DataFrame]:
                for frame in frames:
                    use = [key_of(row.name, row.zone) in wanted and kept.sees(row) for row in frame.itertuples()]
                    yield frame[use]

            here = list(self._series.mapInPandas(chosen, rows.SERIES).toLocalIterator())
            here.sort(key=lambda row: key_of(row["name"], row["zone"]))
            series = [rows.series_of(_Row(row), self._weather) for row in here]
            self._sample = InMemory([Split(each, [0], []) for each in series], self._until_ms)
        return self._sample


_GROUP = "energyai-train-rounds"


class _Row:
    """A row of Spark as one of pandas: `row.name` is its column, not a method's."""

    def __init__(self, row: Any) -> None:
        self.__dict__.update(row.asDict())


def _pieces(steps: int) -> Iterator[tuple[int, int, int]]:
    """Round, first and last batch of what is made at a time: a short training does not wait for a whole round."""
    for number in count():
        cut = min(ROUND, max(steps - number * ROUND, 0))
        for first, last in ((0, cut), (cut, ROUND)):
            if last > first:
                yield number, first, last


def _columns(schema: str) -> list[str]:
    return [column.split()[0] for column in schema.split(", ")]


def _kept_out(series: DataFrame, seed: int, share: float) -> tuple[Kept, list[tuple[str, str]]]:
    """The keys kept out of training, drawn as in memory; and name and key of all the meters, in order."""
    found = [
        (str(row["name"]), str(row["zone"]), int(row["step_s"]))
        for row in series.select("name", "zone", "step_s").collect()
    ]
    found.sort(key=lambda meter: (-meter[2], meter[1], meter[0]))
    unseen: set[str] = set()
    for group in dict.fromkeys((zone, step_s) for _, zone, step_s in found):
        keys = [key_of(name, zone) for name, zone, step_s in found if (zone, step_s) == group]
        if share > 0 and len(keys) > 1:
            unseen |= {keys[i] for i in split_unseen(len(keys), seed, share)[1]}
    return Kept(frozenset(unseen)), [(name, key_of(name, zone)) for name, zone, _ in found]


def _batch(row: dict[str, Any]) -> Batch:
    def array(column: str, width: int) -> NDArray[np.float32]:
        return np.frombuffer(row[column], "<f4").astype(np.float32).reshape(-1, width)

    count = int(row["rows"])
    inputs = {"window": array("window", CONTEXT_HOURS), "extra": array("extra", len(row["extra"]) // (4 * count))}
    return Batch(inputs, array("target", HORIZON_HOURS))


def _backtest(model: Forecaster, row: Any, span: Span, weather: Weather | None) -> Judged | None:
    try:
        return backtest(model, rows.series_of(row, weather), span)
    except BacktestError:
        return None


def _packed(judged: Judged) -> bytes:
    """One meter's sums as bytes, without pickle."""
    arrays = {f"{name}/{part}": getattr(sums, part) for name, sums in judged.sums.items() for part in vars(sums)}
    head = np.array([judged.step_s, judged.first_ms, judged.last_ms], dtype=np.int64)
    stream = io.BytesIO()
    np.savez(
        stream,
        names=np.array(judged.names, dtype=np.str_),
        head=head,
        windows=judged.windows,
        seasonal=judged.seasonal,
        banded=np.array(sorted(judged.banded), dtype=np.str_),
        order=np.array(list(judged.sums), dtype=np.str_),
        **arrays,
    )
    return stream.getvalue()


def _unpacked(content: bytes) -> Judged:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        step_s, first_ms, last_ms = stored["head"].tolist()
        sums = {
            name: Sums(**{part: stored[f"{name}/{part}"] for part in Sums.__dataclass_fields__})
            for name in stored["order"].tolist()
        }
        names, banded = tuple(stored["names"].tolist()), frozenset(stored["banded"].tolist())
        return Judged(names, step_s, first_ms, last_ms, stored["windows"], sums, stored["seasonal"], banded)
