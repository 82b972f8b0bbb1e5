"""Reads the SQL of `sql/flink`, fills in settings, and the few expressions that several statements share."""

from __future__ import annotations

from pathlib import Path
from string import Template

SQL_FOLDER = Path(__file__).resolve().parents[1] / "sql" / "flink"

MAX_EPOCH_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, the latest that Flink and PostgreSQL both hold."""

_ISO = (
    r'^"\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):[0-5]\d(:([0-5]\d|60)([.,]\d{1,9})?)?'
    r'([Zz]|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)"$'
)


def timestamp_ms(json_text: str) -> str:
    """SQL for a JSON time as epoch milliseconds: ISO-8601 with an offset, or a number of milliseconds; else NULL.

    TO_TIMESTAMP_LTZ ignores an offset in the text, and CAST turns 30 February into the 28th; so date, time of day and
    offset are read apart, and the date is compared with its text.

    Args:
        json_text: an SQL expression that gives the JSON text of the field, quotes included.
    """
    s = json_text
    date = f"TRY_CAST(SUBSTRING({s}, 2, 10) AS DATE)"

    def group(pattern: str, index: int) -> str:
        return f"REGEXP_EXTRACT({s}, '{pattern}', {index})"

    def number(text: str) -> str:
        return f"COALESCE(TRY_CAST({text} AS BIGINT), 0)"

    offset = r'([+-])(\d\d):?(\d\d)?"$'
    second = number(group(r"^.{17}:(\d\d)", 1))
    fraction = group(r"[.,](\d{1,3})", 1)
    millis = number(f"RPAD({fraction}, 3, '0')")
    return f"""CASE
    WHEN {s} LIKE '"%' THEN CASE
      WHEN REGEXP({s}, '{_ISO}') AND CAST({date} AS STRING) = SUBSTRING({s}, 2, 10)
      THEN CAST(TIMESTAMPDIFF(DAY, DATE '1970-01-01', {date}) AS BIGINT) * 86400000
        + CAST(SUBSTRING({s}, 13, 2) AS BIGINT) * 3600000 + CAST(SUBSTRING({s}, 16, 2) AS BIGINT) * 60000
        + {second} * 1000 + {millis}
        - CASE {group(offset, 1)} WHEN '+' THEN 1 WHEN '-' THEN -1 ELSE 0 END
          * ({number(group(offset, 2))} * 3600000 + {number(group(offset, 3))} * 60000)
      END
    WHEN TRY_CAST({s} AS DOUBLE) BETWEEN 0 AND {MAX_EPOCH_MS} THEN CAST(TRY_CAST({s} AS DOUBLE) AS BIGINT)
  END"""


def row_time(payload: str) -> str:
    """SQL for the row time of a record, from what its text shows, without parsing it; NULL when nothing is there.

    The source evaluates it for each record, and again for its watermark; a computed column may use no other computed
    column, so each use of the hint searches the text anew. The usual forms of a time come first, therefore.

    Args:
        payload: an SQL expression of the record's bytes.
    """
    text = f"CAST({payload} AS STRING)"  # DECODE's checked exception does not compile in a watermark
    field = f"SUBSTRING({text}, LOCATE('\"ts\"', {text}), 60)"
    hint = rf"""REGEXP_EXTRACT({field}, '^"ts"\s*:\s*("[^"]{{1,40}}"|[0-9][0-9.eE+]{{0,30}})', 1)"""
    usual = r'^"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)"$'
    parsed = f"UNIX_TIMESTAMP(TRIM(BOTH '\"' FROM {hint}), 'yyyy-MM-dd''T''HH:mm:ssXXX') * 1000"
    # No LIKE with '_': Flink compiles its pattern anew for each record.
    ms = f"""CASE
    WHEN {hint} LIKE '"%' THEN CASE WHEN REGEXP({hint}, '{usual}') THEN {parsed} ELSE {timestamp_ms(hint)} END
    ELSE COALESCE(TRY_CAST({hint} AS BIGINT), CAST(TRY_CAST({hint} AS DOUBLE) AS BIGINT))
  END"""
    return f"TO_TIMESTAMP_LTZ({ms} - 1, 3)"


def short_text(json_text: str, longest: int) -> str:
    """SQL that holds for a JSON string of 1 to `longest` characters, none a control character."""
    return rf"""REGEXP({json_text}, '^"([^\\"]|\\["\\/]|\\u(?!00[01])[0-9a-fA-F]{{4}}){{1,{longest}}}"$')"""


_HIGH = r"[dD][89abAB][0-9a-fA-F]{2}"
_LOW = r"[dD][c-fC-F][0-9a-fA-F]{2}"
HALF_SURROGATE = rf"(?<!\\)(\\\\)*\\u({_HIGH}(?!\\u{_LOW})|{_LOW}(?<!\\u{_HIGH}\\u....))"
"""Regular expression of a JSON escape that is one half of a surrogate pair without the other."""


def statements(name: str, **values: object) -> list[str]:
    """The statements of `sql/flink/<name>.sql`, comments left out, with `${…}` filled in.

    Raises:
        KeyError: the file names a value that was not given.
    """
    text = (SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    filled = Template(code).substitute({key: str(value) for key, value in values.items()})
    return [statement.strip() for statement in filled.split(";\n") if statement.strip()]
