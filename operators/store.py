"""The columnar sink: readings, rejected records and forecasts into TimescaleDB, each batch in one transaction.

Every method returns when its rows are committed, may be called again with the same rows (nothing changes), and keeps
trying while the database is away. `energy_slot` is a function of the set of readings, whatever the order, the batches
and the number of writers: writers of a series take turns on its row in `series_state`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import psycopg2
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.batch import Batch, WriteCounts
from operators.energy import NEVER, SLOT_MS
from operators.increments import Ints
from operators.pg import Session, StoreError, array_literal, rows_of
from operators.readings import Readings
from operators.rederive import rederive
from operators.serving.model_tables import write_events
from operators.tables import to_time

__all__ = ["Store", "StoreError", "WriteCounts"]

log = logging.getLogger(__name__)

_LEVELS = (("energy_15m", SLOT_MS), ("energy_hourly", 4 * SLOT_MS), ("energy_daily", 96 * SLOT_MS))

# The invalidation threshold moves before a refresh reads, the watermark after: the one to ask.
_THRESHOLDS = """
    SELECT a.user_view_name, t.watermark / 1000
    FROM _timescaledb_catalog.continuous_agg AS a
    JOIN _timescaledb_catalog.continuous_aggs_invalidation_threshold AS t ON t.hypertable_id = a.raw_hypertable_id
    WHERE a.user_view_name = ANY(%s)"""


class Store:
    """Writes columns to the database over one connection, for one thread."""

    def __init__(self, url: str, *, give_up_after: float | None = None, session: Session | None = None) -> None:
        """
        Args:
            url: libpq URL.
            give_up_after: seconds without a database after which `StoreError` is raised; None: keep trying.
            session: instead of one made from these.
        """
        self.session = session or Session(url, give_up_after=give_up_after)

    def close(self) -> None:
        """Close the connection."""
        self.session.close()

    def write_readings(self, readings: Readings, received_at_ms: Ints | int) -> WriteCounts:
        """Store readings and derive the energy that they change.

        Args:
            readings: columns of n readings in canonical units, in any order, with repeats or not.
            received_at_ms: epoch milliseconds UTC, int64 [n] or one for all; a reading that is stored keeps its own.

        Raises:
            StoreError: the database stayed away for `give_up_after`, or is not migrated.
            psycopg2.DataError: a value that the database cannot hold.
        """
        if not len(readings):
            return WriteCounts()
        arrived = np.broadcast_to(np.asarray(received_at_ms, np.int64), len(readings))
        batch = Batch.of(readings, arrived)
        while True:
            written = self.session.transaction(batch.write)
            if written is not None:
                break
            # In a transaction of its own, so that nobody waits for another's new series while holding a lock.
            self.session.transaction(batch.introduce)
        if written.changed is not None:
            self._refresh(*written.changed)
        return written.counts

    def outdated(self) -> list[str]:
        """Meters whose energy a new `register_max` or `max_kw` has still to reach (column `energy_outdated`), by id."""
        return [row[0] for row in self._rows("SELECT meter_id FROM meter WHERE energy_outdated ORDER BY 1", [])]

    def rederive(self, meter_id: str) -> int:
        """Derive a meter's whole history again, a register at a time; how many registers.

        Writers of a register wait while its turn is. Meanwhile, and after a crash, registers that had no turn yet show
        the energy of the earlier configuration, and the meter stays `energy_outdated`.
        """
        limits = self._rows("SELECT register_max, max_kw FROM meter WHERE meter_id = %s", [meter_id])
        registers = self._rows("SELECT register FROM series_state WHERE meter_id = %s ORDER BY 1", [meter_id])
        for (register,) in registers:
            span = self.session.transaction(partial(rederive, meter_id=meter_id, register=register))
            if span is not None:
                self._refresh(*span)
        if limits:
            # Configured otherwise meanwhile: it stays outdated.
            self._execute(
                "UPDATE meter SET energy_outdated = false WHERE meter_id = %s AND energy_outdated "
                "AND (register_max, max_kw) IS NOT DISTINCT FROM (%s::float8, %s::float8)",
                [meter_id, *limits[0]],
            )
        return len(registers)

    def write_rejected(
        self,
        topic: Sequence[str],
        partition: Sequence[int],
        offset: Sequence[int],
        reason: Sequence[str],
        detail: Sequence[str],
        raw: Sequence[str],
        received_at_ms: int | None = None,
    ) -> int:
        """Store records that are no readings; how many were not there yet."""
        if not len(topic):
            return 0
        source, parameters = rows_of(
            topic=("text", list(topic)),
            partition=("integer", np.asarray(partition, np.int64)),
            position=("bigint", np.asarray(offset, np.int64)),
            reason=("text", list(reason)),
            detail=("text", list(detail)),
            raw=("text", list(raw)),
        )
        sql = f"""
            INSERT INTO rejected_reading (topic, partition, "offset", reason, detail, raw, received_at)
            SELECT topic, partition, position, reason, detail, raw, coalesce(%s, now()) FROM {source} AS u
            ON CONFLICT DO NOTHING"""
        received = None if received_at_ms is None else to_time(received_at_ms)
        return self._execute(sql, [received, *parameters])

    def write_forecasts(
        self,
        meter_id: Sequence[str],
        issued_at_ms: Ints,
        step_s: Ints,
        kwh: NDArray[np.float32],
        model_id: str,
        model_sha256: str,
        tenant_id: Sequence[str] | None = None,
        role: str = "",
    ) -> int:
        """Store forecasts; how many were new or differed from what was stored.

        Args:
            meter_id: m meters; no (meter, issued_at) twice in one call.
            issued_at_ms: int64 [m], epoch milliseconds UTC; the first step begins there.
            step_s: int [m], 900 or 3600.
            kwh: float32 [m, 9 * steps] or [m, 9, steps], quantile-major.
            model_id: which model.
            model_sha256: of its file.
            tenant_id: of each meter; None: all 'default'.
            role: of a model that is scored beside the champion: its forecasts go to `forecast_shadow`.

        Raises:
            ValueError: a value that is not finite, or not nine quantiles.
        """
        m = len(meter_id)
        if not m:
            return 0
        flat = np.ascontiguousarray(kwh, np.float32).reshape(m, -1)
        width = flat.shape[1]
        if width % 9 or not np.isfinite(flat).all():
            raise ValueError(f"forecasts must be finite, nine quantiles each: shape {flat.shape}")
        source, parameters = rows_of(
            i=("integer", np.arange(m)),
            meter_id=("text", list(meter_id)),
            issued_at=("bigint", np.asarray(issued_at_ms, np.int64)),
            step_s=("integer", np.asarray(step_s, np.int64)),
            tenant_id=("text", np.array(["default"] * m if tenant_id is None else list(tenant_id), object)),
        )
        table, key, more, also = "forecast_issue", "meter_id, issued_at", "", [model_id, model_sha256]
        if role:
            table, key, more = "forecast_shadow", "meter_id, issued_at, model_sha256", ", role"
            also.append(role)
        sql = f"""
            INSERT INTO {table}
                (meter_id, issued_at, target_start, step_s, kwh, model_id, model_sha256{more}, tenant_id)
            SELECT meter_id, to_timestamp(issued_at / 1000.0), to_timestamp(issued_at / 1000.0), step_s,
                v.numbers[i * {width} + 1 : (i + 1) * {width}], {", ".join(["%s"] * len(also))}, tenant_id
            FROM {source} AS u, (SELECT %s::real[] AS numbers) AS v
            ON CONFLICT ({key}) DO UPDATE SET
                target_start = excluded.target_start, step_s = excluded.step_s, kwh = excluded.kwh,
                model_id = excluded.model_id, model_sha256 = excluded.model_sha256
            WHERE ({table}.kwh, {table}.step_s, {table}.model_sha256)
                IS DISTINCT FROM (excluded.kwh, excluded.step_s, excluded.model_sha256)"""
        return self._execute(sql, [*also, *parameters, array_literal(flat.ravel())])

    def write_model_events(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Store what the models' watch found (`operators.serving.model_tables`); how many rows were sent."""
        return self.session.transaction(partial(write_events, events=events))

    def _execute(self, sql: str, parameters: list[object]) -> int:
        def work(cursor: Cursor) -> int:
            cursor.execute(sql, parameters)
            return int(cursor.rowcount)

        return self.session.transaction(work)

    def _rows(self, sql: str, parameters: list[object]) -> list[tuple[Any, ...]]:
        def work(cursor: Cursor) -> list[tuple[Any, ...]]:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

        return self.session.transaction(work)

    def _refresh(self, low_ms: int, high_ms: int) -> None:
        """Bring the continuous aggregates up to date where [low_ms, high_ms) is materialised already.

        What is later than the invalidation threshold is aggregated when it is read; what is earlier changes in the
        aggregate only with a refresh. A crash before this leaves the work to the policy `refresh_energy`.
        """

        def refresh(cursor: Cursor) -> None:
            cursor.execute(_THRESHOLDS, ([name for name, _ in _LEVELS],))
            thresholds = {name: int(value) for name, value in cursor.fetchall()}
            top = max(thresholds.values(), default=NEVER)
            for i, (name, width) in enumerate(_LEVELS):
                # A coarser level sees only what the finer one has materialised: that goes as far as any of them.
                threshold = top if i == 0 else thresholds.get(name, NEVER)
                if low_ms >= threshold:
                    continue
                low = low_ms // width * width
                high = min(-(-high_ms // width) * width, -(-threshold // width) * width)
                cursor.execute("CALL refresh_continuous_aggregate(%s, %s, %s)", (name, to_time(low), to_time(high)))

        try:
            self.session.autocommit(refresh)
        except psycopg2.errors.InsufficientPrivilege as error:
            log.warning("energy_* lag behind until the policy refresh_energy runs: %s", " ".join(str(error).split()))
