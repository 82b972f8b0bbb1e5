"""Training on Spark: the same model on one core, on two and without Spark; the stream's features; the database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gate_support import GateHandle
from store_support import HOUR, START, concat, gate, readings  # noqa: F401 - a fixture

from infra.embedded.options import default_home
from jobs import retrain
from jobs.backtest import series as in_memory
from jobs.replay import samples
from jobs.retraining import rows, sources
from jobs.retraining.estate import OnSpark
from jobs.retraining.session import session
from models.dataset import MeterSeries, cut, from_frame, inputs_of, origins
from models.estate import InMemory
from operators.features import FEATURE_SETS, WITH_WEATHER
from operators.forecaster import Forecaster
from operators.readings import Kind
from operators.store import Store
from operators.weather import Weather
from tests.unit.serving_support import model_bytes

pytestmark = pytest.mark.integration

DAYS = 28
METERS = 4


@pytest.fixture(scope="module")
def homes() -> pd.DataFrame:
    """Measured homes of the demo, kWh by the start of the hour, one of them with gaps."""
    table = samples.load(default_home() / "parts", start_ms=samples.DEMO_START_MS)
    hours = table["ts"] - pd.Timedelta(hours=1)
    wide = table.assign(bucket=hours).pivot_table(index="bucket", columns="meter_id", values="value")
    wide = wide.iloc[: 24 * DAYS, :METERS].copy()
    wide.iloc[300:310, 1] = np.nan
    return wide


@pytest.fixture(scope="module")
def data(homes: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a data set of two files, each with a part of every meter, and a step that was hardly measured."""
    long = homes.reset_index().melt("bucket", var_name="meter_id", value_name="kwh")
    long = long.assign(tz=samples.TZ, coverage=np.where(long["kwh"].isna(), 0.2, 1.0)).fillna({"kwh": 99.0})
    folder = tmp_path_factory.mktemp("energy")
    for name, part in (("b", long.iloc[::2]), ("a", long.iloc[1::2])):
        part.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


Trained = tuple[dict[str, Any], bytes]


def trained(capsys: pytest.CaptureFixture[str], out: Path, *words: object) -> Trained:
    """A short training by the entry of `spark-submit`: what it prints, and the model."""
    command = ["--out", out, "--rows", 64, "--epochs", 1, "--steps-per-epoch", 6, "--architecture", "nhits", "--json"]
    assert retrain.main([str(word) for word in (*command, *words)]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1]), (out / "forecaster.onnx").read_bytes()


