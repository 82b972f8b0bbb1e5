"""A year of meters, shuffled over a week, repeated, late and with rubbish among it, against the same year in order.

Quick by default; the proof itself is `make proof`, or
`pytest tests/proofs/test_year.py --year-days 365 --year-meters 50` (about a million readings; an hour on two cores).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.database import connected
from infra.embedded.stack import Stack
from jobs.commands.submit import wait
from jobs.config.apply import apply_meters
from jobs.flink_rest import FlinkRest
from jobs.replay import fleet
from jobs.replay.batch import Batch, batch, concat
from jobs.replay.fleet_faults import REJECT_CODES, Faults, bad_record
from jobs.replay.producer import send
from jobs.submission import submit
from jobs.verify import tables
from jobs.verify.compare import Row, Table, Tally, differences, paired
from tests.pipeline import Deployment

pytestmark = pytest.mark.timeout(6 * 3_600)

DAY_MS = 86_400_000
CLEAN, SHUFFLED = "year-in-order-", "year-shuffled-"
KINDS = (
    *("interval:3600", "register:3600", "interval:3600", "register:900"),
    *("register:3600", "interval:3600", "instant:900", "interval:3600"),
)
# What the meters themselves do wrong is in both runs: it is part of the set of readings.
METERS = Faults(
    stuck=0.05, resets=0.05, replacements=0.02, rollovers=0.5, negatives=0.05, missing=0.1, revisions=0.01,
    conflicts=0.005,
)  # fmt: skip
DUPLICATES, LATE, MALFORMED = 0.20, 0.05, 0.01
SHUFFLED_DAYS, LATE_DAYS = 7, 7
"""Each record comes up to a week after its time; a late one up to a week after that."""
READING = replace(tables.READING, values=tuple(name for name in tables.READING.values if name != "received_at"))
TABLES = (READING, *tables.ENERGY)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Year:
    """What was sent: the set of readings in order, and the same as it was disturbed."""

    meters: Sequence[str]
    """Their names without a prefix."""
    clean: int
    sent: int
    malformed: int


def disturbed(clean: Batch, seed: int) -> Batch:
    """The records in the order in which a bad week delivers them: some twice, some late, rubbish between them."""
    rng = np.random.default_rng([seed, 5])
    n = len(clean)

    def delays(count: int) -> NDArray[np.int64]:
        return rng.integers(0, SHUFFLED_DAYS * DAY_MS, count)

    late = rng.random(n) < LATE
    first = replace(clean, deliver_ms=clean.deliver_ms + delays(n) + late * rng.integers(0, LATE_DAYS * DAY_MS, n))
    again = np.flatnonzero(rng.random(n) < DUPLICATES)
    twice = replace(clean.take(again), deliver_ms=first.deliver_ms[again] + delays(len(again)))
    some = np.sort(rng.integers(0, n, int(n * MALFORMED)))
    raw = np.empty(len(some), dtype=object)
    for i, row in enumerate(some.tolist()):
        code = REJECT_CODES[i % len(REJECT_CODES)]
        raw[i] = bad_record(code, str(clean.meter_id[row]), int(clean.ts_ms[row]), too_large_bytes=70_000)
    bad = batch(
        clean.meter_id[some], clean.ts_ms[some], np.zeros(len(some)), raw=raw,
        deliver_ms=clean.deliver_ms[some] + delays(len(some)),
    )  # fmt: skip
    return concat([first, twice, bad]).by_delivery()


@pytest.fixture(scope="module")
def say(pytestconfig: pytest.Config) -> Say:
    """A line for who waits."""
    begun = time.monotonic()
    line = pytestconfig.get_terminal_writer().line
    return lambda text: line(f"{time.monotonic() - begun:7.0f} s  {text}")


@pytest.fixture(scope="module")
def year(stack: Stack, pytestconfig: pytest.Config, say: Say) -> Year:
    """Both runs are through the real ingest job and in the database."""
    days, count = pytestconfig.getoption("--year-days"), pytestconfig.getoption("--year-meters")

    @cache
    def generated(prefix: str) -> fleet.Fleet:
        return fleet.generate(fleet.FleetSpec(7, count, days=days, kinds=KINDS, faults=METERS, prefix=prefix))

    clean = generated(CLEAN).readings
    # In the order of time, a revision after what it revises.
    in_order = replace(clean, deliver_ms=clean.ts_ms).by_delivery()
    other = disturbed(replace(generated(SHUFFLED).readings, deliver_ms=generated(SHUFFLED).readings.ts_ms), seed=7)
    for prefix, records in ((CLEAN, in_order), (SHUFFLED, other)):
        _run(stack, prefix, generated(prefix), records, say)
    names = sorted(name.removeprefix(CLEAN) for name in generated(CLEAN).meters.meter_id)
    malformed = int((other.raw != np.array(None)).sum())
    return Year(names, len(in_order), len(other), malformed)


def _run(stack: Stack, prefix: str, made: fleet.Fleet, records: Batch, say: Say) -> None:
    """Through the topic and the job, to the end."""
    deployment = Deployment.on(stack, prefix, 4)
    known = made.meters[made.meters.register_max_kwh > 0]
    apply_meters(
        deployment.where.kafka,
        deployment.where.database_url,
        [
            {"meter_id": meter, "register_max": float(top)}
            for meter, top in zip(known.meter_id, known.register_max_kwh, strict=True)
        ],
    )
    sent = send([records], deployment.where.kafka, prefix + "meter.readings")
    say(f"{prefix}: {sent.readings:,} records on the topic")
    wait(
        FlinkRest(deployment.where.flink_url),
        submit(
            deployment.settings, deployment.where, ("ingest",),
            ["--until-complete", "--parallelism", "2", *deployment.options],
        ),
    )  # fmt: skip
    say(f"{prefix}: all of them read")


def _unnamed(rows: Iterator[Row], prefix: str) -> Iterator[Row]:
    return ((row[0].removeprefix(prefix), *row[1:]) for row in rows)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_rows_do_not_depend_on_the_order(stack: Stack, year: Year, say: Say, table: Table) -> None:
    tally = Tally()
    with connected(stack.status()["database_url"], autocommit=True) as link:
        for name in year.meters:
            sides = (_unnamed(tables.of_meters(link, table, [prefix + name]), prefix) for prefix in (CLEAN, SHUFFLED))
            for a, b in paired(*sides, len(table.key)):
                tally.production, tally.replay = tally.production + (a is not None), tally.replay + (b is not None)
                if a is None or b is None:
                    tally.note(table, "missing" if b is None else "extra", (a or b or ())[: len(table.key)])
                    continue
                found, largest = differences(table, a, b)
                tally.largest = max(tally.largest, largest)
                if found:
                    tally.note(table, "different", a[: len(table.key)], found)
    say(f"{table.name}: {tally.production:,} rows in order, {tally.replay:,} shuffled, difference {tally.largest}")
    assert tally.production > 0
    assert tally.equal, tally


def test_every_record_is_accounted_for(stack: Stack, year: Year, say: Say) -> None:
    with connected(stack.status()["database_url"]) as link, link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM rejected_reading WHERE topic = %s", (SHUFFLED + "meter.readings",))
        (rejected,) = cursor.fetchone() or (0,)
    say(f"{year.clean:,} readings; {year.sent:,} records, of which {rejected:,} rejected")
    assert rejected == year.malformed > 0
    assert year.sent > year.clean * (1 + 0.9 * (DUPLICATES + MALFORMED))


def test_conflicts_are_the_same(stack: Stack, year: Year) -> None:
    def conflicts(prefix: str) -> set[Row]:
        with connected(stack.status()["database_url"]) as link, link.cursor() as cursor:
            cursor.execute(
                "SELECT meter_id, register, ts, revision, dropped_value FROM reading_conflict"
                " WHERE starts_with(meter_id, %s)",
                (prefix,),
            )
            return set(_unnamed(iter(cursor.fetchall()), prefix))

    assert conflicts(CLEAN) == conflicts(SHUFFLED) != set()
