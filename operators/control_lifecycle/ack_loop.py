"""Who answered what: re-issue, exclusion, alerts, measured against commanded. One instance a site.

Events are kept until the watermark has passed them and then taken in the order of their times, so that neither arrival
order nor repeats change anything. Timers are event time too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from operators.control_lifecycle.alerts import Alerts
from operators.control_lifecycle.times import iso, parse_ts_ms, step_end_ms
from operators.control_lifecycle.tracking import Tracking, TrackingOptions

Action = dict[str, Any]
STATUSES = ("ACCEPTED", "REJECTED", "STARTED", "SUCCEEDED", "ABORTED")
MAX_EXCLUSION_MS = 86_400_000
EARLY_MS = 60_000
"""How far a device's clock may be behind: an answer may seem to come that much before its setpoint."""
_ORDER = {"setpoint": 0, "ack": 1, "measured": 2}


@dataclass(frozen=True)
class AckOptions:
    """Deadlines in s of event time."""

    ack_timeout_s: float = 15.0
    max_reissues: int = 2
    """An asset that answered none of one setpoint more than that is excluded, and an alert fires."""
    exclusion_s: float = 900.0
    tracking: TrackingOptions = field(default_factory=TrackingOptions)


class AckLoop:
    """Reads setpoints (as sent), acknowledgements and measurements; says what to do about them.

    Actions of `advance`, in order:
        `{"action": "reissue", "setpoint": {…}}`: put it on `control.setpoints`; it supersedes the unanswered one.
        `{"action": "exclude", "asset_id", "until", "reason"}` and `{"action": "replan", "site_id", "reason"}`.
        `{"action": "deviation", "asset_id", "setpoint_id", "commanded_w", "measured_w", "ts"}`.
        `{"action": "alert", "alert": {…}}`: of the contract's `alerts`, firing or resolved.
    """

    def __init__(self, options: AckOptions | None = None, state: Mapping[str, Any] | None = None) -> None:
        self.options = options or AckOptions()
        saved: dict[str, Any] = json.loads(json.dumps(dict(state or {})))
        self._now: int = saved.get("now", -(2**53))
        self._waiting: dict[str, dict[str, Any]] = saved.get("waiting", {})
        self._open: dict[str, dict[str, Any]] = saved.get("open", {})
        self._excluded: dict[str, int] = saved.get("excluded", {})
        self._silent: dict[str, int] = saved.get("silent", {})
        self._early: dict[str, list[dict[str, Any]]] = saved.get("early", {})
        self._alerts = Alerts(saved.get("firing", {}))
        self._tracking = Tracking(self.options.tracking, saved.get("strays", {}))
        self.refused = 0
        """Events that were no valid setpoint, acknowledgement or measurement."""

    def state(self) -> dict[str, Any]:
        """Everything that decides, as JSON; `AckLoop(options, state)` goes on from it."""
        parts = {
            "waiting": self._waiting,
            "open": self._open,
            "excluded": self._excluded,
            "silent": self._silent,
            "early": self._early,
            "firing": self._alerts.firing,
            "strays": self._tracking.strays,
        }
        state: dict[str, Any] = json.loads(json.dumps(parts, sort_keys=True))
        return state | {"now": self._now}

    def setpoint(self, setpoint: Mapping[str, Any]) -> bool:
        """One that was sent (contract JSON). `shadow` ones wait for nobody. False when it is not usable."""

        def check(fields: Mapping[str, Any]) -> int:
            begin = parse_ts_ms(fields["execution_time"])
            _texts(fields, "setpoint_id", "asset_id", "type", "mode")
            _finite(fields["value_w"], fields["ttl_s"], fields.get("duration_s") or 0)
            return parse_ts_ms(fields["issued_at"]) if fields.get("issued_at") is not None else begin

        return self._add("setpoint", setpoint, check)

    def ack(self, ack: Mapping[str, Any]) -> bool:
        """A message of `control.acks`. False when it is not usable."""

        def check(fields: Mapping[str, Any]) -> int:
            _texts(fields, "setpoint_id", "asset_id")
            if fields["status"] not in STATUSES:
                raise ValueError("status")
            if fields.get("measured_w") is not None:
                _finite(fields["measured_w"])
            if fields.get("retry_at") is not None:
                parse_ts_ms(fields["retry_at"])
            return parse_ts_ms(fields["ts"])

        return self._add("ack", ack, check)

    def measured(self, asset_id: str, ts: Any, measured_w: float) -> bool:
        """An asset's own power (W) at a time. False when it is not usable."""

        def check(fields: Mapping[str, Any]) -> int:
            _texts(fields, "asset_id")
            _finite(fields["measured_w"])
            return parse_ts_ms(fields["ts"])

        return self._add("measured", {"asset_id": asset_id, "ts": ts, "measured_w": measured_w}, check)

    def advance(self, watermark_ms: int) -> list[Action]:
        """What to do about all that happened up to the watermark (ms UTC), in order of event time."""
        actions: list[Action] = []
        take = {"setpoint": self._on_setpoint, "ack": self._on_ack, "measured": self._on_measured}
        due = sorted((e["at"], _ORDER[e["kind"]], key) for key, e in self._waiting.items() if e["at"] <= watermark_ms)
        for at, _, key in due:
            actions += self._timers(at)
            event = self._waiting.pop(key)
            self._now = max(self._now, at)
            actions += take[event["kind"]](event["fields"])
        actions += self._timers(watermark_ms)
        self._now = max(self._now, watermark_ms)
        return actions

    def excluded(self, now_ms: int | None = None) -> dict[str, int]:
        """Assets to plan without, and until when (ms UTC)."""
        now = self._now if now_ms is None else now_ms
        return {asset: until for asset, until in sorted(self._excluded.items()) if until > now}

    def _add(self, kind: str, fields: Mapping[str, Any], check: Callable[[Mapping[str, Any]], int]) -> bool:
        try:
            at = check(fields)
            content = json.dumps(dict(fields), sort_keys=True, allow_nan=False)
        except (KeyError, TypeError, ValueError, OverflowError):
            self.refused += 1
            return False
        # A late setpoint or answer still counts, now; what was measured earlier says nothing about now.
        if kind == "measured" and at < self._now:
            return True
        # Its content is its name: a repeat is the same entry.
        self._waiting[f"{kind}:{content}"] = {"kind": kind, "at": max(at, self._now), "fields": json.loads(content)}
        return True

    def _timers(self, now_ms: int) -> Iterator[Action]:
        """Deadlines up to `now_ms`, earliest first: a re-issue starts a new one."""
        while True:
            open_ = [(o["deadline"], n) for n, o in self._open.items() if not o["acks"] and o["deadline"] is not None]
            if not open_ or min(open_)[0] > now_ms:
                break
            deadline, name = min(open_)
            self._now = max(self._now, deadline)
            yield from self._unanswered(self._open[name])
        for asset in [a for a, until in sorted(self._excluded.items()) if until <= now_ms]:
            del self._excluded[asset]
        for name, acks in list(self._early.items()):
            kept = [ack for ack in acks if now_ms <= parse_ts_ms(ack["ts"]) + EARLY_MS]
            self._early[name] = kept
            if not kept:
                del self._early[name]
        for name in [n for n, o in self._open.items() if (o["acks"] or o["deadline"] is None) and o["end"] <= now_ms]:
            del self._open[name]

    def _on_setpoint(self, setpoint: dict[str, Any]) -> list[Action]:
        name = setpoint["setpoint_id"]
        if setpoint["mode"] != "live" or name in self._open:
            return []
        self._track(setpoint, root=name, tries=0)
        return [action for ack in self._early.pop(name, []) for action in self._on_ack(ack)]

    def _track(self, setpoint: dict[str, Any], root: str, tries: int) -> None:
        end = parse_ts_ms(setpoint["execution_time"]) + round(float(setpoint["ttl_s"]) * 1000)
        if end <= self._now:
            return
        self._open[setpoint["setpoint_id"]] = {
            "setpoint": setpoint,
            "root": root,
            "tries": tries,
            "since": self._now,
            "deadline": self._now + round(self.options.ack_timeout_s * 1000),
            "end": end,
            "acks": [],
            "compared": False,
        }

    def _overtaken(self, entry: Mapping[str, Any]) -> bool:
        """A later one for the same asset and type is due, or one that supersedes it was sent."""
        mine = entry["setpoint"]
        begin = parse_ts_ms(mine["execution_time"])
        for other in (o["setpoint"] for o in self._open.values()):
            if (other["asset_id"], other["type"]) != (mine["asset_id"], mine["type"]):
                continue
            starts = parse_ts_ms(other["execution_time"])
            if other.get("supersedes") == mine["setpoint_id"] or begin < starts <= self._now:
                return True
        return False

    def _unanswered(self, entry: dict[str, Any]) -> Iterator[Action]:
        entry["deadline"] = None
        old = entry["setpoint"]
        step_end = step_end_ms(old)
        silent = self._silent[old["asset_id"]] = self._silent.get(old["asset_id"], 0) + 1
        if silent > self.options.max_reissues:
            detail = f"{silent} setpoints without an answer"
            until = self._now + round(self.options.exclusion_s * 1000)
            yield from self._exclude(old, until, "no_ack")
            yield from self._alerts.fire(
                "AssetDoesNotAnswer", "critical", old, detail, silent, self.options.max_reissues, self._now
            )
        elif not self._overtaken(entry) and (step_end is None or step_end > self._now):
            again = self._renewed(entry, step_end)
            self._track(again, entry["root"], entry["tries"] + 1)
            yield {"action": "reissue", "setpoint": again}

    def _renewed(self, entry: Mapping[str, Any], step_end: int | None) -> dict[str, Any]:
        """The same decision with a lease from now; a step keeps its end."""
        old = entry["setpoint"]
        start = max(self._now, parse_ts_ms(old["execution_time"]))
        return {
            **old,
            "setpoint_id": f"{entry['root']}.{entry['tries'] + 1}",
            "supersedes": old["setpoint_id"],
            "execution_time": iso(start),
            "issued_at": iso(self._now),
            "duration_s": None if step_end is None else (step_end - start) / 1000,
        }

    def _on_ack(self, ack: dict[str, Any]) -> list[Action]:
        entry = self._open.get(ack["setpoint_id"])
        said = parse_ts_ms(ack["ts"])
        if entry is None:
            waiting = self._early.setdefault(ack["setpoint_id"], [])
            if self._now <= said + EARLY_MS and ack not in waiting:
                waiting.append(ack)
            return []
        if entry["setpoint"]["asset_id"] != ack["asset_id"] or ack["status"] in entry["acks"]:
            return []
        if said + EARLY_MS < entry["since"]:
            return []
        entry["acks"].append(ack["status"])
        asset = ack["asset_id"]
        self._silent.pop(asset, None)
        actions = self._alerts.resolve("AssetDoesNotAnswer", asset, self._now)
        # One that was overtaken is refused rightly: no reason to plan without the asset.
        if ack["status"] in ("REJECTED", "ABORTED") and not self._overtaken(entry):
            reason = f"{ack['status'].lower()}: {ack.get('detail') or 'no reason given'}"
            if ack["status"] == "REJECTED":
                actions += self._exclude(entry["setpoint"], self._rejected_until(ack), reason)
            else:
                actions.append(_replan(entry["setpoint"], reason))
        if ack.get("measured_w") is not None and ack["status"] in ("SUCCEEDED", "ABORTED"):
            actions += self._tracking.compare(entry, float(ack["measured_w"]), self._now, self._alerts)
        return actions

    def _rejected_until(self, ack: Mapping[str, Any]) -> int:
        """When the device says, within a day; else the option."""
        if ack.get("retry_at") is None:
            return self._now + round(self.options.exclusion_s * 1000)
        return min(max(parse_ts_ms(ack["retry_at"]), self._now), self._now + MAX_EXCLUSION_MS)

    def _on_measured(self, fields: dict[str, Any]) -> list[Action]:
        running = [
            (parse_ts_ms(o["setpoint"]["execution_time"]), name)
            for name, o in self._open.items()
            if o["setpoint"]["asset_id"] == fields["asset_id"] and o["setpoint"]["type"] == "POWER"
        ]
        begun = [(begin, name) for begin, name in running if begin <= self._now]
        if not begun:
            return []
        return self._tracking.compare(self._open[max(begun)[1]], fields["measured_w"], self._now, self._alerts)

    def _exclude(self, setpoint: Mapping[str, Any], until_ms: int, reason: str) -> list[Action]:
        asset = setpoint["asset_id"]
        self._excluded[asset] = max(until_ms, self._excluded.get(asset, until_ms))
        return [
            {"action": "exclude", "asset_id": asset, "until": iso(self._excluded[asset]), "reason": reason},
            _replan(setpoint, reason),
        ]


def _replan(setpoint: Mapping[str, Any], reason: str) -> Action:
    return {"action": "replan", "site_id": setpoint.get("site_id"), "reason": f"{setpoint['asset_id']} {reason}"}


def _texts(fields: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if not isinstance(fields[name], str) or not fields[name]:
            raise ValueError(name)


def _finite(*values: Any) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(repr(value))
