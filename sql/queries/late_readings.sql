-- Lateness: how long after their time readings arrive, by meter.
-- Of replayed history the delay is its age: look at live meters.
-- Columns: meter_id; readings; median_delay, worst_delay (interval); later_than_an_hour (readings).
SELECT
    meter_id,
    count(*) AS readings,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY received_at - ts) AS median_delay,
    max(received_at - ts) AS worst_delay,
    count(*) FILTER (WHERE received_at - ts > INTERVAL '1 hour') AS later_than_an_hour
FROM reading
GROUP BY meter_id
ORDER BY worst_delay DESC, meter_id;
