"""One shard's models: who scores, what is learnt, and that a restart changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jobs.models.registry import Registry
from operators.packing import Pieces
from operators.serving.artifacts import Models
from operators.serving.open_days import DAY_MS, OpenDay
from operators.serving.plan import CHALLENGER, CHAMPION, PREVIOUS, Announcement
from operators.serving.server import WATCH_MS, Server
from operators.shard import Shard
from tests.unit.serving_support import KEY, PUBLIC, forecaster, trained

HOUR = 3_600_000
START = 1_704_067_200_000
HOURS = 168 + 5 * 24
FIRST = START + 168 * HOUR
NAMES = ["a", "b", "c"]


def usage() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    return np.round(rng.gamma(2.0, 3.0, (HOURS, len(NAMES))), 3)


USED = usage()


def pieces(hour: int) -> Pieces:
    """The readings of the hour that ends `hour` hours after START."""
    n = len(NAMES)
    return Pieces(
        [(name, "1-0:1.8.0", "default", 1) for name in NAMES],
        np.arange(n),
        np.full(n, START + hour * HOUR),
        USED[hour - 1],
        np.full(n, HOUR),
        np.zeros(n, np.int64),
        np.zeros(n, np.int8),
    )


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("serving")
    registry = Registry(folder / "registry", PUBLIC)
    return [registry.register(trained(folder / f"{f}", f), KEY) for f in (1.5, 2.0, 3.0)]


def said(version: Any, announced: int, hour: int, alias: str = CHAMPION, reason: str = "") -> Announcement:
    return Announcement(announced, START + hour * HOUR, version.version, version.sha256, alias, version.uri, reason)


def models() -> Models:
    return Models(forecaster(), "forecaster", PUBLIC)


def play(
    server: Server, announcements: dict[int, list[Announcement]], restarts: set[int] = frozenset(), hours: int = HOURS
) -> tuple[dict[int, dict[str, str]], list[dict[str, Any]], dict[int, np.ndarray[Any, Any]], Server]:
    """Hour by hour: roles and models of each issue, reports, the champion's forecasts, the server at the end."""
    shard = Shard()
    roles, reports, issued, stored = {}, [], {}, (b"", {})
    for hour in range(1, hours + 1):
        server.announce(announcements.get(hour, []))
        shard.apply(pieces(hour))
        reports += server.learn(shard, START + hour * HOUR)
        for due in shard.due(START + hour * HOUR):
            found = server.issue(due)
            roles[hour] = {each.role: each.model.model_id for each in found}
            issued[hour] = found[0].kwh
        if server.changed:
            days = {**stored[1], **{number: server.days[number].to_bytes() for number in server.added}}
            stored = (server.header(), {number: day for number, day in days.items() if number not in server.removed})
            server.clean()
        if hour in restarts:
            assert stored[0]
            server = Server.restore(models(), *stored, int(shard.issued_ms.max()))
    return roles, reports, issued, server


def test_the_champion_of_the_time_of_issue_scores_each_window_once(versions: list[Any]) -> None:
    plan = {1: [said(versions[0], 1, 200), said(versions[1], 2, 230)]}
    roles, *_ = play(Server(models()), plan)
    assert set(roles) == set(range(168, HOURS + 1))
    for hour, found in roles.items():
        wanted = "test-1.0-0.3" if hour < 200 else "test-1.5-0.3" if hour < 230 else "test-2.0-0.3"
        assert found[CHAMPION] == wanted, hour
        before = {200: "test-1.0-0.3", 230: "test-1.5-0.3"}.get(200 if hour < 230 else 230) if hour >= 200 else None
        assert found.get(PREVIOUS) == before
        assert CHALLENGER not in found


def test_a_challenger_is_scored_beside_until_it_is_champion_or_withdrawn(versions: list[Any]) -> None:
    named = said(versions[0], 1, 180, CHALLENGER)
    plan = {1: [named], 250: [replace(named, announced_ms=3, effective_ms=START + 260 * HOUR, withdrawn=True)]}
    roles, reports, _, server = play(Server(models()), plan)
    assert {hour for hour, found in roles.items() if CHALLENGER in found} == set(range(180, 260))
    assert {role for report in reports for role in report["roles"]} == {CHAMPION, CHALLENGER}
    roles, *_ = play(Server(models()), {1: [named, said(versions[0], 2, 220)]})
    assert {hour for hour, found in roles.items() if CHALLENGER in found} == set(range(180, 220))
    assert roles[220] == {CHAMPION: "test-1.5-0.3", PREVIOUS: "test-1.0-0.3"}
    assert server.calibrations[versions[0].sha256].days.max() > 0, "it has learnt before it serves"


