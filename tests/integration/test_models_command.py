"""`energyai models` on real parts: what the gate stops, what it lets through, and what is announced."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from kafka import KafkaConsumer

from infra.embedded.stack import Stack
from jobs import cli
from jobs.models import announce
from operators.forecaster import SHIPPED_MODEL, shipped_sha256
from operators.serving.plan import Announcement
from tests.pipeline import Deployment
from tests.unit.serving_support import trained

PREFIX = "modelcmd-"
NAME = "cmd"
METERS = [f"m{i}" for i in range(12)]
UNSEEN = METERS[:6]


@pytest.fixture
def past(tmp_path: Path) -> Path:
    """Three weeks of hourly energy: days and weekends, another level and noise for each meter."""
    rng = np.random.default_rng(1)
    hours = pd.date_range("2024-01-01", periods=24 * 24, freq="h", tz="UTC")
    shape = 2 + np.sin((hours.hour.to_numpy() - 8) / 24 * 2 * np.pi) - 0.8 * (hours.dayofweek.to_numpy() >= 5)
    table = {name: np.round((i + 1) * (shape + rng.normal(0, 0.2, len(hours))), 4) for i, name in enumerate(METERS)}
    path = tmp_path / "past.csv"
    pd.DataFrame({"timestamp": hours, **table}).to_csv(path, index=False)
    return path


@dataclass(frozen=True)
class Commands:
    """`energyai models` on a deployment."""

    deployment: Deployment
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str, code: int = 0) -> dict[str, Any]:
        """Runs it, for its exit code and its JSON."""
        assert cli.main(["models", *words, "--name", NAME, "--topic-prefix", PREFIX, "--json"]) == code
        out = self.capsys.readouterr().out
        return dict(json.loads(out.splitlines()[-1])) if out else {}

    def verdicts(self) -> list[tuple[int, bool]]:
        """What the gate has said so far."""
        sql = "SELECT version, passed FROM model_promotion WHERE model_name = %s ORDER BY judged_at"
        return self.deployment.rows(sql, (NAME,))

    def known(self) -> list[Announcement]:
        """What was announced so far."""
        return announce.stored(self.deployment.where.database_url, NAME)

    def messages(self) -> list[dict[str, Any]]:
        """Of the topic."""
        consumer = KafkaConsumer(
            PREFIX + "models",
            bootstrap_servers=self.deployment.where.kafka,
            auto_offset_reset="earliest",
            consumer_timeout_ms=3000,
            enable_auto_commit=False,
        )
        try:
            return [orjson.loads(message.value) for message in consumer]
        finally:
            consumer.close()


@pytest.fixture
def models(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Commands:
    """The command, on the stack, with a registry and a key of its own."""
    deployment = Deployment.on(stack, PREFIX)
    where = deployment.where
    monkeypatch.setenv("ENERGYAI_KAFKA", where.kafka)
    monkeypatch.setenv("ENERGYAI_DATABASE_URL", where.database_url)
    monkeypatch.setenv("ENERGYAI_FLINK_URL", where.flink_url)
    monkeypatch.setenv("ENERGYAI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ENERGYAI_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.delenv("ENERGYAI_MODEL_KEYS", raising=False)
    return Commands(deployment, capsys)


def with_card(folder: Path, model: Path | None = None) -> str:
    """A model's file whose card says which meters its training did not see."""
    path = trained(folder, 1.0, train_until="2023-12-01", unseen=UNSEEN)
    if model is not None:
        shutil.copy(model, path)
        card = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps({**card, "sha256": shipped_sha256()}))
    return str(path)


@pytest.mark.timeout(900)
def test_a_version_is_judged_promoted_announced_and_taken_back(models: Commands, tmp_path: Path, past: Path) -> None:
    judge = [str(past), "--tz", "Europe/London"]
    assert models("register", with_card(tmp_path / "bad"))["version"] == 1

    # A planted bad model: yesterday again. Stopped, recorded, and nobody is told.
    stopped = models("promote", "1", *judge, code=4)
    assert stopped["promoted"] is False
    assert any("champion" in reason for reason in stopped["reasons"])
    assert models.verdicts() == [(1, False)]
    assert models.known() == []
    assert models("list")["versions"][0]["alias"] is None
    models("rollback", code=1)

    # A challenger is not judged.
    said = models("promote", "1", "--alias", "challenger")
    assert (said["alias"], said["version"]) == ("challenger", 1)
    assert models("withdraw")["withdrawn"] is True
    models("withdraw", code=1)

    # A champion that is as bad as the first gives way to a better one.
    first = models.known()[0]
    champion = Announcement(0, 0, 1, first.sha256, "champion", first.uri, "for the test")
    announce.announce(models.deployment.where, NAME, champion, PREFIX)
    assert models("register", with_card(tmp_path / "good", SHIPPED_MODEL))["version"] == 2
    promoted = models("promote", "2", *judge, "--effective-from", "2030-01-01")
    assert (promoted["promoted"], promoted["alias"]) == (True, "champion")
    assert promoted["effective_from"] == "2030-01-01T00:00:00.000Z"
    assert models.verdicts() == [(1, False), (2, True)]
    models("promote", "2", *judge, code=1)
    assert {row["version"]: row["alias"] for row in models("list")["versions"]} == {1: None, 2: "champion"}
    rows = models.deployment.rows(
        "SELECT version, alias, sha256 FROM model_version WHERE model_name = %s ORDER BY 1", (NAME,)
    )
    assert rows == [(1, None, first.sha256), (2, "champion", shipped_sha256())]
    assert models("show", "2")["manifest"]["sha256"] == shipped_sha256()

    back = models("rollback")
    assert (back["version"], back["reason"]) == (1, "rollback from version 2, by hand")
    models("rollback", "--to", "0")
    models("rollback", "--to", "9", code=1)
    count = models("announce")["announcements"]
    newest = models.messages()[-1]
    assert len(newest["plan"]) == count == 6
    assert (newest["version"], newest["sha256"]) == (0, shipped_sha256())
