"""What control saved, and how much of what perfect foresight would have: SQL on the recorded quarter hours.

No control and foresight need the devices simulated, so their quarter hours are computed here once and stored; the bills
are the views `control_savings` and `control_regret`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from jobs.errors import UserError
from jobs.simulation.folder import Case
from jobs.simulation.run import simulate
from operators.control.clock import local
from operators.control.site import Site
from operators.control.site_json import SiteError, read_site
from operators.control.solver import SolverError

SLOT_MS = 900_000
LEAST_SLOTS = 96
COLUMNS = (
    "site_id", "month", "quarter_hours", "on_paper", "saved", "possible", "regret", "share_of_possible",
    "peak_none_kw",
    "peak_kw", "peak_foresight_kw", "kg_co2_saved",
)  # fmt: skip


def report(database_url: str, sites: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of `control_regret`, with foresight brought up to date first; all controlled sites when none is named.

    Raises:
        UserError: a site that was never controlled, or cannot be optimised.
        DatabaseError: the database does not answer.
    """
    from infra.database import connected

    with connected(database_url) as link, link.cursor() as cursor:
        cursor.execute("SELECT DISTINCT site_id FROM site_slot ORDER BY 1")
        known = [name for (name,) in cursor.fetchall()]
        missing = [name for name in sites if name not in known]
        if missing or not known:
            raise UserError(
                f"no quarter hours of {', '.join(missing) or 'any site'}: give the site assets with `energyai config "
                "apply` and run job control"
            )
        for name in sites or known:
            foresee(cursor, name)
        link.commit()
        cursor.execute(
            f"SELECT {', '.join(COLUMNS)} FROM control_regret WHERE site_id = ANY(%s) ORDER BY site_id, month",
            (list(sites or known),),
        )
        return [
            {name: str(value) if name == "month" else value for name, value in zip(COLUMNS, row, strict=True)}
            for row in cursor.fetchall()
        ]


def foresee(cursor: Any, site_id: str) -> int:
    """Stores what no control and perfect foresight would have done in a site's quarter hours; how many.

    Raises:
        UserError: the site's last plan or its optimum cannot be had.
    """
    cursor.execute(
        "SELECT (extract(epoch FROM bucket) * 1000)::bigint, load_kw, coalesce(price, 0), coalesce(export_price, 0),"
        " coalesce(kg_co2_per_kwh, 0) FROM site_slot WHERE site_id = %s ORDER BY bucket",
        (site_id,),
    )
    rows = np.array(cursor.fetchall(), dtype=np.float64).reshape(-1, 5)
    if len(rows) < LEAST_SLOTS:
        return 0
    cursor.execute(
        "SELECT record -> 'inputs' -> 'site' FROM control_plan WHERE site_id = %s ORDER BY planned_at DESC LIMIT 1",
        (site_id,),
    )
    found = cursor.fetchone()
    try:
        site = read_site(found[0] if found else {})
        none, best = alternatives(site, rows)
    except (SiteError, SolverError) as error:
        raise UserError(f"site {site_id}: {error}") from error
    stamps = rows[:, 0].astype(np.int64).tolist()
    table = [
        {"at": at, "none": without, "kw": kw}
        for at, without, kw in zip(stamps, none.tolist(), best.tolist(), strict=True)
    ]
    cursor.execute("DELETE FROM control_foresight WHERE site_id = %s", (site_id,))
    cursor.execute(
        "INSERT INTO control_foresight (site_id, bucket, none_kw, devices_kw)"
        " SELECT %s, to_timestamp(at / 1000.0), none, kw"
        " FROM jsonb_to_recordset(%s::jsonb) AS r (at bigint, none float8, kw float8)",
        (site_id, orjson.dumps(table).decode()),
    )
    return len(table)


def alternatives(site: Site, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power of all devices together without control, and under perfect foresight: [n] kW each.

    Args:
        site: the site.
        rows: [n, 5] epoch ms UTC, load kW, price, export price, kg CO2 per kWh; in the order of time. Gaps between rows
            are filled for the simulation, and left out of the answer.

    Raises:
        SolverError: there is no optimum.
    """
    number = (rows[:, 0] / SLOT_MS).astype(np.int64)
    whole = np.arange(number[0], number[-1] + 1)
    load, price, export, kg = (np.interp(whole, number, rows[:, i]) for i in range(1, 5))
    starts = whole * SLOT_MS
    case = Case(
        site=site,
        start_ms=starts,
        load_kw=load,
        known=np.isin(whole, number),
        pv_kw=np.zeros_like(load),
        price=price,
        export=export,
        carbon=kg,
        month=local(starts, site.tz).month,
        step_s=SLOT_MS // 1000,
    )
    found = simulate(case, ("none", "foresight"), None, lambda name, done: None)
    none, best = (
        np.asarray(sum(found[name][1].asset_kw.values(), start=np.zeros(len(whole))))[number - number[0]]
        for name in ("none", "foresight")
    )
    return none, best


def told(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows for a person."""
    lines = [f"{'site':16}{'month':12}{'saved':>12}{'possible':>12}{'share':>8}{'peak kW':>10}{'none':>10}{'best':>10}"]
    for row in rows:
        share = "" if row["share_of_possible"] is None else f"{row['share_of_possible']:.0%}"
        possible = "" if row["possible"] is None else f"{row['possible']:,.2f}"
        best = "" if row["peak_foresight_kw"] is None else f"{row['peak_foresight_kw']:,.1f}"
        paper = "  (devices on paper)" if row["on_paper"] else ""
        lines.append(
            f"{row['site_id']:16}{row['month']:12}{row['saved']:12,.2f}{possible:>12}{share:>8}{row['peak_kw']:10,.1f}"
            f"{row['peak_none_kw']:10,.1f}{best:>10}{paper}"
        )
    return lines
