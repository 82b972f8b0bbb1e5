-- Gaps: stretches of hours that are not measured in full, the longest first (between a meter's first and last hour).
-- Columns: meter_id; gap_start, gap_end (UTC, end excluded); hours (h); kwh (what is known of the gap from the counter after it,
-- kWh, else null).
WITH hour AS (
    SELECT g.meter_id, g.bucket, e.kwh
    FROM (
        SELECT meter_id, generate_series(min(bucket), max(bucket), INTERVAL '1 hour') AS bucket
        FROM energy_hourly
        GROUP BY meter_id
    ) AS g
    LEFT JOIN energy_hourly AS e USING (meter_id, bucket)
    WHERE coalesce(e.coverage, 0) < 0.999
),
numbered AS (
    -- Consecutive hours minus their row number give the same time.
    SELECT *, bucket - row_number() OVER (PARTITION BY meter_id ORDER BY bucket) * INTERVAL '1 hour' AS island FROM hour
)
SELECT
    meter_id,
    min(bucket) AS gap_start,
    max(bucket) + INTERVAL '1 hour' AS gap_end,
    count(*) AS hours,
    sum(kwh) AS kwh
FROM numbered
GROUP BY meter_id, island
ORDER BY hours DESC, meter_id, gap_start;
