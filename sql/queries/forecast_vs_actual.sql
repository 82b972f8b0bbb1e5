-- Forecast against what came: each meter's last complete day of forecasts, as known a day ahead.
-- Columns: meter_id; target_ts (start of the step, UTC); step_s; actual_kwh, q10, q50, q90 (kWh of the step); inside (whether the
-- actual lies between q10 and q90); model_id.
WITH last_measured AS (
    SELECT meter_id, max(bucket) AS bucket FROM energy_hourly WHERE coverage >= 0.999 GROUP BY meter_id
),
day_ahead AS (
    SELECT DISTINCT ON (f.meter_id) f.meter_id, f.issued_at
    FROM forecast_issue AS f
    JOIN last_measured AS l USING (meter_id)
    WHERE f.issued_at <= l.bucket - INTERVAL '23 hours'
    ORDER BY f.meter_id, f.issued_at DESC
)
SELECT
    f.meter_id,
    f.target_ts,
    f.step_s,
    coalesce(h.kwh, q.kwh) AS actual_kwh,
    f.q10,
    f.q50,
    f.q90,
    coalesce(h.kwh, q.kwh) BETWEEN f.q10 AND f.q90 AS inside,
    f.model_id
FROM forecast AS f
JOIN day_ahead USING (meter_id, issued_at)
LEFT JOIN energy_hourly AS h
    ON f.step_s = 3600 AND h.meter_id = f.meter_id AND h.bucket = f.target_ts AND h.coverage >= 0.999
LEFT JOIN energy_15m AS q
    ON f.step_s = 900 AND q.meter_id = f.meter_id AND q.bucket = f.target_ts AND q.coverage >= 0.999
ORDER BY f.meter_id, f.target_ts;
