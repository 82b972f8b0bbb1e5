"""Findings in table `anomaly`: written as readings come, replaced where late ones change them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.findings import CAUSES, Findings, anomaly_id
from operators.increments import Event, Ints
from operators.pg import rows_of
from operators.tables import FIRST_MS, LAST_MS, Pairs, to_time

_KINDS = "(ARRAY['register', 'interval', 'instant']::reading_kind[])"


@dataclass(frozen=True)
class FindingRanges:
    """Times [from_ms, until_ms] of readings, both included, one a (pair, kind), whose findings are to be replaced."""

    pair: Ints
    kind: NDArray[np.int8]
    from_ms: Ints
    until_ms: Ints
    since_ms: Ints
    """No stored finding of the range that may have changed begins earlier."""


def write_findings(cursor: Cursor, pairs: Pairs, findings: Findings) -> None:
    """Upsert findings; their `series` are pair numbers."""
    if not len(findings):
        return
    f = findings
    said = [CAUSES[Event(code)] for code in f.code.tolist()]
    source, parameters = rows_of(
        id=("text", _ids(pairs, f)),
        m=("text", pairs.meters[f.series]),
        r=("text", pairs.registers[f.series]),
        rk=("integer", f.reading_kind),
        kind=("text", [kind for kind, _ in said]),
        cause=("text", [cause for _, cause in said]),
        a=("bigint", f.from_ms),
        b=("bigint", f.ts_ms),
        before=("float8", f.before),
        after=("float8", f.after),
        observed=("float8", f.observed_kwh),
        expected=("float8", f.expected_kwh),
        upper=("float8", f.upper_kwh),
    )
    cursor.execute(
        f"""INSERT INTO anomaly AS o (anomaly_id, meter_id, tenant_id, register, reading_kind, kind, cause, start_ts,
            end_ts, value_before, value_after, observed_kwh, expected_kwh, upper_kwh)
        SELECT id, m, coalesce(t.tenant_id, 'default'), r, {_KINDS}[rk + 1], u.kind, cause, to_timestamp(a / 1000.0),
            to_timestamp(b / 1000.0), before, after, observed, expected, upper
        FROM {source} AS u LEFT JOIN meter AS t ON t.meter_id = u.m
        ON CONFLICT (anomaly_id, start_ts) DO UPDATE SET
            reading_kind = excluded.reading_kind, cause = excluded.cause, end_ts = excluded.end_ts,
            value_before = excluded.value_before, value_after = excluded.value_after,
            observed_kwh = excluded.observed_kwh, expected_kwh = excluded.expected_kwh, upper_kwh = excluded.upper_kwh
        WHERE (o.reading_kind, o.cause, o.value_before, o.value_after, o.observed_kwh, o.expected_kwh, o.upper_kwh)
            IS DISTINCT FROM (excluded.reading_kind, excluded.cause, excluded.value_before, excluded.value_after,
                excluded.observed_kwh, excluded.expected_kwh, excluded.upper_kwh)""",
        parameters,
    )


def replace_findings(cursor: Cursor, pairs: Pairs, ranges: FindingRanges, findings: Findings) -> None:
    """Make the findings in the ranges these; `findings.series` numbers the ranges. Those outside are left out."""
    f = findings
    f = f.take((f.ts_ms >= ranges.from_ms[f.series]) & (f.ts_ms <= ranges.until_ms[f.series]))
    source, parameters = rows_of(
        m=("text", pairs.meters[ranges.pair]),
        r=("text", pairs.registers[ranges.pair]),
        kind=("integer", ranges.kind),
        a=("bigint", np.maximum(ranges.from_ms, FIRST_MS)),
        b=("bigint", np.minimum(ranges.until_ms, LAST_MS)),
    )
    f = replace(f, series=ranges.pair[f.series])
    # Few: compared here, because as an anti-join the planner may compare each with each (docs/decisions/016).
    cursor.execute(
        f"""SELECT o.anomaly_id, (extract(epoch FROM o.start_ts) * 1000)::bigint FROM anomaly AS o, {source} AS u
        WHERE o.meter_id = u.m AND o.register = u.r AND o.reading_kind = {_KINDS}[u.kind + 1]
            AND o.end_ts BETWEEN to_timestamp(u.a / 1000.0) AND to_timestamp(u.b / 1000.0)
            AND o.start_ts BETWEEN %s AND %s""",
        [*parameters, to_time(int(ranges.since_ms.min())), to_time(int(ranges.until_ms.max()))],
    )
    kept = set(zip(_ids(pairs, f), f.from_ms.tolist(), strict=True))
    others = [found for found in cursor.fetchall() if found not in kept]
    if others:
        ids, starts = zip(*others, strict=True)
        source, parameters = rows_of(id=("text", list(ids)), a=("bigint", np.array(starts, np.int64)))
        cursor.execute(
            f"""DELETE FROM anomaly AS o USING {source} AS u
            WHERE o.anomaly_id = u.id AND o.start_ts = to_timestamp(u.a / 1000.0)
                AND o.start_ts BETWEEN %s AND %s""",
            [*parameters, to_time(min(starts)), to_time(max(starts))],
        )
    write_findings(cursor, pairs, f)


def _ids(pairs: Pairs, f: Findings) -> list[str]:
    columns = (f.series.tolist(), f.code.tolist(), f.ts_ms.tolist())
    return [
        anomaly_id(pairs.meters[pair], pairs.registers[pair], CAUSES[Event(code)][0], ts_ms)
        for pair, code, ts_ms in zip(*columns, strict=True)
    ]
