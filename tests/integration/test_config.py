"""Configuration on real parts: the documented example in tables and topics, twice the same, and what demo calls."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition
from store_support import HOUR, START, query, readings

from infra.database import connected
from infra.embedded.stack import Stack
from jobs import cli
from jobs.config.apply import apply_meters
from jobs.errors import UserError
from operators.store import Store

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def example() -> str:
    found = re.search(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found, "docs/configuration.md has its example in a yaml block"
    return found[1]


def latest(kafka: str, topic: str) -> dict[str, dict[str, Any]]:
    """The last value of each key, as a job reads a compacted topic."""
    consumer = KafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        found = {}
        while any(consumer.position(part) < ends[part] for part in parts):
            for records in consumer.poll(timeout_ms=1000).values():
                for record in records:
                    found[record.key.decode()] = json.loads(record.value)
        return found
    finally:
        consumer.close()


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = cli.main(["config", *words])
    return (code, *capsys.readouterr())


def test_the_documented_example(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_settings: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(example(), encoding="utf-8")
    where = ["--data-dir", str(stack.options.data_dir)]
    status = stack.status()

    code, out, _ = run(capsys, "apply", str(file), "--dry-run", *where)
    assert (code, "nothing written" in out) == (0, True)
    assert "hq" not in latest(status["kafka"], "sites")

    code, out, _ = run(capsys, "apply", str(file), "--json", *where)
    counts = {"sites": 1, "meters": 3, "assets": 2, "alerts": 0, "receivers": 0}
    assert (code, json.loads(out)) == (
        0,
        {"valid": True, **counts, "changed": {**counts, "messages": 4, "rederived": 0}},
    )
    code, out, _ = run(capsys, "apply", str(file), "--json", *where)
    changed = json.loads(out)["changed"]
    assert changed == {**dict.fromkeys(counts, 0), "messages": 4, "rederived": 0}

    site = latest(status["kafka"], "sites")["hq"]
    assert site["meters"] == ["hq-floor-1", "hq-floor-2", "hq-main"]
    assert [asset["asset_id"] for asset in site["assets"]] == ["hq-battery", "hq-charger"]
    assert (site["tz"], site["limit_kw"], site["tariff"]["currency"]) == ("Europe/Berlin", 120, "EUR")
    floor = latest(status["kafka"], "meters")["hq-floor-1"]
    assert (floor["site_id"], floor["parent_meter_id"], floor["tz"]) == ("hq", "hq-main", "Europe/Berlin")
    with connected(status["database_url"]) as link, link.cursor() as cursor:
        cursor.execute("SELECT tz, register_max, configured FROM meter WHERE meter_id = 'hq-main'")
        assert cursor.fetchall() == [("Europe/Berlin", 1_000_000, True)]
        cursor.execute("SELECT min_w, capacity_wh FROM asset WHERE asset_id = 'hq-battery'")
        assert cursor.fetchall() == [(-30_000, 60_000)]

    # What `show` prints can be applied, and changes nothing.
    code, out, _ = run(capsys, "show", *where)
    again = tmp_path / "again.yaml"
    again.write_text(out, encoding="utf-8")
    _, out, _ = run(capsys, "apply", str(again), "--json", *where)
    changed = json.loads(out)["changed"]
    assert (changed["sites"], changed["meters"], changed["assets"]) == (0, 0, 0)

    # Referring to what is stored; the meter's old site and its new one are both told.
    file.write_text("sites: [{site_id: annex}]\nmeters: [{meter_id: hq-floor-2, site_id: annex}]\n")
    assert run(capsys, "apply", str(file), *where)[0] == 0
    sites = latest(status["kafka"], "sites")
    assert sites["hq"]["meters"] == ["hq-floor-1", "hq-main"]
    assert sites["annex"]["meters"] == ["hq-floor-2"]

    file.write_text("meters:\n  - meter_id: x\n    site_id: hqq\n    max_kw: -1\n")
    code, out, err = run(capsys, "apply", str(file), *where)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        f"{file}:3: no site hqq: add it under `sites` (did you mean hq?)",
        f"{file}:4: max_kw: -1 is too small: want more than 0 kW",
    ]


def test_meters_by_some_of_their_keys(stack: Stack) -> None:
    status = stack.status()
    kafka, database_url = status["kafka"], status["database_url"]
    first = apply_meters(kafka, database_url, [{"meter_id": "cfg-1", "tz": "Asia/Tokyo", "register_max": 1000.0}])
    assert (first.meters, first.messages) == (1, 2)
    assert apply_meters(kafka, database_url, [{"meter_id": "cfg-1", "max_kw": 9.0}]).meters == 1
    assert apply_meters(kafka, database_url, [{"meter_id": "cfg-1", "max_kw": 9.0, "tz": None}]).meters == 0
    stored = latest(kafka, "meters")["cfg-1"]
    assert (stored["tz"], stored["register_max"], stored["max_kw"]) == ("Asia/Tokyo", 1000, 9)
    with pytest.raises(UserError, match="cfg-1: tz: unknown time zone"):
        apply_meters(kafka, database_url, [{"meter_id": "cfg-1", "tz": "Mars"}])


def test_limits_configured_later_change_the_energy_that_is_there(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_settings: pytest.MonkeyPatch
) -> None:
    database_url = stack.status()["database_url"]
    store = Store(database_url)
    store.write_readings(readings("cfg-rolls", START + np.arange(4) * HOUR, [99_990, 99_998, 5, 12]), START)
    store.close()
    file = tmp_path / "meter.yaml"
    file.write_text("meters: [{meter_id: cfg-rolls}]\n")
    where = ["--data-dir", str(stack.options.data_dir)]
    total = "SELECT sum(kwh) FROM energy_hourly WHERE meter_id = 'cfg-rolls'"
    code, out, _ = run(capsys, "apply", str(file), "--json", *where)
    assert (code, json.loads(out)["changed"]["rederived"], query(database_url, total)) == (0, 0, [(20,)])
    file.write_text("meters: [{meter_id: cfg-rolls, register_max: 100000}]\n")
    code, out, err = run(capsys, "apply", str(file), *where)
    assert (code, query(database_url, total)) == (0, [(22,)])
    assert "energy of 1 meter derived again" in out
    assert "energy of meter cfg-rolls is derived again (1 of 1)" in err
    code, out, _ = run(capsys, "apply", str(file), "--json", *where)
    assert json.loads(out)["changed"]["rederived"] == 0


def test_without_kafka_nothing_is_written(stack: Stack) -> None:
    database_url = stack.status()["database_url"]
    with pytest.raises(UserError, match=r"Kafka at 127.0.0.1:1 does not take .* `energyai up`"):
        apply_meters("127.0.0.1:1", database_url, [{"meter_id": "cfg-none"}])
    with connected(database_url) as link, link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM meter WHERE meter_id = 'cfg-none'")
        assert cursor.fetchone() == (0,)
