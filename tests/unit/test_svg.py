"""Charts: round ticks, and figures that are well-formed whatever the values are."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import svg

values = st.lists(st.floats(0, 1e9), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 24, [5, 10, 15, 20]),
        (0, 0.386, [0, 0.1, 0.2, 0.3]),
        (0.1, 0.9, [0.2, 0.4, 0.6, 0.8]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert svg._ticks(low, high) == pytest.approx(expected)


@given(values)
@settings(max_examples=50, deadline=None)
def test_any_values_give_a_whole_figure(found):
    curve = [(float(i), value) for i, value in enumerate(found)]
    for drawing in (
        svg.lines({"a <b> & c": curve}, "x", "y", diagonal=True),
        svg.dots({"a": found, "none": []}, "x", "y", line_at=1.0),
        svg.bars({"a": found[0]}, "x"),
    ):
        root = ElementTree.fromstring(drawing)
        assert root.tag == "svg"
        assert "nan" not in drawing
