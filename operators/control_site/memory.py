"""What a controller keeps, in three parts that change at different times: each is written to Flink's state when it
does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from operators.control.guard import Memory as GuardMemory
from operators.control.plan import Plan
from operators.control_lifecycle.ack_loop import AckLoop, AckOptions
from operators.control_lifecycle.issue import Setpoint
from operators.control_site.assets import Devices
from operators.control_site.feeds import MeterForecast
from operators.control_site.live import LiveMeters
from operators.control_site.past import Past

ACKS = AckOptions(ack_timeout_s=30.0)
"""A setpoint is seen by devices when its transaction is committed, some seconds after it is made."""


@dataclass
class Memory:
    """All that decides. `core` changes with every event, `plans` with forecasts and plans, `past` each quarter hour."""

    now_ms: int = 0
    live: LiveMeters = field(default_factory=LiveMeters)
    devices: Devices = field(default_factory=Devices)
    acks: AckLoop = field(default_factory=lambda: AckLoop(ACKS))
    last: dict[str, Setpoint] = field(default_factory=dict)
    """Sent last, by `asset/type`."""
    commands: dict[str, float] = field(default_factory=dict)
    """kW by asset, as sent last."""
    guard: GuardMemory = field(default_factory=GuardMemory)
    closed_ms: int = 0
    """Quarter hours that begin before it are in `past`."""
    replan: bool = True
    firing: dict[str, dict[str, Any]] = field(default_factory=dict)
    demand: dict[str, Any] = field(default_factory=dict)
    """Of the demand guard (`control_site/demand.py`)."""
    forecasts: dict[str, MeterForecast] = field(default_factory=dict)
    plan: Plan | None = None
    plan_id: str = ""
    planned_ms: int = 0
    past: Past = field(default_factory=Past)
    changed: set[str] = field(default_factory=set)
    """Parts that changed since they were last written: `plans`, `past`."""

    def core(self) -> bytes:
        """The part that changes with every event."""
        return _packed(
            {
                "now_ms": self.now_ms,
                "live": self.live.state,
                "devices": self.devices.state,
                "acks": self.acks.state(),
                "last": self.last,
                "commands": self.commands,
                "guard": {"shed": sorted(self.guard.shed), "clear_since_ms": self.guard.clear_since_ms},
                "closed_ms": self.closed_ms,
                "replan": self.replan,
                "firing": self.firing,
                "demand": self.demand,
            }
        )

    def plans(self) -> bytes:
        """Forecasts and the plan in force."""
        forecasts = {name: {**asdict(one), "kw": one.kw.tolist()} for name, one in self.forecasts.items()}
        plan = None
        if self.plan is not None:
            plan = {name: value for name, value in asdict(self.plan).items() if name != "violations"}
            plan |= {
                name: np.asarray(plan[name]).tolist() for name in ("start_ms", "step_s", "curtailed_kw", "import_kw")
            }
            plan["power_kw"] = {name: np.asarray(power).tolist() for name, power in self.plan.power_kw.items()}
        return _packed(
            {"forecasts": forecasts, "plan": plan, "plan_id": self.plan_id, "planned_ms": self.planned_ms}
        )  # fmt: skip

    def rewind(self, now_ms: int) -> None:
        """A clock was ahead, and is right again: what was taken in since then says nothing."""
        known = {name: one for name, one in self.forecasts.items() if one.issued_at_ms <= now_ms}
        fresh = Memory(now_ms=now_ms, firing=self.firing, forecasts=known, past=self.past)
        self.__dict__.update(fresh.__dict__, changed={"plans", "past"})

    @classmethod
    def restored(cls, core: bytes | None, plans: bytes | None, past: bytes | None) -> Memory:
        """What was written; None begins anew."""
        made = cls(past=Past.load(past))
        if core is not None:
            saved: dict[str, Any] = json.loads(core)
            made.live, made.devices = LiveMeters(saved.pop("live")), Devices(saved.pop("devices"))
            made.acks = AckLoop(ACKS, saved.pop("acks"))
            shed = saved.pop("guard")
            made.guard = GuardMemory(frozenset(shed["shed"]), shed["clear_since_ms"])
            for name, value in saved.items():
                setattr(made, name, value)
        if plans is not None:
            saved = json.loads(plans)
            made.forecasts = {
                name: MeterForecast(**{**one, "kw": np.array(one["kw"])}) for name, one in saved["forecasts"].items()
            }
            made.plan = None if saved["plan"] is None else _plan(saved["plan"])
            made.plan_id, made.planned_ms = saved["plan_id"], saved["planned_ms"]
        return made


def _plan(saved: Mapping[str, Any]) -> Plan:
    arrays = {name: np.array(saved[name]) for name in ("step_s", "curtailed_kw", "import_kw")}
    power = {name: np.array(values) for name, values in saved["power_kw"].items()}
    starts = np.array(saved["start_ms"], dtype=np.int64)
    return Plan(**{**saved, **arrays, "start_ms": starts, "power_kw": power, "notes": tuple(saved["notes"])})


def _packed(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
