-- Conflicts: values that lost against another of the same revision, meter, register and time, by meter and day.
-- Columns: meter_id; register; day (UTC, of the reading); conflicts; largest_difference (kWh or kW, against what is stored).
SELECT
    c.meter_id,
    c.register,
    date_trunc('day', c.ts, 'UTC') AS day,
    count(*) AS conflicts,
    max(abs(r.value - c.dropped_value)) AS largest_difference
FROM reading_conflict AS c
LEFT JOIN reading AS r ON r.meter_id = c.meter_id AND r.register = c.register AND r.ts = c.ts
GROUP BY 1, 2, 3
ORDER BY conflicts DESC, 1, 2, 3;
