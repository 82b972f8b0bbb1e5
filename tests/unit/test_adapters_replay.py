"""Files of sources' own formats through `energyai replay`: order, folders, filters, and the account of the rest."""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.replay import command, messages
from jobs.replay.batch import Batch, ReplayError, concat
from jobs.replay.csv_parquet import Options
from jobs.replay.producer import Summary
from jobs.replay.sources import Source, open_path
from tests.unit.adapter_support import SAMPLES, ms, sample

NOTIFY = '{{"src":"{0}","method":"NotifyStatus","params":{{"ts":{1},"switch:0":{{"apower":{2}}}}}}}\n'


def rows(source: Source) -> Batch:
    return concat(list(source.batches()))


def test_one_file_in_order_with_its_units(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(NOTIFY.format("b", 1700000060, 2) + NOTIFY.format("a", 1700000000, 1))
    source = open_path(tmp_path / "x", Options())
    got = rows(source)
    assert got.ts_ms.tolist() == [1700000000000, 1700000060000] == [source.first_ms, source.last_ms]
    assert got.meter_id.tolist() == ["a/switch:0", "b/switch:0"]
    assert json.loads(messages.encode(got)[0]) == {
        "meter_id": "a/switch:0",
        "register": "1-0:16.7.0",
        "kind": "instant",
        "unit": "kW",
        "revision": 0,
        "quality": "measured",
        "ts": 1700000000000,
        "value": 0.001,
    }


def test_a_folder_of_all_formats_is_merged_by_time(tmp_path: Path) -> None:
    for path in SAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "table.csv").write_text("time,a\n2020-01-01T00:00Z,1\n2020-01-01T01:00Z,2\n")
    (tmp_path / ".hidden").write_text("nothing")
    source = open_path(tmp_path, Options())
    got = rows(source)
    assert (np.diff(got.ts_ms) >= 0).all()
    assert {"a", "12-0-1", "compteur", "K8EG004046395507", "9b6c7063-01", "9000000001"} <= set(got.meter_id)
    assert source.account is not None
    assert source.account.left_out == ["README.md"]
    assert (source.first_ms, source.last_ms) == (got.ts_ms.min(), got.ts_ms.max())
    only = open_path(tmp_path, Options(), "dsmr")
    assert "12-0-1" not in set(rows(only).meter_id)


def test_a_packed_file_and_one_that_is_called_csv(tmp_path: Path) -> None:
    packed = tmp_path / "p1.log.gz"
    packed.write_bytes(gzip.compress(sample("dsmr-v5.txt")))
    assert len(rows(open_path(packed, Options()))) == 13
    shutil.copy(SAMPLES / "debs.csv", tmp_path / "debs.csv")
    assert len(rows(open_path(tmp_path / "debs.csv", Options()))) == 10
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(ReplayError, match="cannot be read"):
        open_path(packed, Options())


def test_choices_of_time_and_meters() -> None:
    debs = SAMPLES / "debs.csv"
    assert set(rows(open_path(debs, Options(meters=2))).meter_id) == {"12-0-1", "12-0-2"}
    assert set(rows(open_path(debs, Options(columns=("12-2-3",)))).meter_id) == {"12-2-3"}
    with pytest.raises(ReplayError, match="no meter 'x'"):
        open_path(debs, Options(columns=("x",)))
    late = open_path(debs, Options(start_ms=1379879535000, end_ms=1379879536000))
    assert set(rows(late).ts_ms.tolist()) == {1379879535000}


@pytest.mark.parametrize(
    ("content", "wanted", "complaint"),
    [
        (b"hello\n", "auto", "of no format that replay knows"),
        (b"hello\n", "dsmr", "no DSMR P1 telegrams"),
        (b"", "senml", "is empty"),
        (b'{"n":"a","u":"V","v":1,"t":1700000000}', "auto", "no reading in this file of SenML: unit V"),
        (b"/ABC5\r\n\r\n1-0:1.8.1(1*kWh)\r\n!0000\r\n", "auto", "no reading.*line 1: checksum"),
    ],
)
def test_what_cannot_be_replayed_is_told_in_one_line(
    tmp_path: Path, content: bytes, wanted: str, complaint: str
) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ReplayError, match=complaint) as caught:
        open_path(tmp_path / "f", Options(), wanted)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_names_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"no \.csv"):
        open_path(tmp_path, Options())
    with pytest.raises(ReplayError, match="no dsmr file"):
        open_path(tmp_path, Options(), "dsmr")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was sent, without a broker."""
    got: dict[str, Any] = {}

    def send(batches: Any, *_: Any, **__: Any) -> Summary:
        got["rows"] = concat(list(batches))
        return Summary(len(got["rows"]), 1, "first", "last", 1.0)

    monkeypatch.setattr(command, "send", send)
    return got


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([*words, "--kafka", "k:1"]))


def test_the_command_accounts_for_every_record(
    sent: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "t.log"
    log.write_bytes(sample("tasmota.log") + b"tele/x/SENSOR {broken\n" * 40)
    assert run(str(log), "--tz", "Europe/Paris", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["readings"] == 4
    assert said["skipped_reasons"] == {"message without ENERGY": 1, "message of another kind": 1}
    assert (said["skipped"], said["unreadable"], len(said["unreadable_first"])) == (2, 42, 20)
    assert said["unreadable_first"][0] == {
        "file": "t.log",
        "place": "line 4",
        "reason": "1-0:1.8.0: the time is before 2000 or after 9999; the clock was not set",
    }
    assert sent["rows"].ts_ms[0] == ms("2021-03-13T09:20:26+01:00")
    assert run(str(log)) == 0
    out, err = capsys.readouterr()
    assert "42 records were unreadable, 2 skipped" in out
    assert "unreadable: and 22 more" in err
    assert "times without an offset are taken as UTC (else: --tz)" in err


def test_other_names_and_options(sent: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(SAMPLES / "dsmr-v5.txt"), "--format", "P1", "--gas-kwh-per-m3", "10", "--json") == 0
    assert 1.07 in sent["rows"].value.tolist()
    assert run(str(SAMPLES / "green-button.xml"), "--format", "espi", "--json") == 0
    with pytest.raises(ReplayError, match="no time zone"):
        run(str(SAMPLES / "tasmota.log"), "--tz", "Mars")
    with pytest.raises(SystemExit):
        run("x", "--format", "morse")
    assert "invalid choice: 'morse'" in capsys.readouterr().err