@pytest.mark.long
def test_one_core_two_cores_and_none_of_spark_give_the_same_model(
    data: Path, homes: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = tmp_path / "energy.parquet"
    homes.to_parquet(wide)
    none, without = trained(capsys, tmp_path / "none", wide, "--tz", samples.TZ, "--timestamps", "start", "--in-memory")
    one, model = trained(capsys, tmp_path / "one", "--source", data, "--master", "local[1]")
    two, again = trained(capsys, tmp_path / "two", "--source", data, "--master", "local[2]")
    assert model == again == without
    assert one["scores"] == two["scores"] == none["scores"]
    assert [score["meters"] for score in one["scores"]] == [3, 1, 3, 1]
    card = (tmp_path / "one" / "card.json").read_text()
    assert json.loads(card)["data"]["meters_seen"] == 3
    assert str(data.parent) not in card


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """One session for the rest."""
    with session("local[2]", "1g") as running:
        yield running


def test_workers_have_the_weather_that_memory_has(spark: Any, homes: pd.DataFrame) -> None:
    hours = np.arange(24 * DAYS)
    plain = from_frame(homes, samples.TZ)
    ts = plain.start_ms + hours * HOUR
    values = np.stack((10 + 8 * np.sin(hours / 30), np.full(len(hours), np.nan)), axis=1)
    sky = Weather.of_columns(["hq"] * len(hours), ts, ts - 36 * HOUR, values)
    sets = [replace(plain, weather=sky, sites=("hq", "hq", "elsewhere", "hq"))]
    until, last = plain.start_ms + 21 * 24 * HOUR, plain.start_ms + 24 * DAYS * HOUR
    here = InMemory.of(sets, until, 0, 0.25)
    there = OnSpark(sources.from_memory(spark, sets), until, 0, 0.25, sky)
    for one, other in zip(here.batches(1, 3, 64), there.batches(1, 3, 64), strict=True):
        assert one.inputs["extra"].shape[1] == FEATURE_SETS[WITH_WEATHER]
        assert all(np.array_equal(one.inputs[name], other.inputs[name]) for name in one.inputs)
    content = model_bytes(weather=0.5)
    model = Forecaster.from_bytes(content)
    judged = [estate.scores(model, content, "after", until, last) for estate in (here, there)]
    assert judged[0] == judged[1]
    assert judged[0] != InMemory.of([plain], until, 0, 0.25).scores(model, content, "after", until, last)


class Listening:
    """The model's session, which remembers what it was given last."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.given: dict[str, Any] = {}

    def get_modelmeta(self) -> Any:
        return self._real.get_modelmeta()

    def run(self, names: list[str], inputs: dict[str, Any]) -> Any:
        self.given = inputs
        return self._real.run(names, inputs)


def test_features_of_sparks_workers_are_those_of_the_stream(spark: Any, data: Path, homes: pd.DataFrame) -> None:
    def features(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            for row in frame.itertuples():
                found = rows.series_of(row)
                windows = cut(found, origins(found, 0, found.kwh.shape[1], 7))
                inputs, scale = inputs_of(windows, found.zone)
                made = np.concatenate((inputs["window"], inputs["extra"], scale[:, None].astype(np.float32)), axis=1)
                yield pd.DataFrame(
                    {"name": row.name, "issued_at_ms": windows.issued_at_ms, "made": [one.tobytes() for one in made]}
                )

    table = sources.from_parquet(spark, str(data), "UTC")
    batch = table.mapInPandas(features, "name string, issued_at_ms long, made binary").toPandas()
    assert len(batch) > METERS * 60
    forecaster = Forecaster.load()
    listening = Listening(forecaster._session)
    stream = Forecaster(listening, forecaster.sha256)
    grid = from_frame(homes, samples.TZ)
    for issued_at_ms, together in batch.groupby("issued_at_ms"):
        # As the job calls it: all the meters of a shard that are due at once.
        step = (int(issued_at_ms) - grid.start_ms) // HOUR
        history = grid.kwh[[grid.names.index(name) for name in together["name"]], step - 168 : step]
        stream.predict(history.astype(np.float64), int(issued_at_ms), 3600, zones=[samples.TZ] * len(history))
        count = len(history)
        seen = np.concatenate((listening.given["window"][:count], listening.given["extra"][:count]), axis=1)
        made = np.frombuffer(b"".join(together["made"]), np.float32).reshape(count, -1)
        assert np.abs(seen - made[:, :-1]).max() <= 1e-6
        assert np.allclose(made[:, -1], np.nanmean(np.abs(history), axis=1), rtol=1e-5)


def test_a_data_set_of_other_columns_is_one_clear_line(spark: Any, tmp_path: Path) -> None:
    pd.DataFrame({"meter_id": ["a"], "value": [1.0]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(sources.SeriesError, match="no column bucket, kwh"):
        sources.from_parquet(spark, str(tmp_path / "x.parquet"), "UTC")
    with pytest.raises(sources.SeriesError, match="cannot be read") as error:
        sources.from_parquet(spark, str(tmp_path / "none"), "UTC")
    assert "\n" not in str(error.value)


def test_the_database_read_by_parts_is_the_database_read_at_once(spark: Any, gate: GateHandle) -> None:  # noqa: F811
    names = [f"rt-{i}" for i in range(5)]
    ends = START + (np.arange(24 * 9) + 1) * HOUR
    rng = np.random.default_rng(0)
    parts = [readings(name, ends, rng.random(len(ends)), kind=Kind.INTERVAL, interval_ms=HOUR) for name in names]
    Store(gate.url).write_readings(concat(parts), int(ends[-1]))
    with gate.connect() as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE meter SET tz = 'Europe/Amsterdam' WHERE meter_id = 'rt-3'")
        connection.commit()
    found: dict[str, MeterSeries] = {}
    for row in sources.from_database(spark, gate.url, 3600, names, parts=3).toPandas().itertuples():
        assert row.name not in found
        found[row.name] = rows.series_of(row)
    assert sorted(found) == names
    for at_once in in_memory.from_database(gate.url, 3600, names):
        for i, name in enumerate(at_once.names):
            one = found[name]
            assert (one.zone, one.start_ms) == (at_once.zone, at_once.start_ms)
            assert np.array_equal(one.kwh[0], at_once.kwh[i], equal_nan=True)
    assert found["rt-3"].zone == "Europe/Amsterdam"
    with pytest.raises(sources.SeriesError, match="check --database-url"):
        sources.from_database(spark, "postgresql://nobody@127.0.0.1:1/none", 3600)
