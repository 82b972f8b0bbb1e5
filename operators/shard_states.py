"""A shard in Flink's keyed state: names, a header, an entry a quarter hour of the history, and readings beside them."""

from __future__ import annotations

import time

from pyflink.common.typeinfo import Types
from pyflink.datastream import RuntimeContext
from pyflink.datastream.state import MapState, MapStateDescriptor, ValueStateDescriptor

from operators.meters_topic import MetersTopic
from operators.shard import Shard

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
LOOK_EVERY_S = 2.0
"""How often the topic `meters` is asked for news, between windows."""


class StateSlots:
    """A shard's readings in Flink's state: of the key whose element is being processed."""

    def __init__(self, state: MapState) -> None:
        self._state = state

    def get(self, number: int) -> bytes | None:
        packed = self._state.get(number)
        return None if packed is None else bytes(packed)

    def put(self, number: int, packed: bytes) -> None:
        self._state.put(number, packed)

    def remove(self, number: int) -> None:
        self._state.remove(number)

    def numbers(self) -> list[int]:
        return list(self._state.keys())


class ShardStates:
    """The shards of one subtask: the arrays in this instance, and in keyed state what makes them again.

    That is the names, a header, one entry for each quarter hour, of which a window writes only those that it changed,
    and the readings of each quarter hour, which are read only when late ones come.
    """

    def __init__(self, context: RuntimeContext, kafka: str, meters_topic: str) -> None:
        """
        Args:
            context: of the operator.
            kafka: bootstrap servers.
            meters_topic: topic `meters`: what is configured.
        """
        self._meters = MetersTopic(kafka, meters_topic)
        self._version, self._look_at = 1, time.monotonic() + LOOK_EVERY_S
        self._configured: dict[int, int] = {}
        self._shards: dict[int, Shard] = {}
        self._kept: dict[int, set[int]] = {}
        self._named: dict[int, int] = {}
        self._names = context.get_state(ValueStateDescriptor("names", BYTES))
        self._header = context.get_state(ValueStateDescriptor("header", BYTES))
        self._columns = context.get_map_state(MapStateDescriptor("columns", Types.LONG(), BYTES))
        self._readings = context.get_map_state(MapStateDescriptor("readings", Types.LONG(), BYTES))

    def get(self, key: int) -> Shard:
        """The shard of the present key."""
        shard = self._shards.get(key)
        if shard is None:
            header = self._header.value()
            columns = {} if header is None else {number: bytes(column) for number, column in self._columns.items()}
            slots = StateSlots(self._readings)
            if header is None:
                shard = Shard(slots)
            else:
                shard = Shard.restore(bytes(self._names.value()), bytes(header), columns, slots)
            self._shards[key], self._kept[key] = shard, set(columns)
            self._named[key] = len(shard.series)
        return shard

    def configure(self, key: int) -> set[int]:
        """Tells the present key's shard what is configured by now; numbers of the quarter hours that this changed."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._version += self._meters.look()
        if self._configured.get(key) == self._version:
            return set()
        self._configured[key] = self._version
        return self.get(key).configure(self._meters.configs)

    def close(self) -> None:
        """Closes the connection."""
        self._meters.close()

    def save(self, key: int, changed: set[int]) -> None:
        """Writes what has changed of it; `changed`: numbers of quarter hours."""
        shard = self._shards[key]
        if len(shard.series) != self._named[key]:
            self._names.update(shard.names())
            self._named[key] = len(shard.series)
        self._header.update(shard.header())
        for number in changed:
            self._columns.put(number, shard.column(number))
        kept = self._kept[key] | changed
        passed = {number for number in kept if number < shard.oldest()}
        for number in passed:
            self._columns.remove(number)
        self._kept[key] = kept - passed
