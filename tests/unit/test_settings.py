"""Settings: the environment, read once and checked."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from infra.embedded import processes
from jobs.errors import UserError
from jobs.settings import Settings, addresses


def test_defaults_need_no_environment() -> None:
    settings = Settings.load({})
    assert settings.kafka is None
    assert settings.flink_memory == "2g"
    assert settings.data_dir == settings.home / "data"
    assert settings.stack_options().ports == {}


def test_the_environment_is_read_and_blank_means_unset(tmp_path: Path) -> None:
    settings = Settings.load(
        {
            "ENERGYAI_HOME": str(tmp_path),
            "ENERGYAI_KAFKA": "broker:9092",
            "ENERGYAI_DATABASE_URL": "  ",
            "ENERGYAI_FLINK_PORT": "8081",
            "ENERGYAI_FLINK_MEMORY": "4 g",
            "ENERGYAI_DEBUG": "1",
        }
    )
    assert (settings.kafka, settings.database_url, settings.debug) == ("broker:9092", None, True)
    options = settings.stack_options()
    assert options.home == tmp_path
    assert options.data_dir == tmp_path / "data"
    assert options.ports == {"flink": 8081}
    assert options.memory == "4g"


def test_a_data_dir_option_wins_and_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings.load({"ENERGYAI_DATA_DIR": "/a"}, Path("b")).data_dir == tmp_path / "b"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KAFKA_PORT", "ninety"),
        ("KAFKA_PORT", "70000"),
        ("PARTITIONS", "0"),
        ("FLINK_SLOTS", "-1"),
        ("FLINK_MEMORY", "lots"),
        ("DEBUG", "maybe"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(UserError, match=f"ENERGYAI_{variable}={value}") as error:
        Settings.load({f"ENERGYAI_{variable}": value})
    assert error.value.exit_code == 2


def test_every_setting_is_described_and_frozen() -> None:
    assert [each.name for each in fields(Settings) if not each.metadata.get("help")] == []
    with pytest.raises(FrozenInstanceError):
        Settings.load({}).kafka = "x"  # type: ignore[misc]


def test_addresses_come_from_the_environment_first_then_from_the_running_stack(tmp_path: Path) -> None:
    mine = processes.create_time(1)  # some process that lives for as long as the test
    running = {
        "format": 1,
        "phase": "up",
        "supervisor": {"pid": 1, "started": mine},
        "kafka": "127.0.0.1:1",
        "database_url": "postgresql://embedded",
        "flink_url": "http://127.0.0.1:2",
        "parts": {},
    }
    (tmp_path / "stack.json").write_text(json.dumps(running))
    found = addresses(Settings.load({"ENERGYAI_KAFKA": "broker:9092"}, tmp_path))
    assert found.kafka == "broker:9092"
    assert found.database_url == "postgresql://embedded"


def test_no_address_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`energyai up` first, or set ENERGYAI_KAFKA and ENERGYAI_FLINK_URL") as error:
        addresses(Settings.load({"ENERGYAI_DATABASE_URL": "postgresql://x"}, tmp_path))
    assert error.value.exit_code == 3
