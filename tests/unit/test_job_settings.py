"""A job's settings: options over environment over defaults."""

from __future__ import annotations

import pytest

from jobs.errors import UserError
from jobs.job_settings import JobSettings

ADDRESSES = ["--kafka", "h:9092", "--database-url", "postgresql://h/d"]


def test_defaults(no_settings: pytest.MonkeyPatch) -> None:
    settings = JobSettings.parse(ADDRESSES, "job")
    assert settings == JobSettings("h:9092", "postgresql://h/d")
    assert not settings.until_complete


def test_the_environment_and_options_over_it(no_settings: pytest.MonkeyPatch) -> None:
    for name, value in {
        "KAFKA": "e:1",
        "DATABASE_URL": "postgresql://e/d",
        "SHARDS": "8",
        "TOPIC_PREFIX": "a.",
    }.items():
        no_settings.setenv(f"ENERGYAI_{name}", value)
    settings = JobSettings.parse(["--kafka", "h:9092", "--shards", "2", "--until-complete"], "job")
    assert settings == JobSettings("h:9092", "postgresql://e/d", until_complete=True, shards=2, topic_prefix="a.")


@pytest.mark.parametrize(("given", "missing"), [(ADDRESSES[:2], "--database-url"), (ADDRESSES[2:], "--kafka")])
def test_an_address_that_is_missing_is_told(no_settings: pytest.MonkeyPatch, given: list[str], missing: str) -> None:
    with pytest.raises(UserError, match=f"give {missing}, or set ENERGYAI_") as error:
        JobSettings.parse(given, "job")
    assert error.value.exit_code == 2


def test_a_number_that_is_none(no_settings: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        JobSettings.parse([*ADDRESSES, "--shards", "many"], "job")
