"""Merging and sorting: every message once, in delivery order, ties in the sources' order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.replay import ordering
from jobs.replay.batch import Batch, batch, concat
from jobs.replay.ordering import Ordered, merge, time_ordered


def numbered(name: str, stamps: list[int]) -> Batch:
    return batch(name, np.array(stamps, dtype=np.int64), np.arange(len(stamps), dtype=np.float64))


def rows(b: Batch) -> list[tuple[int, str, float]]:
    return list(zip(b.deliver_ms.tolist(), b.meter_id.tolist(), b.value.tolist(), strict=True))


STREAMS = st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 5)), max_size=5)


@settings(deadline=None)
@given(STREAMS)
def test_merge_is_a_stable_sort(streams: list[tuple[list[int], int]]) -> None:
    sources, everything = [], []
    for index, (stamps, size) in enumerate(streams):
        whole = numbered(f"s{index}", sorted(stamps))
        everything.append(whole)
        blocks = [whole.take(slice(at, at + size)) for at in range(0, len(whole), size)]
        sources.append(Ordered(min(stamps, default=0), lambda blocks=blocks: iter(blocks)))  # type: ignore[misc]
    found = concat(list(merge(sources)))
    assert rows(found) == rows(concat(everything).by_delivery())


def test_a_source_is_opened_when_its_time_has_come() -> None:
    opened: list[str] = []

    def source(name: str, stamps: list[int]) -> Ordered:
        def blocks() -> Iterator[Batch]:
            opened.append(name)
            for stamp in stamps:
                yield numbered(name, [stamp])

        return Ordered(stamps[0], blocks)

    stream = merge([source("late", [100, 101]), source("early", [0, 1, 2])])
    next(stream)
    assert opened == ["early"]
    assert [b.meter_id[0] for b in stream][-1] == "late"


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 9))
def test_time_ordered_sorts_by_disk_too(stamps: list[int], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "SORTED_AT_ONCE", 10)
        patch.setattr(ordering, "RUN_BLOCK", 3)
        whole = numbered("m", stamps)
        blocks = [whole.take(slice(at, at + size)) for at in range(0, len(whole), size)]
        assert rows(concat(list(time_ordered(blocks)))) == rows(whole.by_delivery())
