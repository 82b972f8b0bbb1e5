-- What is odd in the readings: how often, by meter, register and cause.
-- Columns: meter_id; register; kind (of the anomaly); cause (dip, glitch, reset, rollover, replacement, implausible, lost);
-- findings (how many); first_at, last_at (time of the readings); observed_kwh (what the readings say taken at their word, kWh, null for powers);
-- counted_kwh (what is counted instead).
SELECT
    meter_id,
    register,
    kind,
    cause,
    count(*) AS findings,
    min(end_ts) AS first_at,
    max(end_ts) AS last_at,
    sum(observed_kwh) AS observed_kwh,
    sum(expected_kwh) AS counted_kwh
FROM anomaly
WHERE register IS NOT NULL
GROUP BY 1, 2, 3, 4
ORDER BY findings DESC, 1, 2, 3, 4;
