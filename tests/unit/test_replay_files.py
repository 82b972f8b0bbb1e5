"""Files: wide and long, CSV and Parquet, what their time stamps mean, and what is said when they cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.replay.batch import Batch, ReplayError, concat
from jobs.replay.csv_parquet import Options
from jobs.replay.messages import encode
from jobs.replay.sources import WEEK_MS, Source, loop, merge, open_path
from operators.readings import Kind, Quality

HOUR = 3_600_000
START = 1_704_067_200_000  # 2024-01-01T00:00Z


def read(path: Path, **options: object) -> Batch:
    return concat(list(open_path(path, Options(**options)).batches()))  # type: ignore[arg-type]


def wide_frame(rows: int = 50, meters: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 4000, (rows, meters)) / 8
    frame = pd.DataFrame(values, columns=[f"b{i}" for i in range(meters)])
    frame[rng.random(frame.shape) < 0.2] = np.nan
    frame.insert(0, "timestamp", pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC"))
    return frame


def as_csv(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def as_gz(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path.with_suffix(".csv.gz"), index=False)
    return path.with_suffix(".csv.gz")


def as_parquet(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path.with_suffix(".parquet"), index=False)
    return path.with_suffix(".parquet")


def as_indexed_parquet(frame: pd.DataFrame, path: Path) -> Path:
    frame.set_index(frame.columns[0]).to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


WRITERS = pytest.mark.parametrize("write", [as_csv, as_gz, as_parquet, as_indexed_parquet])
Writer = Callable[[pd.DataFrame, Path], Path]


@WRITERS
def test_wide_and_long_give_the_same_messages(tmp_path: Path, write: Writer) -> None:
    frame = wide_frame()
    wide = read(write(frame, tmp_path / "wide"))
    long = frame.melt("timestamp", var_name="meter_id", value_name="value").rename(columns={"timestamp": "ts"})
    long["ts"] += pd.Timedelta(hours=1)  # long form's stamps are the contract's: the end
    shuffled = long.sample(frac=1, random_state=3)
    found = read(as_parquet(shuffled, tmp_path / "long"))
    assert sorted(encode(found)) == sorted(encode(wide))
    assert (np.diff(found.ts_ms) >= 0).all()
    assert (np.diff(wide.ts_ms) >= 0).all()
    assert len(wide) == frame.drop(columns="timestamp").notna().to_numpy().sum()
    assert wide.value.sum() == np.nansum(frame.drop(columns="timestamp").to_numpy())


def test_small_blocks_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_csv(wide_frame(), tmp_path / "wide")
    whole = encode(read(path))
    monkeypatch.setattr("jobs.replay.files.CELLS", 12)
    assert encode(read(path)) == whole


def test_wide_stamps_are_starts_unless_said_otherwise(tmp_path: Path) -> None:
    path = as_csv(wide_frame(), tmp_path / "wide")
    assert read(path).ts_ms.min() == START + HOUR
    assert read(path, timestamps="end").ts_ms.min() == START
    assert set(read(path).interval_s) == {3600}
    assert "START of each 3600 s" in open_path(path, Options()).notes[0]


def test_registers_and_powers_have_no_interval(tmp_path: Path) -> None:
    path = as_csv(wide_frame(), tmp_path / "wide")
    found = read(path, kind="instant")
    assert set(found.unit) == {"kW"}
    assert set(found.interval_s) == {0}
    assert found.ts_ms.min() == START
    assert set(read(path, kind="register", unit="Wh").unit) == {"Wh"}


def test_long_form_keeps_all_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(
        "meter_id,ts,value,kind,unit,interval_s,register,quality,revision,seq,tenant_id\n"
        "7,2024-01-01T01:00:00+01:00,5,register,Wh,,1-0:2.8.0,measured,0,1,\n"
        "7,2024-01-01T01:00:00+01:00,6,register,Wh,,1-0:2.8.0,estimated,1,2,north\n"
        "8,2024-01-01T00:15:00Z,0.5,interval,kWh,900,,,,,\n"
    )
    found = read(path)
    assert found.meter_id.tolist() == ["7", "7", "8"]
    assert found.ts_ms.tolist() == [START, START, START + HOUR // 4]
    assert found.kind.tolist() == [Kind.REGISTER, Kind.REGISTER, Kind.INTERVAL]
    assert found.interval_s.tolist() == [0, 0, 900]
    assert found.register.tolist() == ["1-0:2.8.0", "1-0:2.8.0", ""]
    assert found.quality.tolist() == [Quality.MEASURED, Quality.ESTIMATED, Quality.MEASURED]
    assert found.revision.tolist() == [0, 1, 0]
    assert found.seq.tolist() == [1, 2, -1]
    assert found.tenant_id.tolist() == ["", "north", ""]


def test_each_meter_of_a_long_file_has_its_own_step(tmp_path: Path) -> None:
    stamps = pd.date_range("2024-01-01", periods=9, freq="15min", tz="UTC")
    quarter = pd.DataFrame({"meter_id": "q", "ts": stamps, "value": 1.0})
    hour = pd.DataFrame({"meter_id": "h", "ts": stamps[::4], "value": 4.0})
    found = read(as_csv(pd.concat([quarter, hour]), tmp_path / "long"))
    assert set(zip(found.meter_id.tolist(), found.interval_s.tolist(), strict=True)) == {("q", 900), ("h", 3600)}


def test_zero_is_missing_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("time,a\n2024-01-01T00:00Z,0\n2024-01-01T01:00Z,2\n")
    assert read(path).value.tolist() == [0, 2]
    assert read(path, zero_is_missing=True).value.tolist() == [2]


def test_choosing_meters_and_period(tmp_path: Path) -> None:
    path = as_csv(wide_frame(), tmp_path / "wide")
    assert set(read(path, meters=2).meter_id) == {"b0", "b1"}
    assert set(read(path, columns=("b3",)).meter_id) == {"b3"}
    found = read(path, start_ms=START + 5 * HOUR, end_ms=START + 9 * HOUR)
    assert found.ts_ms.min() >= START + 5 * HOUR
    assert found.ts_ms.max() < START + 9 * HOUR
    with pytest.raises(ReplayError, match="no reading between"):
        open_path(path, Options(start_ms=START + 5000 * HOUR))


def test_local_time_has_an_hour_twice_and_one_never(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    autumn = ["2024-10-27 01:00", "2024-10-27 02:00", "2024-10-27 02:00", "2024-10-27 03:00"]
    path.write_text("time,m\n" + "".join(f"{stamp},{row}\n" for row, stamp in enumerate(autumn)))
    found = read(path, tz="Europe/Berlin")
    assert np.diff(found.ts_ms).tolist() == [HOUR] * 3
    assert found.value.tolist() == [0, 1, 2, 3]
    path.write_text("time,m\n2024-03-31 01:00,1\n2024-03-31 02:30,1\n")
    with pytest.raises(ReplayError, match=r"row 3.*skips"):
        read(path, tz="Europe/Berlin")
    path.write_text("time,m\n2024-10-27 01:00,1\n2024-10-27 02:00,1\n2024-10-27 03:00,1\n")
    with pytest.raises(ReplayError, match=r"row 3.*twice"):
        read(path, tz="Europe/Berlin")


def test_epoch_seconds_and_milliseconds(tmp_path: Path) -> None:
    for scale in (1, 1000):
        path = tmp_path / "m.csv"
        path.write_text(f"time,m\n{START // 1000 * scale},1\n{(START + HOUR) // 1000 * scale},1\n")
        assert read(path).ts_ms.tolist() == [START + HOUR, START + 2 * HOUR]


def test_a_folder_is_merged_by_time(tmp_path: Path) -> None:
    frame = wide_frame()
    as_csv(frame.iloc[25:], tmp_path / "a")
    as_parquet(frame.iloc[:25], tmp_path / "b")
    as_csv(frame.rename(columns=lambda name: name.replace("b", "c")), tmp_path / "c")
    found = read(tmp_path)
    assert (np.diff(found.ts_ms) >= 0).all()
    mine = np.char.startswith(found.meter_id.astype(str), "b")
    (tmp_path / "whole").mkdir()
    assert encode(found.take(mine)) == encode(read(as_csv(frame, tmp_path / "whole" / "w")))
    assert len(set(read(tmp_path, meters=5).meter_id)) == 5


def test_one_meter_twice_over_the_same_time_is_refused(tmp_path: Path) -> None:
    as_csv(wide_frame(), tmp_path / "electricity")
    as_csv(wide_frame(), tmp_path / "gas")
    with pytest.raises(ReplayError, match=r"b0 is in .*electricity.* and in .*gas"):
        open_path(tmp_path, Options())


def test_a_lone_general_column_is_named_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "hall-7.csv"
    path.write_text("start,value\n2024-01-01T00:00Z,1\n2024-01-01T01:00Z,2\n")
    assert set(read(path).meter_id) == {"hall-7"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("time,m\n2024-01-01T00:00Z,1\nyesterday,1\n", r"row 3: 'yesterday' is no ISO-8601 time"),
        ("time,m\n2024-01-01T00:00Z,1\n2024-01-01T01:00,1\n", r"row 3.*without an offset"),
        ("time,m\n2024-01-01T00:00Z,x\n", r"no readable columns"),
        ("time,m\n", r"no (readable columns|rows)"),
        ("", r"cannot be read"),
        ("meter_id,ts,value,kind\na,2024-01-01T00:00Z,1,delta\n", r"no interval length"),
        ("meter_id,ts,value,kind,interval_s\na,2024-01-01T00:00Z,1,delta,900\n", r"kind, row 2: 'delta' is none of"),
        ("meter_id,ts,value,interval_s,seq\na,2024-01-01T00:00Z,1,900,1.5\n", r"seq, row 2: '1.5' is no whole number"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ReplayError, match=complaint) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = as_gz(wide_frame(400), tmp_path / "w")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReplayError, match="cannot be read"):
        read(path)
    broken = tmp_path / "p.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(ReplayError, match="cannot be read"):
        read(broken)
    for missing in (tmp_path / "none.csv", tmp_path / "none"):
        with pytest.raises(ReplayError, match="no such file"):
            read(missing)


def test_a_loop_goes_on_by_whole_weeks(tmp_path: Path) -> None:
    source = open_path(as_csv(wide_frame(), tmp_path / "w"), Options())
    rounds = loop(source)
    first, second = next(rounds), next(rounds)
    assert (second.ts_ms - first.ts_ms == WEEK_MS).all()
    assert second.value.tolist() == first.value.tolist()


def test_merged_sources_keep_their_notes_and_order(tmp_path: Path) -> None:
    one = open_path(as_csv(wide_frame(), tmp_path / "w"), Options())
    other = Source("other", one.first_ms, one.last_ms, one.batches, ["note"])
    found = concat(list(merge([one, other]).batches()))
    assert len(found) == 2 * len(concat(list(one.batches())))
    assert (np.diff(found.deliver_ms) >= 0).all()
    assert merge([one, other]).notes[-1] == "note"
