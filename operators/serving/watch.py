"""Whether the new champion is worse than the one before it: one comparison over all shards, in event time. Pure.

Shards report each day that is over (`Server.learn`). Reports of one hour of event time are taken together, sorted, so
that the decision does not depend on the order in which the shards' reports came. It is made once a champion: when at
least `Policy.windows` meter-days were scored by both, and the new one's quantile loss is more than `Policy.margin`
above the other's, and it was the worse one on most of the meter-days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import orjson

from operators.serving import drift
from operators.serving.errors import ErrorSums
from operators.serving.plan import CHAMPION, PREVIOUS, ROLLBACK, Announcement

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
REFERENCE_DAYS = 14
"""Days of the stream that are the reference of a model that has none."""


@dataclass(frozen=True)
class Policy:
    """When a champion is taken back."""

    model_name: str
    margin: float = 0.10
    windows: int = 50
    """Meter-days."""
    lead_ms: int = HOUR_MS
    """How long after the decision, in event time, the rollback takes effect: by then all subtasks know of it."""


@dataclass
class Trial:
    """One new champion beside the one before."""

    champion: ErrorSums = field(default_factory=ErrorSums)
    previous: ErrorSums = field(default_factory=ErrorSums)
    worse: int = 0
    decided: bool = False

    def ratio(self) -> float:
        """Quantile loss of the new over that of the other; 1 where neither made an error."""
        other = self.previous.loss()
        return self.champion.loss() / other if other > 0 else 1.0

    def fails(self, policy: Policy) -> bool:
        """Whether it is to be taken back."""
        enough = self.champion.days >= policy.windows
        return enough and self.ratio() > 1 + policy.margin and self.worse > self.champion.days / 2


@dataclass(frozen=True)
class Found:
    """What a look at the reports of some hours gave: rows for the database, and perhaps a rollback."""

    errors: list[dict[str, Any]] = field(default_factory=list)
    """Rows of `model_error`: sums over the shards by model, role, day of issue and step."""
    drifts: list[dict[str, Any]] = field(default_factory=list)
    """Rows of `model_drift`."""
    rollback: Announcement | None = None
    plan: tuple[Announcement, ...] = ()
    """Of the rollback's message."""


