"""What a process function asks of Flink, in memory: states by name, metrics, timers."""

from __future__ import annotations

from typing import Any


class Value:
    """A ValueState."""

    def __init__(self) -> None:
        self.held: Any = None

    def value(self) -> Any:
        """What was put last; None at first."""
        return self.held

    def update(self, value: Any) -> None:
        """Puts a value."""
        self.held = value


class Map(dict[Any, Any]):
    """A MapState."""

    put = dict.__setitem__

    def items(self) -> Any:
        """Copies: Flink's iterator bears changes, too."""
        return list(dict.items(self))

    def remove(self, key: Any) -> None:
        """Takes an entry out; one that is not there is no error."""
        self.pop(key, None)


class Fake:
    """Runtime context, metric group, counter, timer service and context of an element in one."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.gauges: dict[tuple[str, ...], Any] = {}
        self.counters: dict[tuple[str, ...], Fake] = {}
        self.timers: set[int] = set()
        self.path: tuple[str, ...] = ()
        self.count = 0

    def get_map_state(self, descriptor: Any) -> Any:
        """The state of this name, kept across restarts."""
        return self.states.setdefault(descriptor.name, Map())

    def get_state(self, descriptor: Any) -> Any:
        """The state of this name, kept across restarts."""
        return self.states.setdefault(descriptor.name, Value())

    def get_metrics_group(self) -> Fake:
        """This one."""
        return self

    def add_group(self, name: str, value: str) -> Fake:
        """One whose metrics are found under `value`."""
        made = Fake()
        made.gauges, made.counters, made.path = self.gauges, self.counters, (*self.path, value)
        return made

    def gauge(self, name: str, function: Any) -> None:
        """Kept in `gauges`."""
        self.gauges[(*self.path, name)] = function

    def counter(self, name: str) -> Fake:
        """Kept in `counters`, where `count` is what it has."""
        return self.counters.setdefault((*self.path, name), Fake())

    def inc(self, n: int = 1) -> None:
        """Counts."""
        self.count += n

    def timer_service(self) -> Fake:
        """This one."""
        return self

    def register_event_time_timer(self, at: int) -> None:
        """Kept in `timers`."""
        self.timers.add(at)


class Keyed(Fake):
    """Of one key, whose watermark the test moves."""

    watermark = 0

    def __init__(self, key: Any) -> None:
        super().__init__()
        self.key = key

    def get_current_key(self) -> Any:
        """The key."""
        return self.key

    def current_watermark(self) -> int:
        """As the test says."""
        return self.watermark


class Silent:
    """A topic or database that says nothing."""

    values: dict[str, Any] = {}  # noqa: RUF012 - never changed
    configs: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def __init__(self, *_: Any) -> None:
        pass

    def look(self) -> bool:
        """Nothing is new."""
        return False

    def close(self) -> None:
        """Nothing is open."""
