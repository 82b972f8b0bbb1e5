-- Peaks: each month's highest quarter of an hour, as grid fees are billed, and when it was.
-- Time zone: the meter's own. Only quarter-hours that are measured in full.
-- Columns: meter_id; month (local, its first day); peak_kw (kW, mean of the quarter); peak_at (its start); kwh (of the month);
-- full_load_hours (kwh / peak_kw, h).
SELECT
    e.meter_id,
    date_trunc('month', e.bucket AT TIME ZONE m.tz)::date AS month,
    max(e.kwh) FILTER (WHERE e.coverage >= 0.999) * 4 AS peak_kw,
    (array_agg(e.bucket ORDER BY e.kwh DESC, e.bucket) FILTER (WHERE e.coverage >= 0.999))[1] AS peak_at,
    sum(e.kwh) AS kwh,
    sum(e.kwh) / nullif(max(e.kwh) FILTER (WHERE e.coverage >= 0.999) * 4, 0) AS full_load_hours
FROM energy_15m AS e
JOIN meter AS m USING (meter_id)
GROUP BY 1, 2
ORDER BY 1, 2;
