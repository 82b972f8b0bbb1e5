-- Load profile: the mean load of each hour of the day, workdays and weekends apart.
-- Time zone: the meter's own. Only hours that are measured in full.
-- Columns: meter_id; weekend (boolean); hour (0-23, local); mean_kw, highest_kw (kW, hourly means); hours (how many).
SELECT
    e.meter_id,
    extract(isodow FROM e.bucket AT TIME ZONE m.tz) > 5 AS weekend,
    extract(hour FROM e.bucket AT TIME ZONE m.tz)::integer AS hour,
    avg(e.kwh) AS mean_kw,
    max(e.kwh) AS highest_kw,
    count(*) AS hours
FROM energy_hourly AS e
JOIN meter AS m USING (meter_id)
WHERE e.coverage >= 0.999
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;
