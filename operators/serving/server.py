"""The models of one shard: who scores a forecast, what is learnt when its day is over. Pure; state goes out as bytes.

Which model scores is a function of the time of issue and of the announcements as this shard has recorded them. So a
restart, a replay or another parallelism gives the same forecasts. Calibration is kept by model: one that was a
challenger has learnt already when it is promoted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from operators import calibration
from operators.calibration import Calibration
from operators.energy import NEVER
from operators.forecaster import Forecaster
from operators.serving import drift
from operators.serving.artifacts import Models
from operators.serving.errors import day_errors
from operators.serving.open_days import DAY_MS, OpenDay
from operators.serving.plan import CHALLENGER, CHAMPION, PREVIOUS, Announcement, Pinned
from operators.shard import Due, Shard

WATCH_MS = 14 * 86_400_000
"""How long after a swap the champion before is scored beside the new one."""
FOREVER = 1 << 62
WeatherOf = Callable[[Due], NDArray[np.float32]]
"""Forecasts that are due, to what is known of the weather at their time of issue (`operators.weather`)."""
_VERSION = 1


@dataclass(frozen=True)
class Scored:
    """What one model makes of a set of forecasts that are due."""

    role: str
    """champion, challenger or previous."""
    model: Forecaster
    announced: Announcement | None
    """None: the model that the job brought along."""
    raw: NDArray[np.float32]
    """[m, 9, steps] kWh as the model gave them."""
    kwh: NDArray[np.float32]
    """[m, 9, steps] kWh, calibrated meter by meter."""


@dataclass
class Server:
    """Models, calibrations and open days of one shard."""

    models: Models
    pinned: Pinned = field(default_factory=Pinned.none)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    """By the model's SHA-256."""
    taken_ms: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """By meter: the issue with which its newest day began."""
    issued_ms: int = NEVER
    """The newest forecast of the shard; the shard's own state has it after a restart."""
    days: dict[int, OpenDay] = field(default_factory=dict)
    """By `number`."""
    added: set[int] = field(default_factory=set)
    """Numbers of days that are new since `clean`."""
    removed: set[int] = field(default_factory=set)
    changed: bool = False
    """Whether `header` is another one since `clean`."""

    # --- announcements --------------------------------------------------------------------------------------------

    def announce(self, announcements: Iterable[Announcement]) -> int:
        """Takes announcements in, in any order and repeated or not; how many came too late for their time."""
        before, self.pinned = self.pinned, self.pinned.taking(announcements, self.issued_ms)
        if self.pinned is before:
            return 0
        self.changed = True
        fresh = [each for each in self.pinned.since if each not in before.since]
        for each in fresh:
            if not each.withdrawn and each.effective_ms > self.issued_ms:
                self.models.of(each)  # fetched before it is needed
        return sum(self.pinned.since[each] > each.effective_ms for each in fresh) if self.issued_ms != NEVER else 0

    def _role(self, alias: str, at_ms: int) -> tuple[Announcement | None, Forecaster] | None:
        """Who has a role at a time. What cannot be had by then begins later, or never, and that is recorded."""
        while True:
            found = self.pinned.serving(alias, at_ms)
            if found is None:
                return (None, self.models.base) if alias == CHAMPION else None
            model = self.models.of(found)
            if model is not None:
                return found, model
            since = FOREVER if found in self.models.refused else at_ms + 1
            self.pinned = Pinned({**self.pinned.since, found: since})
            self.changed = True

    # --- forecasts ------------------------------------------------------------------------------------------------

    def champion(self, at_ms: int) -> Forecaster:
        """Who serves at a time; announcements that come later for earlier times do not change it."""
        return self._champion(at_ms)[1]

    def issue(self, due: Due, weather: WeatherOf | None = None) -> list[Scored]:
        """The forecasts that are due, by the champion, and by who is scored beside it.

        Args:
            due: what is to be forecast.
            weather: says what is known of the weather, asked only for models that read it; None: nothing is.
        """
        at = due.issued_at_ms
        champion = self._champion(at)
        asked = [(CHAMPION, *champion)]
        if (previous := self._previous(champion[0], at)) is not None:
            asked.append((PREVIOUS, *previous))
        if (challenger := self._role(CHALLENGER, at)) is not None:
            asked.append((CHALLENGER, *challenger))
        scored: list[Scored] = []
        for role, announced, model in asked:
            if model.sha256 not in {each.model.sha256 for each in scored}:
                sky = weather(due) if weather is not None and model.reads_weather else None
                raw = model.predict(due.history, at, due.step_s, zones=due.zone, weather=sky)
                state = self._calibration(model.sha256, due.row)
                scored.append(Scored(role, model, announced, raw, calibration.apply(raw, state)))
        self._open_day(due, scored)
        return scored

    def _champion(self, at_ms: int) -> tuple[Announcement | None, Forecaster]:
        champion = self._role(CHAMPION, at_ms)
        assert champion is not None, "the job's own model is always there"
        self.issued_ms = max(self.issued_ms, at_ms)
        return champion

    def _previous(self, champion: Announcement | None, at_ms: int) -> tuple[Announcement | None, Forecaster] | None:
        if champion is None or at_ms >= self.pinned.since[champion] + WATCH_MS:
            return None
        compared, previous = self.pinned.before(champion)
        model = self.models.of(previous) if compared else None
        return None if model is None else (previous, model)

    def _calibration(self, sha: str, meters: NDArray[np.int64]) -> Calibration:
        state = self.calibrations.get(sha, Calibration.empty(0))
        wanted = int(meters.max(initial=-1)) + 1
        return (state.grown(wanted) if wanted > len(state.days) else state).take(meters)

    def _open_day(self, due: Due, scored: list[Scored]) -> None:
        """Keeps what was issued for the meters whose last day is over."""
        more = int(due.row.max(initial=-1)) + 1 - len(self.taken_ms)
        if more > 0:
            self.taken_ms = np.concatenate([self.taken_ms, np.full(more, NEVER)])
        last = self.taken_ms[due.row]
        new = (last == NEVER) | (due.issued_at_ms - last >= DAY_MS)
        if not new.any():
            return
        self.taken_ms[due.row[new]] = due.issued_at_ms
        history = due.history[new]
        known = np.isfinite(history)
        level = np.where(known, np.abs(history), 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        about = {
            "roles": {
                each.role: {
                    "sha256": each.model.sha256,
                    "model_id": each.model.model_id,
                    "reference": each.model.reference,
                    "announced": None if each.announced is None else each.announced.fields(),
                }
                for each in scored
            },
            "drift": drift.counts(history),
        }
        raw = {each.model.sha256: each.raw[new] for each in scored}
        number = number_of(due.issued_at_ms, due.step_s)
        self.days[number] = OpenDay.of(due.issued_at_ms, due.step_s, due.row[new], level, raw, about)
        self.added.add(number)
        self.removed.discard(number)
        self.changed = True

    # --- what came ------------------------------------------------------------------------------------------------

    def learn(self, shard: Shard, now_ms: int) -> Iterator[dict[str, Any]]:
        """Learns from the days that are over at `now_ms`; of each, what `operators.serving.watch` wants to know."""
        for number in sorted(number for number, day in self.days.items() if day.end_ms <= now_ms):
            day = self.days.pop(number)
            self.removed.add(number)
            self.added.discard(number)
            self.changed = True
            actual = shard.actual(day.meters, day.issued_ms, day.step_s)
            yield self._learn(day, actual, now_ms)

    def _learn(self, day: OpenDay, actual: NDArray[np.float64], now_ms: int) -> dict[str, Any]:
        wanted = int(day.meters.max(initial=-1)) + 1
        for sha, quantiles in day.raw.items():
            state = self.calibrations.get(sha, Calibration.empty(0))
            if wanted > len(state.days):
                state = state.grown(wanted)
            moved = calibration.update(state.take(day.meters), quantiles, actual)
            self.calibrations[sha] = state.put(day.meters, moved)
        errors = {sha: day_errors(quantiles, actual, day.level) for sha, quantiles in day.raw.items()}
        roles = {
            role: {**about, "errors": errors[about["sha256"]].sums().to_json()}
            for role, about in day.about["roles"].items()
        }
        champion = errors[roles[CHAMPION]["sha256"]]
        for role, about in roles.items():
            other = errors[about["sha256"]]
            # In how many of the meters' days the champion lost more than the one beside it.
            worse = champion.counts & (champion.pinball > other.pinball)
            roles[role] = {**about, "worse": int(worse.sum())}
        return {
            "at": now_ms,
            "issued": day.issued_ms,
            "step_s": day.step_s,
            "roles": roles,
            "drift": day.about["drift"],
            "plan": [each.fields() for each, since in self.pinned.since.items() if since < FOREVER],
        }

    # --- state out and in -----------------------------------------------------------------------------------------

    def clean(self) -> None:
        """All that has changed is stored."""
        self.added, self.removed, self.changed = set(), set(), False

    def header(self) -> bytes:
        """Everything but the open days."""
        self._forget()
        head = orjson.dumps(
            {
                "version": _VERSION,
                "pinned": self.pinned.to_json(),
                "meters": len(self.taken_ms),
                "models": list(self.calibrations),
            }
        )
        blocks = [state.to_bytes() for state in self.calibrations.values()]
        parts = [len(head).to_bytes(4, "little"), head, self.taken_ms.astype("<i8").tobytes()]
        for block in blocks:
            parts += [len(block).to_bytes(4, "little"), block]
        return b"".join(parts)

    def _forget(self) -> None:
        """Drops the calibrations of models that have no role in the plan any more."""
        open_ones = {sha for day in self.days.values() for sha in day.raw}
        wanted = {each.sha256 for each in self.pinned.since} | {self.models.base.sha256} | open_ones
        self.calibrations = {sha: state for sha, state in self.calibrations.items() if sha in wanted}

    @classmethod
    def restore(cls, models: Models, header: bytes, days: dict[int, bytes], issued_ms: int) -> Self:
        """A server as it was when `header` and the days were taken; `issued_ms` is the shard's newest forecast.

        Raises:
            ValueError: the state is of a version that this code does not know.
        """
        at = 4 + int.from_bytes(header[:4], "little")
        head = orjson.loads(header[4:at])
        if head["version"] != _VERSION:
            raise ValueError(f"models' state of version {head['version']}, this code knows {_VERSION}")
        taken = np.frombuffer(header, "<i8", head["meters"], at).astype(np.int64)
        at += taken.nbytes
        calibrations = {}
        for sha in head["models"]:
            size = int.from_bytes(header[at : at + 4], "little")
            calibrations[sha] = Calibration.from_bytes(header[at + 4 : at + 4 + size])
            at += 4 + size
        opened = {number: OpenDay.from_bytes(packed) for number, packed in days.items()}
        return cls(models, Pinned.from_json(head["pinned"]), calibrations, taken, issued_ms, opened)


def number_of(issued_ms: int, step_s: int) -> int:
    """The key of an open day: distinct for hours and quarter hours that begin together."""
    return issued_ms * 2 + (step_s == 3600)