@dataclass
class Watch:
    """What has been seen so far, of all shards."""

    policy: Policy
    trials: dict[str, Trial] = field(default_factory=dict)
    """By the champion's announcement."""
    latest: dict[str, ErrorSums] = field(default_factory=dict)
    """By role: the newest hour that had reports."""
    seen: dict[str, drift.Counts] = field(default_factory=dict)
    """Inputs of the running day, by the model's SHA-256."""
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By SHA-256, of models without one of their own: counts, and how many days they are of."""
    psi: dict[str, float] = field(default_factory=dict)
    """By figure: of the last day that is over."""
    day: int = -1
    """Number of the running day, UTC."""

    def look(self, reports: Iterable[Mapping[str, Any]], now_ms: int) -> Found:
        """Takes the reports of the time up to `now_ms` in.

        Args:
            reports: as `Server.learn` gives them, in any order.
            now_ms: event time that has passed, epoch ms.
        """
        rows = sorted(reports, key=lambda row: orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
        drifts = self._next_day(now_ms)
        rollback: Announcement | None = None
        plan: tuple[Announcement, ...] = ()
        for row in rows:
            champion = row["roles"][CHAMPION]
            self.seen[champion["sha256"]] = drift.added(self.seen.get(champion["sha256"], {}), row["drift"])
            own = drift.read_reference(champion["reference"])
            first = {"own": own, "counts": {}, "days": 0, "model": champion["model_id"]}
            self.references.setdefault(champion["sha256"], first)
        if rows:
            roles = sorted({role for row in rows for role in row["roles"]})
            self.latest = {
                role: ErrorSums.total(_errors(row, role) for row in rows if role in row["roles"]) for role in roles
            }
        for key in sorted({_trial(row) for row in rows if PREVIOUS in row["roles"]}):
            mine = [row for row in rows if PREVIOUS in row["roles"] and _trial(row) == key]
            made = self._judge(key, mine, now_ms)
            if made is not None:
                rollback = made
                plan = (*(Announcement.of(each) for row in mine for each in row["plan"]), made)
        return Found(_rows(rows), drifts, rollback, tuple(sorted(set(plan))))

    def _judge(self, key: str, rows: list[Mapping[str, Any]], now_ms: int) -> Announcement | None:
        trial = self.trials.setdefault(key, Trial())
        trial.champion = trial.champion.plus(ErrorSums.total(_errors(row, CHAMPION) for row in rows))
        trial.previous = trial.previous.plus(ErrorSums.total(_errors(row, PREVIOUS) for row in rows))
        trial.worse += sum(row["roles"][PREVIOUS]["worse"] for row in rows)
        if trial.decided or not trial.fails(self.policy):
            return None
        trial.decided = True
        known = [Announcement.of(each) for row in rows for each in row["plan"]]
        bad = Announcement.of(rows[0]["roles"][CHAMPION]["announced"])
        if bad != max(each for each in known if each.alias == CHAMPION):
            return None  # somebody has announced another one since
        before = rows[0]["roles"][PREVIOUS]
        back = Announcement.of(before["announced"]) if before["announced"] else None
        return Announcement(
            max(each.announced_ms for each in known) + 1,
            -(-(now_ms + self.policy.lead_ms) // HOUR_MS) * HOUR_MS,
            back.version if back else 0,
            before["sha256"],
            CHAMPION,
            back.uri if back else "",
            f"{ROLLBACK}: version {bad.version} had {trial.ratio():.3f} of the quantile loss of the model before it "
            f"over {trial.champion.days} meter-days (allowed: {1 + self.policy.margin:.3f})",
        )

    def _next_day(self, now_ms: int) -> list[dict[str, Any]]:
        """Rows of the days that have ended, one a model and figure."""
        day = (now_ms - 1) // DAY_MS
        if day == self.day:
            return []
        ended, self.day = self.day, day
        rows = []
        for sha, seen in sorted(self.seen.items()):
            reference = self.references[sha]
            shares = reference["own"] or (drift.shares(reference["counts"]) if reference["counts"] else {})
            for name in shares:
                self.psi[name] = drift.psi(shares[name], seen[name])
                rows.append(
                    {
                        "model_id": reference["model"],
                        "model_sha256": sha,
                        "day_ms": ended * DAY_MS,
                        "figure": name,
                        "psi": self.psi[name],
                        "meters": sum(seen[name]),
                        "reference": "training" if reference["own"] else "first days",
                    }
                )
            if reference["days"] < REFERENCE_DAYS:
                reference["counts"] = drift.added(reference["counts"], seen)
                reference["days"] += 1
        self.seen = {}
        return rows

    # --- state out and in -----------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """For a checkpoint."""
        return orjson.dumps(
            {
                "trials": {
                    key: [trial.champion.to_json(), trial.previous.to_json(), trial.worse, trial.decided]
                    for key, trial in self.trials.items()
                },
                "latest": {role: sums.to_json() for role, sums in self.latest.items()},
                "seen": self.seen,
                "references": self.references,
                "psi": self.psi,
                "day": self.day,
            }
        )

    @classmethod
    def from_bytes(cls, policy: Policy, content: bytes) -> Self:
        """What `to_bytes` wrote."""
        found = orjson.loads(content)
        trials = {
            key: Trial(ErrorSums(**champion), ErrorSums(**previous), worse, decided)
            for key, (champion, previous, worse, decided) in found["trials"].items()
        }
        latest = {role: ErrorSums(**sums) for role, sums in found["latest"].items()}
        return cls(policy, trials, latest, found["seen"], found["references"], found["psi"], found["day"])


def _trial(row: Mapping[str, Any]) -> str:
    """Of which champion's trial a report is."""
    return orjson.dumps(row["roles"][CHAMPION]["announced"], option=orjson.OPT_SORT_KEYS).decode()


def _errors(row: Mapping[str, Any], role: str) -> ErrorSums:
    return ErrorSums(**row["roles"][role]["errors"])


def _rows(reports: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The reports added up over the shards."""
    groups: dict[tuple[Any, ...], list[ErrorSums]] = {}
    for row in reports:
        for role, about in row["roles"].items():
            version = about["announced"]["version"] if about["announced"] else None
            key = (row["issued"], row["at"], row["step_s"], role, about["model_id"], about["sha256"], version)
            groups.setdefault(key, []).append(_errors(row, role))
    names = ("issued_ms", "known_ms", "step_s", "role", "model_id", "model_sha256", "version")
    return [
        {**dict(zip(names, key, strict=True)), **ErrorSums.total(parts).to_json()}
        for key, parts in sorted(groups.items(), key=lambda item: str(item[0]))
    ]
