"""The SQL files: each fills in, splits into its statements, and leaves no placeholder."""

from __future__ import annotations

import re

import pytest

from jobs.flink_sql import SQL_FOLDER, row_time, short_text, statements, timestamp_ms
from jobs.job_settings import JobSettings
from jobs.tables import create_sink


@pytest.mark.parametrize("name", sorted(path.stem for path in SQL_FOLDER.glob("*.sql")))
def test_each_file_is_whole_statements(name: str) -> None:
    wanted = set(re.findall(r"\$\{(\w+)\}", (SQL_FOLDER / f"{name}.sql").read_text()))
    code = statements(name, **{key: f"<{key}>" for key in wanted})
    assert code
    for statement in code:
        assert statement.startswith(("CREATE TEMPORARY", "INSERT INTO")), statement[:60]
        assert "${" not in statement
        assert "--" not in statement
        assert statement.count("(") == statement.count(")")


def test_a_setting_that_was_not_given_is_an_error() -> None:
    with pytest.raises(KeyError, match="topic"):
        statements("keyed_sink", table="t", kafka="k", transactions="x", guarantee="at-least-once", linger_ms=2)


def test_a_sink_topic_is_exactly_once_below_the_brokers_timeout_unless_it_is_written_at_once() -> None:
    class Statements(list[str]):
        execute_sql = list.append

    made, settings = Statements(), JobSettings(kafka="h:1", database_url="postgresql://u@h/d")
    create_sink(made, settings, "t", "a.b")
    create_sink(made, settings, "t", "a.b", at_once=True)
    assert "'sink.delivery-guarantee' = 'exactly-once'" in made[0]
    assert int(re.search(r"transaction.timeout.ms' = '(\d+)'", made[0])[1]) < 900_000  # type: ignore[index]
    assert "'sink.delivery-guarantee' = 'at-least-once'" in made[1]


@pytest.mark.parametrize(("text", "fits"), [
    ('"m"', True), ('"ü ⚡"', True), (r'"a\"b\\c"', True), (r'"\u00e4"', True), ('""', False), ("7", False),
    ("null", False),
    (r'"a\u001fb"', False), (r'"a\u0000"', False), (r'"a\nb"', False), (r'"a\tb"', False), (f'"{"m" * 10}"', True),
    (f'"{"m" * 11}"', False), ('"a" "b"', False), (r'"a\"', False),
])  # fmt: skip
def test_short_texts(text: str, fits: bool) -> None:
    pattern = re.fullmatch(r"REGEXP\(x, '(.*)'\)", short_text("x", 10))[1]  # type: ignore[index]
    assert bool(re.search(pattern, text)) == fits


def test_times_name_their_field() -> None:
    assert "ts_json" in timestamp_ms("ts_json")
    assert "CAST(payload AS STRING)" in row_time("payload")
