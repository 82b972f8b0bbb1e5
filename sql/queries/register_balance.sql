-- Balance: whether the energy of each counter is what its readings rose by, epoch by epoch (an epoch ends at a reset, rollover,
-- replacement or a reading that is not believed). A quarter-hour that two epochs share is divided by their readings.
-- Columns: meter_id; register; epoch (0, 1, …); begun_by (cause, null for the first); first_ts, last_ts (its first and last
-- reading); first_kwh, last_kwh (of the counter: its first and its highest value); before_kwh (energy between the epoch before and
-- its first reading, kWh: after a reset or rollover); register_kwh (last_kwh - first_kwh + before_kwh); slot_kwh (sum of
-- energy_slot); difference_kwh (slot_kwh - register_kwh, 0 but for rounding).
WITH marked AS (
    SELECT r.meter_id, r.register, r.ts, r.value, a.cause, a.expected_kwh,
        count(a.anomaly_id) OVER w AS epoch, lag(r.ts) OVER w AS previous_ts
    FROM reading AS r
    LEFT JOIN anomaly AS a
        ON a.meter_id = r.meter_id AND a.register = r.register AND a.end_ts = r.ts AND a.reading_kind = 'register'
        AND a.cause NOT IN ('dip', 'glitch')
    WHERE r.kind = 'register' AND r.quality <> 'invalid'
    WINDOW w AS (PARTITION BY r.meter_id, r.register ORDER BY r.ts)
),
risen AS (
    SELECT *, max(value) OVER e AS mark, row_number() OVER e = 1 AS opens
    FROM marked
    WINDOW e AS (PARTITION BY meter_id, register, epoch ORDER BY ts)
),
step AS (
    -- Energy between a reading and the one before; into an epoch's first reading: what the anomaly says is counted.
    SELECT *, CASE WHEN opens THEN coalesce(expected_kwh, 0) ELSE mark - lag(mark) OVER w END AS kwh
    FROM risen
    WINDOW w AS (PARTITION BY meter_id, register ORDER BY ts)
),
epoch AS (
    SELECT meter_id, register, epoch, min(cause) FILTER (WHERE opens) AS begun_by, min(ts) AS first_ts, max(ts) AS last_ts,
        min(value) FILTER (WHERE opens) AS first_kwh, max(mark) AS last_kwh, sum(kwh) FILTER (WHERE opens) AS before_kwh,
        coalesce(min(previous_ts) FILTER (WHERE opens), min(ts)) AS begins
    FROM step
    GROUP BY 1, 2, 3
),
bounded AS (
    -- What the slot in which an epoch begins holds of the time before.
    SELECT e.*, coalesce(sum(
        s.kwh * extract(epoch FROM s.ts - greatest(s.previous_ts, e.slot))::double precision
            / extract(epoch FROM s.ts - s.previous_ts)::double precision
    ), 0) AS earlier_kwh
    FROM (SELECT *, time_bucket(INTERVAL '15 minutes', begins) AS slot FROM epoch) AS e
    LEFT JOIN step AS s
        ON s.meter_id = e.meter_id AND s.register = e.register AND time_bucket(INTERVAL '15 minutes', s.ts) = e.slot
        AND s.ts > e.slot AND s.ts <= e.begins AND s.previous_ts IS NOT NULL
    GROUP BY e.meter_id, e.register, e.epoch, e.begun_by, e.first_ts, e.last_ts, e.first_kwh, e.last_kwh, e.before_kwh,
        e.begins, e.slot
),
following AS (
    SELECT *, lead(slot, 1, 'infinity') OVER w AS next_slot, lead(earlier_kwh, 1, 0) OVER w AS next_earlier_kwh
    FROM bounded
    WINDOW w AS (PARTITION BY meter_id, register ORDER BY epoch)
),
summed AS (
    SELECT f.*, coalesce(sum(s.kwh), 0) + f.next_earlier_kwh - f.earlier_kwh AS slot_kwh
    FROM following AS f
    LEFT JOIN energy_slot AS s
        ON s.meter_id = f.meter_id AND s.register = f.register AND s.kind = 'register' AND s.bucket >= f.slot
        AND s.bucket < f.next_slot
    GROUP BY f.meter_id, f.register, f.epoch, f.begun_by, f.first_ts, f.last_ts, f.first_kwh, f.last_kwh, f.before_kwh, f.begins,
        f.slot, f.earlier_kwh, f.next_slot, f.next_earlier_kwh
)
SELECT
    meter_id,
    register,
    epoch,
    begun_by,
    first_ts,
    last_ts,
    first_kwh,
    last_kwh,
    before_kwh,
    last_kwh - first_kwh + before_kwh AS register_kwh,
    slot_kwh,
    slot_kwh - (last_kwh - first_kwh + before_kwh) AS difference_kwh
FROM summed
ORDER BY abs(slot_kwh - (last_kwh - first_kwh + before_kwh)) DESC, 1, 2, 3;
