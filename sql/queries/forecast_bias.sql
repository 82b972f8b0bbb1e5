-- Bias by horizon: whether forecasts of hourly meters are too high or too low on average, by how far ahead they look.
-- Columns: model_id; hours_ahead (1 = the next hour); bias (mean of forecast median minus actual, over mean actual; positive: too
-- high); nrmse (root mean squared error over mean actual); pairs (how many).
SELECT
    f.model_id,
    (extract(epoch FROM f.target_ts - f.issued_at) / 3600)::integer + 1 AS hours_ahead,
    avg(f.q50 - e.kwh) / nullif(avg(e.kwh), 0) AS bias,
    sqrt(avg((f.q50 - e.kwh) ^ 2)) / nullif(avg(e.kwh), 0) AS nrmse,
    count(*) AS pairs
FROM forecast AS f
JOIN energy_hourly AS e ON e.meter_id = f.meter_id AND e.bucket = f.target_ts AND e.coverage >= 0.999
WHERE f.step_s = 3600
GROUP BY 1, 2
ORDER BY 1, 2;
