"""Findings of counters on their way to the topic: said once, taken back when a late reading explains them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.detection.finding_watch import FindingWatch
from operators.findings import anomaly_id
from operators.packing import Pieces
from operators.shard import Shard

SLOT = 900_000
METER = ("b2", "1-0:1.8.0", "acme", 0)


def pieces(*readings):
    """(quarter hour, kWh[, revision])."""
    slot, kwh, revision = (np.array(c) for c in zip(*((*r, 0)[:3] for r in readings), strict=True))
    zero = np.zeros(len(slot), np.int64)
    return Pieces(
        [METER], zero, slot.astype(np.int64) * SLOT, kwh.astype(float), zero, revision.astype(np.int64),
        zero.astype(np.int8),
    )  # fmt: skip


def watched():
    shard = Shard()
    return shard, FindingWatch().listen(shard)


def take(shard, watch, slot, *readings):
    shard.apply(pieces(*readings))
    return [(m["kind"], m["cause"], m["status"]) for m in watch.messages(shard, slot * SLOT)]


def test_a_reset_and_a_dip_are_said_once():
    shard, watch = watched()
    assert take(shard, watch, 2, (1, 100.0), (2, 101.0)) == []
    shard.apply(pieces((3, 0.2)))
    (reset,) = watch.messages(shard, 3 * SLOT)
    assert reset["anomaly_id"] == anomaly_id("b2", "1-0:1.8.0", "reset", 3 * SLOT)
    assert (reset["status"], reset["start"], reset["end"]) == ("closed", "1970-01-01T00:30:00Z", "1970-01-01T00:45:00Z")
    assert (reset["tenant_id"], reset["known_at"]) == ("acme", "1970-01-01T00:45:00Z")
    assert reset["detail"] == "the counter began again near zero: 101 kWh, then 0.2"
    assert take(shard, watch, 4, (3, 0.2), (4, 1.2)) == []
    assert take(shard, watch, 5, (5, 1.1995)) == [("negative", "dip", "closed")]


def test_a_correction_takes_it_back_also_after_a_restart():
    shard, watch = watched()
    take(shard, watch, 3, (1, 100.0), (2, 101.0), (3, 0.2))
    again = FindingWatch(watch.said()).listen(shard)
    assert take(shard, again, 4, (4, 103.0)) == [
        ("reset", "reset", "retracted"), ("negative", "glitch", "closed")
    ]  # fmt: skip
    assert take(shard, again, 5, (3, 102.0, 1)) == [("negative", "glitch", "retracted")]


@given(
    values=st.lists(st.sampled_from([0.1, 50.0, 100.0, 101.0, 101.0005, 102.0]), min_size=3, max_size=9),
    order=st.randoms(use_true_random=False),
)
def test_any_order_leaves_the_same_findings(values, order):
    readings = list(enumerate(values, 1))

    def left(rows):
        shard, watch = watched()
        stands = {}
        for at, row in enumerate(rows, 20):
            shard.apply(pieces(row))
            for m in watch.messages(shard, at * SLOT):
                if m["status"] == "retracted":
                    assert stands.pop(m["anomaly_id"], None), "it was said"
                else:
                    stands[m["anomaly_id"]] = {k: v for k, v in m.items() if k != "known_at"}
        return stands

    shuffled = list(readings)
    order.shuffle(shuffled)
    assert left(shuffled) == left(readings)
