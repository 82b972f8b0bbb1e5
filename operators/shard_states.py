"""A shard in Flink's keyed state: names, a header, an entry a quarter hour of the history, and readings beside them."""

from __future__ import annotations

from pyflink.common.typeinfo import Types
from pyflink.datastream import RuntimeContext
from pyflink.datastream.state import MapState, MapStateDescriptor, ValueStateDescriptor

from operators.shard import Shard

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())


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
    """The shards of one subtask: the arrays in this instance, and in keyed state what makes them again."""

    def __init__(self, context: RuntimeContext) -> None:
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
