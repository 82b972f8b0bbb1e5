"""What a seed decides."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.schedule import CLOSE, KILLS, LAST, RESTARTS, TROUBLES, schedule
from tests.faults.traffic import PARTITIONS, traffic

PROOF = range(1, 21)


def test_a_seed_always_gives_the_same_schedule_and_records() -> None:
    assert schedule(7) == schedule(7) != schedule(8)
    first, second = traffic(schedule(7), "x-"), traffic(schedule(7), "x-")
    assert first.records == second.records
    assert first.rejected == second.rejected


@pytest.mark.parametrize("seed", PROOF)
def test_faults_come_in_order_and_within_the_replay(seed: int) -> None:
    faults = schedule(seed).faults
    assert 4 <= len(faults) <= 6
    places = [fault.at for fault in faults]
    assert places == sorted(places)
    assert places[0] > 0
    assert places[-1] <= LAST + (len(faults) - 1) * CLOSE < 1


def test_twenty_seeds_have_every_fault_and_some_close_together() -> None:
    plans = [schedule(seed) for seed in PROOF]
    count = Counter(fault.what for plan in plans for fault in plan.faults)
    assert set(count) == {*KILLS, *TROUBLES, *RESTARTS}
    assert min(count.values()) >= 5
    changed = {fault.parallelism for plan in plans for fault in plan.faults if fault.what in RESTARTS}
    assert changed == {1, 2} == {plan.parallelism for plan in plans}
    gaps = [b.at - a.at for plan in plans for a, b in zip(plan.faults, plan.faults[1:], strict=False)]
    assert sum(gap <= CLOSE for gap in gaps) >= 10


def test_each_reading_is_sent_and_what_is_sent_more_is_a_repeat_or_poison() -> None:
    load = traffic(schedule(3), "x-")
    sent = [*load.context, *load.records, *load.closing]
    distinct = {record.value for record in sent}
    poison = {value for _, value in load.rejected}
    assert len(distinct - poison) == len(load.readings)
    assert len(sent) > len(load.readings) + len(load.rejected)
    assert {record.partition for record in load.records} == set(range(PARTITIONS))
