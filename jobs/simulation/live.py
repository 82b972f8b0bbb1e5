"""A site in real time on Kafka: its meters tell, its devices obey leases. What a test and a demonstration are run
against.

The building's load comes from a function of time, so from real meters as well as from a formula; PV counts negative.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from jobs.device import AssetSpec, DeviceClient, LeaseKeeper, Now
from jobs.device.kafka_link import KafkaLink
from jobs.device.setpoint import iso
from jobs.device.simulated import Plant, SimulatedBattery, SimulatedDriver, SimulatedEv, SimulatedLoad

REGISTER = "1-0:1.8.0"
EXPORT = "1-0:2.8.0"


class LiveSite:
    """Runs until `close`; a context manager.

    Args:
        kafka: bootstrap servers.
        site: as the topic `sites` has it; two meters, that of the connection and one of the load without the
        devices, are
            named in its `settings.grid_meters` and `settings.load_meters`.
        load_kw: the building without its devices at a time (epoch ms UTC), kW; negative when the sun gives more.
        prefix: before each topic's name.
        reading_s: how often the meters tell, s.
        report_s: how often the devices tell, s.
    """

    def __init__(
        self,
        kafka: str,
        site: Mapping[str, Any],
        load_kw: Callable[[int], float],
        *,
        prefix: str = "",
        reading_s: float = 5.0,
        report_s: float = 2.0,
    ) -> None:
        from kafka import KafkaProducer

        self._load_kw = load_kw
        self._topic = prefix + "meter.readings"
        self._reading_s = reading_s
        settings = site["settings"]
        self._meters = str(settings["grid_meters"][0]), str(settings["load_meters"][0])
        self._counters = {(meter, register): 1000.0 for meter in self._meters for register in (REGISTER, EXPORT)}
        self._producer = KafkaProducer(bootstrap_servers=kafka.split(","), acks="all", linger_ms=5)
        self._link = KafkaLink(
            kafka, prefix + "control.setpoints", prefix + "control.acks", states=prefix + "control.states"
        )
        self.drivers = {a["asset_id"]: SimulatedDriver(*_device(a)) for a in site["assets"]}
        self._client = DeviceClient(list(self.drivers.values()), self._link, report_s=report_s)
        self.import_kw: list[tuple[int, float]] = []
        """(epoch ms UTC, kW) of each step; negative is export."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-site", daemon=True)
        self._thread.start()

    def __enter__(self) -> LiveSite:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads."""
        self._stop.set()
        self._thread.join(30)
        self._link.close()
        self._producer.close(timeout=5)

    def states(self) -> dict[str, str]:
        """Each device's lease: `init`, `active`, `done` or `failsafe`."""
        return {name: driver.keeper.power.state for name, driver in self.drivers.items()}

    def _run(self) -> None:
        last, told = Now.read(), float("-inf")
        while not self._stop.wait(0.25):
            self._client.tick()
            now = Now.read()
            load = self._load_kw(now.wall_ms)
            devices = sum(driver.measured_w() or 0.0 for driver in self.drivers.values()) / 1000
            hours = (now.mono_s - last.mono_s) / 3600
            for meter, kw in zip(self._meters, (load + devices, load), strict=True):
                self._counters[meter, REGISTER] += max(kw, 0.0) * hours
                self._counters[meter, EXPORT] += max(-kw, 0.0) * hours
            self.import_kw.append((now.wall_ms, load + devices))
            last = now
            if now.mono_s - told >= self._reading_s:
                told = now.mono_s
                self._tell(now.wall_ms)

    def _tell(self, wall_ms: int) -> None:
        for (meter, register), kwh in self._counters.items():
            reading = {
                "meter_id": meter, "register": register, "kind": "register", "value": round(kwh, 6), "unit": "kWh",
                "ts": iso(wall_ms),
            }  # fmt: skip
            self._producer.send(self._topic, json.dumps(reading).encode(), meter.encode())


def _device(asset: Mapping[str, Any]) -> tuple[LeaseKeeper, Plant]:
    spec = AssetSpec.of(asset)
    plants: dict[str, Callable[[], Plant]] = {
        "battery": lambda: SimulatedBattery(spec, spec.capacity_wh / 2),
        "ev": lambda: SimulatedEv(spec, 0.0),
        "flexible_load": lambda: SimulatedLoad(spec),
    }
    return LeaseKeeper(spec), plants[spec.type]()
