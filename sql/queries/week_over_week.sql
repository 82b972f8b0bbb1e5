-- Week over week: each week's energy against the week before, for weeks that are measured to at least 95%.
-- Time zone: UTC weeks, beginning on Monday.
-- Columns: meter_id; week (its Monday); kwh; previous_kwh (of the week before, null when that is not known well enough); change
-- (relative, 0.1 = 10% more).
WITH week AS (
    SELECT meter_id, time_bucket(INTERVAL '7 days', bucket, TIMESTAMPTZ '2024-01-01 00:00:00+00') AS week, sum(kwh) AS kwh
    FROM energy_daily
    GROUP BY 1, 2
    HAVING sum(coverage) / 7 >= 0.95
)
SELECT
    w.meter_id,
    w.week,
    w.kwh,
    p.kwh AS previous_kwh,
    w.kwh / nullif(p.kwh, 0) - 1 AS change
FROM week AS w
LEFT JOIN week AS p ON p.meter_id = w.meter_id AND p.week = w.week - INTERVAL '7 days'
ORDER BY 1, 2;
