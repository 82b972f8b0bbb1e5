"""Readings as one text: what SQL writes is what Python reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.packing import RECORD, UNIT, unpack

name = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
series = st.tuples(name, name, name, st.integers(0, 2))
reading = st.tuples(
    st.integers(0, 253_402_300_799_999),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 31_622_400_000),
    st.integers(0, 2**53),
    st.integers(0, 2),
)
piece = st.tuples(series, st.lists(reading, min_size=1, max_size=5))


def pack(rows: list[tuple[tuple[str, str, str, int], list[tuple[float, ...]]]]) -> str:
    """What sql/flink/shards.sql and windows.sql make."""
    return RECORD.join(
        UNIT.join([*map(str, key), str(len(found)), " ".join(repr(number) for one in found for number in one)])
        for key, found in rows
    )


@given(st.lists(piece, min_size=1, max_size=5))
def test_every_number_comes_back_bit_by_bit(
    rows: list[tuple[tuple[str, str, str, int], list[tuple[float, ...]]]],
) -> None:
    pieces = unpack(pack(rows))
    assert pieces.series == [key for key, _ in rows]
    assert pieces.owner.tolist() == [i for i, (_, found) in enumerate(rows) for _ in found]
    columns = zip(
        pieces.ts_ms.tolist(), pieces.value.tolist(), pieces.interval_ms.tolist(),
        pieces.revision.tolist(), pieces.quality.tolist(), strict=True,
    )  # fmt: skip
    assert list(columns) == [one for _, found in rows for one in found]


@pytest.mark.parametrize("value", ["1.0E-5", "1.7976931348623157E308", "-0.0", "12345.678"])
def test_numbers_as_java_writes_them(value: str) -> None:
    text = UNIT.join(["m", "r", "t", "1", "1", f"900000 {value} 0 0 0"])
    assert unpack(text).value.tolist() == [float(value)]


def test_numbers_that_are_not_there_are_an_error() -> None:
    with pytest.raises(ValueError, match="5 numbers for 2 readings"):
        unpack(UNIT.join(["m", "r", "t", "1", "2", "900000 1 0 0 0"]))
