"""The generated fleet: the same seed gives the same bytes, sums are kept, and every fault is in the record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.replay import fleet
from jobs.replay.batch import Batch, ReplayError, concat
from jobs.replay.fleet import DEFAULT_START_MS, Fleet, FleetSpec, generate
from jobs.replay.fleet_faults import REJECT_CODES, Faults, bad_record
from jobs.replay.fleet_load import ARCHETYPES, DAY_MS, SLOT_MS
from jobs.replay.messages import encode
from operators.readings import EXPORT_REGISTER, Kind, Quality

KWH = {"kWh": 1.0, "Wh": 0.001, "MWh": 1000.0}
ONE_OF_EACH = ("interval:900", "register:900", "interval:3600", "register:3600", "instant:60")


def digest(spec: FleetSpec) -> str:
    made = generate(spec)
    body = b"\n".join(encode(made.readings)) + made.wh.tobytes() + made.faults.to_csv(index=False).encode()
    return hashlib.sha256(body).hexdigest()


def kwh(b: Batch) -> np.ndarray:
    return b.value * np.array([KWH[unit] for unit in b.unit])


def of(made: Fleet, meter: str, register: str = "") -> Batch:
    b = made.readings
    mine = (b.meter_id == meter) & (b.register == register) & (b.raw == np.array(None))
    picked = b.take(mine)
    return picked.take(np.argsort(picked.ts_ms, kind="stable"))


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    spec = FleetSpec(seed=3, meters=9, days=3, kinds=ONE_OF_EACH, faults=Faults.all())
    assert digest(spec) == digest(spec)
    assert digest(spec) != digest(replace(spec, seed=4))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 4))
def test_every_kind_sums_to_the_truth(seed: int, meters: int, days: int) -> None:
    made = generate(FleetSpec(seed=seed, meters=meters, days=days, kinds=ONE_OF_EACH))
    for index, meter in enumerate(made.meters.itertuples()):
        truth = made.wh[:, index].sum(axis=1) / 1000
        mine = of(made, meter.meter_id)
        if meter.kind == "instant":
            assert np.isclose(mine.value.sum() * meter.step_s / 3600, truth[0] - truth[1], rtol=1e-9, atol=1e-9)
            continue
        sides = [(truth[0], mine)]
        if meter.feeds_in:
            sides.append((truth[1], of(made, meter.meter_id, EXPORT_REGISTER)))
        for expected, readings in sides:
            energy = kwh(readings)
            total = energy.sum() if meter.kind == "interval" else energy[-1] - energy[0]
            assert np.isclose(total, expected, rtol=1e-9, atol=1e-6)


def test_each_interval_and_increment_is_its_slots() -> None:
    made = generate(FleetSpec(seed=1, meters=20, days=2, kinds=ONE_OF_EACH))
    for index, meter in enumerate(made.meters.itertuples()):
        if meter.kind == "instant":
            continue
        slots = made.wh[0, index].reshape(-1, meter.step_s // 900).sum(axis=1) / 1000
        energy = kwh(of(made, meter.meter_id))
        np.testing.assert_allclose(energy if meter.kind == "interval" else np.diff(energy), slots, atol=1e-6)


def test_times_are_whole_and_delivery_is_in_order() -> None:
    made = generate(FleetSpec(meters=16, days=3, kinds=ONE_OF_EACH))
    assert (np.diff(made.readings.ts_ms) >= 0).all()
    assert (made.readings.ts_ms == made.readings.deliver_ms).all()
    assert made.readings.ts_ms.min() == DEFAULT_START_MS  # the registers' opening count
    assert made.readings.ts_ms.max() == DEFAULT_START_MS + 3 * DAY_MS
    for meter in made.meters["meter_id"]:
        mine = made.readings.take(made.readings.meter_id == meter)
        assert mine.seq.tolist() == list(range(len(mine)))


def test_days_come_one_at_a_time_and_make_the_whole() -> None:
    spec = FleetSpec(meters=8, days=4, faults=Faults.all())
    made = generate(spec)
    assert encode(concat(list(fleet.source(spec).batches()))) == encode(made.readings)
    for day, part in enumerate(fleet.Generator(spec).days()):
        end = spec.start_ms + (day + 1) * DAY_MS
        assert day == spec.days - 1 or part.batch.deliver_ms.max() < end
        assert (part.wh == made.wh[:, :, day * 96 : (day + 1) * 96]).all()


def test_resets_and_rollovers_lose_no_energy() -> None:
    faults = Faults(resets=3.0, rollovers=0.5)
    made = generate(FleetSpec(seed=5, meters=16, days=14, kinds=("register:900",), faults=faults))
    counts = made.faults["fault"].value_counts()
    assert counts["reset"] > 5
    assert counts["rollover"] > 2
    for index, meter in enumerate(made.meters.itertuples()):
        count = np.round(kwh(of(made, meter.meter_id)) * 1000).astype(np.int64)
        steps = np.diff(count)
        top = meter.register_max_kwh * 1000
        steps = np.where(steps < 0, steps + top if top else count[1:], steps)
        assert (steps == made.wh[0, index]).all()


def test_a_replacement_shows_a_count_of_its_own() -> None:
    made = generate(FleetSpec(seed=5, meters=8, days=14, kinds=("register:900",), faults=Faults(replacements=3.0)))
    assert len(made.faults) > 3
    for fault in made.faults.itertuples():
        mine = of(made, fault.meter_id)
        at = int(np.flatnonzero(mine.ts_ms == fault.start_ms)[0])
        assert 0.15 < mine.value[at + 1] / mine.value[at] < 0.85


def test_what_is_missing_is_in_the_record_and_nothing_else_is() -> None:
    plain = FleetSpec(seed=2, meters=12, days=7, kinds=("interval:900",))
    whole, holed = generate(plain), generate(replace(plain, faults=Faults(missing=1.0)))
    assert len(holed.faults) > 3
    assert (holed.wh == whole.wh).all()
    hit = np.zeros(len(whole.readings), dtype=bool)
    for fault in holed.faults.itertuples():
        inside = (whole.readings.ts_ms > fault.start_ms) & (whole.readings.ts_ms <= fault.end_ms)
        hit |= (whole.readings.meter_id == fault.meter_id) & inside
    left = set(zip(holed.readings.meter_id.tolist(), holed.readings.ts_ms.tolist(), strict=True))
    expected = whole.readings.take(~hit)
    assert left == set(zip(expected.meter_id.tolist(), expected.ts_ms.tolist(), strict=True))


def test_the_way_changes_no_final_value() -> None:
    """Highest revision wins, then the greater value: what the contract keeps is what was measured."""
    plain = FleetSpec(seed=2, meters=12, days=7, kinds=("interval:900", "instant:300"))
    faults = Faults(duplicates=0.05, out_of_order=0.1, late=0.05, revisions=0.05, conflicts=0.05)
    whole, rough = generate(plain), generate(replace(plain, faults=faults))
    best: dict[tuple[str, str, int], tuple[int, float]] = {}
    b = rough.readings
    for row in range(len(b)):
        key = (b.meter_id[row], b.register[row], int(b.ts_ms[row]))
        best[key] = max(best.get(key, (-1, 0.0)), (int(b.revision[row]), float(b.value[row])))
    w = whole.readings
    expected = {(w.meter_id[row], w.register[row], int(w.ts_ms[row])): float(w.value[row]) for row in range(len(w))}
    assert {key: value for key, (_, value) in best.items()} == expected
    assert (np.diff(b.deliver_ms) >= 0).all()
    assert (b.deliver_ms >= b.ts_ms).all()
    assert (b.deliver_ms - b.ts_ms).max() < 7 * DAY_MS
    assert set(rough.faults["fault"]) == {"duplicate", "out_of_order", "late", "revision", "conflict"}


def test_a_negative_is_marked_invalid_and_recorded() -> None:
    made = generate(FleetSpec(meters=16, days=7, kinds=("interval:900",), faults=Faults(negatives=1.0)))
    b = made.readings
    assert ((b.value < 0) == (b.quality == Quality.INVALID)).all()
    assert (b.value < 0).sum() == (made.faults["fault"] == "negative").sum() > 3


@pytest.mark.parametrize(("name", "low", "high"), [("spikes", 4, 12), ("drops", 0, 0.06)])
def test_the_building_did_it_and_the_truth_says_so(name: str, low: float, high: float) -> None:
    plain = FleetSpec(seed=4, meters=16, days=7)
    calm, odd = generate(plain), generate(replace(plain, faults=Faults(**{name: 1.0})))
    ids = calm.meters["meter_id"].tolist()
    fault = next(f for f in odd.faults.itertuples() if "datacentre" in f.meter_id)
    first, last = ((ms - plain.start_ms) // SLOT_MS for ms in (fault.start_ms, fault.end_ms))
    ratio = odd.wh[0, ids.index(fault.meter_id), first:last] / calm.wh[0, ids.index(fault.meter_id), first:last]
    assert len(ratio)
    assert (ratio >= low).all()
    assert (ratio <= high).all()


def test_stuck_is_the_same_value_and_a_level_shift_stays() -> None:
    plain = FleetSpec(seed=4, meters=16, days=14)
    calm = generate(plain)
    ids = calm.meters["meter_id"].tolist()
    stuck = generate(replace(plain, faults=Faults(stuck=1.0)))
    for fault in stuck.faults.itertuples():
        first, last = ((ms - plain.start_ms) // SLOT_MS for ms in (fault.start_ms, fault.end_ms))
        assert len(set(stuck.wh[0, ids.index(fault.meter_id), first:last].tolist())) == 1
    shifted = generate(replace(plain, faults=Faults(level_shifts=0.3)))
    once = [f for f in shifted.faults.itertuples() if (shifted.faults["meter_id"] == f.meter_id).sum() == 1]
    fault = next(f for f in once if "datacentre" in f.meter_id or "factory" in f.meter_id)
    first = (fault.start_ms - plain.start_ms) // SLOT_MS
    after = slice(first, None)
    ratio = shifted.wh[0, ids.index(fault.meter_id), after].sum() / calm.wh[0, ids.index(fault.meter_id), after].sum()
    assert ratio == pytest.approx(float(fault.detail[1:]), rel=0.01)
    assert (shifted.wh[0, ids.index(fault.meter_id), :first] == calm.wh[0, ids.index(fault.meter_id), :first]).all()


def test_every_reject_code_comes_and_is_recorded() -> None:
    made = generate(FleetSpec(meters=20, days=7, kinds=("interval:3600",), faults=Faults(malformed=1.0)))
    raw = [bytes(r) for r in made.readings.raw if r is not None]
    assert len(raw) == made.faults["fault"].isin(REJECT_CODES).sum() >= len(REJECT_CODES)
    assert set(made.faults["fault"]) == set(REJECT_CODES)


def test_a_bad_record_is_wrong_in_one_way() -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(bad_record("not_json", "m", 1))
    assert "value" not in json.loads(bad_record("missing_field", "m", 1))
    assert json.loads(bad_record("not_finite", "m", 1))["value"] == float("inf")
    assert len(bad_record("too_large", "m", 1, 5000)) > 5000
    good = {"meter_id": "m", "kind": "interval", "unit": "kWh", "interval_s": 900, "ts": 1, "value": 1.5}
    for code, field in (
        ("bad_type", "value"),
        ("bad_unit", "unit"),
        ("bad_ts", "ts"),
        ("ts_in_future", "ts"),
        ("unknown_kind", "kind"),
    ):
        record = json.loads(bad_record(code, "m", 1))
        assert [name for name in good if record[name] != good[name]] == [field]


def test_loads_look_like_what_they_are() -> None:
    start = DEFAULT_START_MS + 150 * DAY_MS  # Thursday, 30 May
    made = generate(FleetSpec(seed=0, meters=40, days=14, start_ms=start))
    hour = made.wh.reshape(2, 40, 14, 24, 4).sum(axis=4)
    kind = made.meters["archetype"].to_numpy()
    day = hour[0, kind == "office"].mean(axis=(0, 1))
    assert day[9:14].mean() > 2 * day[0:4].mean()
    flat = hour[0, kind == "datacentre"].mean(axis=(0, 1))
    assert flat.max() < 1.5 * flat.min()
    export = hour[1, kind == "solarhome"].mean(axis=(0, 1))
    assert export[10:13].sum() > 0
    assert export[22] == export[0] == 0
    assert (hour[1, ~np.isin(kind, ["solarhome", "batteryhome"])] == 0).all()
    assert len(set(kind)) == len(ARCHETYPES)
    weekend = hour[0, kind == "office"][:, [2, 3, 9, 10]].mean()
    assert weekend < 0.7 * hour[0, kind == "office"][:, [0, 1, 4, 5, 6]].mean()


def test_the_demo_fleet_runs_beside_the_real_meters() -> None:
    from jobs.replay.samples import DEMO_END_MS, DEMO_START_MS

    spec = fleet.demo_spec(DEMO_START_MS, DEMO_END_MS)
    source = fleet.source(spec)
    assert (source.first_ms, source.last_ms) == (DEMO_START_MS, DEMO_END_MS)
    readings = concat(list(source.batches()))
    assert set(readings.kind.tolist()) == {Kind.REGISTER, Kind.INTERVAL, Kind.INSTANT}
    assert all(meter.startswith("sim-") for meter in set(readings.meter_id))
    assert len(set(readings.meter_id)) == 20


@pytest.mark.parametrize("wrong", [{"kinds": ("interval:1000",)}, {"kinds": ("x:1",)}, {"meters": 0}, {"start_ms": 5}])
def test_a_fleet_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ReplayError):
        FleetSpec(**wrong)  # type: ignore[arg-type]


def test_the_demo_tells_what_its_meters_are() -> None:
    from jobs.replay import demo

    found = {str(meter["meter_id"]): meter for meter in demo.meters()}
    assert len(found) == 11 + 20
    assert {meter["tz"] for meter in found.values()} == {"America/Los_Angeles"}
    tops = {meter for meter, row in found.items() if row["register_max"]}
    rolled = generate(demo.spec()).faults.query("fault == 'rollover'")["meter_id"]
    assert set(rolled) <= tops
    assert len(tops) > 0