def test_what_comes_late_counts_from_the_next_issue(versions: list[Any]) -> None:
    server = Server(models())
    roles, _, _, server = play(server, {200: [said(versions[0], 1, 180)]})
    champions = {hour: found[CHAMPION] for hour, found in roles.items()}
    assert {hour for hour, name in champions.items() if name == "test-1.5-0.3"} == set(range(200, HOURS + 1))
    assert list(server.pinned.since.values()) == [START + 199 * HOUR + 1]


@pytest.mark.parametrize("alias", [CHAMPION, CHALLENGER])
def test_one_that_is_refused_never_serves(versions: list[Any], alias: str) -> None:
    bad = replace(said(versions[0], 1, 180, alias), sha256="0" * 64)
    roles, _, _, server = play(Server(models()), {1: [bad]})
    assert all(found == {CHAMPION: "test-1.0-0.3"} for found in roles.values())
    assert list(server.models.refused) == [bad]


def test_one_that_is_away_serves_from_when_it_is_there(versions: list[Any], tmp_path: Path) -> None:
    now = [0.0]
    folder = Path(versions[0].folder)
    folder.rename(tmp_path / "away")
    server = Server(Models(forecaster(), "forecaster", PUBLIC, clock=lambda: now[0]))
    try:
        *_, server = play(server, {1: [said(versions[0], 1, 180)]}, hours=190)
    finally:
        (tmp_path / "away").rename(folder)
    assert list(server.pinned.since.values()) == [START + 190 * HOUR + 1]
    now[0] = 100.0
    assert server._role(CHAMPION, START + 191 * HOUR)[1].model_id == "test-1.5-0.3"


def test_a_restart_at_any_time_gives_the_same_forecasts_and_reports(versions: list[Any]) -> None:
    plan = {
        1: [said(versions[0], 1, 200), said(versions[2], 2, 190, CHALLENGER)],
        240: [said(versions[1], 3, 210)],
    }
    roles, reports, issued, server = play(Server(models()), plan)
    again = play(Server(models()), plan, restarts=set(range(168, HOURS, 7)))
    assert again[0] == roles
    assert again[1] == reports
    assert issued.keys() == again[2].keys()
    assert all((issued[hour] == again[2][hour]).all() for hour in issued)
    assert again[3].header() == server.header()


def test_bands_are_corrected_once_a_day_is_over_and_medians_never(versions: list[Any]) -> None:
    _, reports, issued, server = play(Server(models()), {})
    shard, raw = Shard(), {}
    for hour in range(1, HOURS + 1):
        shard.apply(pieces(hour))
        for due in shard.due(START + hour * HOUR):
            raw[hour] = forecaster().predict(due.history, due.issued_at_ms, due.step_s)
    for hour, kwh in issued.items():
        assert (kwh[:, 4] == raw[hour][:, 4]).all()
        assert (kwh == raw[hour]).all() == (hour < 168 + 24), hour
    begins = [report["issued"] for report in reports]
    assert begins == [FIRST + n * DAY_MS for n in range(len(begins))]
    assert [report["at"] - report["issued"] for report in reports] == [24 * HOUR] * len(begins)
    assert server.calibrations[forecaster().sha256].days.tolist() == [len(begins)] * 3


def test_the_watch_ends(versions: list[Any]) -> None:
    server = Server(models())
    late = said(versions[0], 1, 1)
    server.announce([late])
    assert server._previous(late, late.effective_ms + WATCH_MS - 1) is not None
    assert server._previous(late, late.effective_ms + WATCH_MS) is None


def test_state_of_another_version_is_refused() -> None:
    header = Server(models()).header().replace(b'"version":1', b'"version":9')
    with pytest.raises(ValueError, match="version 9"):
        Server.restore(models(), header, {}, 0)


finite = st.floats(-1e6, 1e6, width=32)


@given(arrays(np.float32, (2, 9, 24), elements=finite), st.integers(0, 2**40))
@example(np.full((2, 9, 24), 1e-45, np.float32), 0)
@settings(max_examples=50)
def test_a_day_comes_back_bit_by_bit_and_is_near_what_was_issued(raw: np.ndarray, at: int) -> None:
    day = OpenDay.of(at, 3600, np.array([4, 7]), np.array([1.5, 0.0]), {"s": raw, "t": raw * 2}, {"x": [1]})
    again = OpenDay.from_bytes(day.to_bytes())
    assert (again.issued_ms, again.step_s, again.about) == (at, 3600, {"x": [1]})
    assert again.meters.tolist() == [4, 7]
    assert again.level.tobytes() == day.level.tobytes()
    for name, values in day.raw.items():
        assert again.raw[name].tobytes() == values.tobytes()
    assert again.to_bytes() == day.to_bytes()
    bound = np.abs(raw).max(axis=(1, 2), keepdims=True) / 32_767
    assert (np.abs(day.raw["s"] - raw) <= bound).all()
