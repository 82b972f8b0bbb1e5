-- Energy by local days and hours, by site, and between meters above each other. Plain views on energy_*: always current.
-- Quarter-hours serve every time zone of today: all of them differ from UTC by a multiple of 15 minutes.

-- A local hour is told by its offset, too: when clocks go back, the second 2:00 is another hour. Where they move by half an hour
-- (Lord Howe), one hour begins late and is shorter.
CREATE VIEW energy_local_hourly AS
WITH hour AS (
    SELECT e.meter_id, m.tz, date_trunc('hour', e.bucket AT TIME ZONE m.tz) AS local_hour,
        (e.bucket AT TIME ZONE m.tz) - (e.bucket AT TIME ZONE 'UTC') AS utc_offset, sum(e.kwh) AS kwh,
        sum(e.readings)::bigint AS readings, sum(e.coverage) / 4 AS covered_h
    FROM energy_15m AS e
    JOIN meter AS m ON m.meter_id = e.meter_id
    GROUP BY 1, 2, 3, 4
),
whole AS (
    SELECT *, (local_hour - utc_offset) AT TIME ZONE 'UTC' AS begins FROM hour
),
sized AS (
    SELECT w.*, q.bucket, q.hours
    FROM whole AS w
    CROSS JOIN LATERAL (
        SELECT min(w.begins + i * INTERVAL '15 minutes') AS bucket, count(*) / 4.0::double precision AS hours
        FROM generate_series(0, 3) AS i
        WHERE ((w.begins + i * INTERVAL '15 minutes') AT TIME ZONE w.tz)
            - ((w.begins + i * INTERVAL '15 minutes') AT TIME ZONE 'UTC') = w.utc_offset
    ) AS q
)
SELECT meter_id, bucket, local_hour, utc_offset, hours, kwh, readings, covered_h / hours AS coverage
FROM sized;
COMMENT ON VIEW energy_local_hourly IS
    'Net kWh of each meter by the hours of its own clock. bucket: their beginning in UTC; hours: their length, 1 except where '
    'clocks move by half an hour.';

CREATE VIEW energy_local_daily AS
SELECT meter_id, day, day::timestamp AT TIME ZONE tz AS bucket, tz, hours, kwh, readings, covered_h / hours AS coverage
FROM (
    SELECT meter_id, tz, day, kwh, readings, covered_h, extract(
        epoch FROM ((day + 1)::timestamp AT TIME ZONE tz) - (day::timestamp AT TIME ZONE tz)
    )::double precision / 3600 AS hours
    FROM (
        SELECT e.meter_id, m.tz, (e.bucket AT TIME ZONE m.tz)::date AS day, sum(e.kwh) AS kwh,
            sum(e.readings)::bigint AS readings, sum(e.coverage) / 4 AS covered_h
        FROM energy_15m AS e
        JOIN meter AS m ON m.meter_id = e.meter_id
        GROUP BY 1, 2, 3
    ) AS local_day
) AS sized;
COMMENT ON VIEW energy_local_daily IS
    'Net kWh of each meter by the days of its own time zone. bucket: local midnight; hours: the day''s length (23, 25 when clocks move).';

-- Meters that measure their site's energy: not below another of the same site and commodity that has sent something.
CREATE VIEW site_meter AS
SELECT m.site_id, m.commodity, m.meter_id, s.tenant_id, s.tz, h.first_reading
FROM meter AS m
JOIN site AS s ON s.site_id = m.site_id
JOIN LATERAL (
    SELECT to_timestamp(min(first_ts) / 1000.0) AS first_reading FROM series_state AS h WHERE h.meter_id = m.meter_id
) AS h ON h.first_reading IS NOT NULL
WHERE m.parent_meter_id IS NULL
    OR NOT EXISTS (
        WITH RECURSIVE above AS (
            SELECT m.parent_meter_id AS meter_id
            UNION
            SELECT p.parent_meter_id FROM above AS a JOIN meter AS p ON p.meter_id = a.meter_id
        )
        SELECT FROM above AS a
        JOIN meter AS p ON p.meter_id = a.meter_id AND p.site_id = m.site_id AND p.commodity = m.commodity
        WHERE p.meter_id <> m.meter_id
            AND EXISTS (SELECT FROM series_state AS h WHERE h.meter_id = p.meter_id AND h.first_ts IS NOT NULL)
    );
COMMENT ON VIEW site_meter IS 'The meters whose sum is their site''s energy, each kWh once; first_reading: since when.';

-- expected: meters that had begun; a bucket's coverage is the mean over them, 0 for those without a row.
CREATE VIEW site_energy_15m AS
WITH member AS (
    SELECT site_id, commodity, array_agg(first_reading ORDER BY first_reading) AS since FROM site_meter GROUP BY 1, 2
),
total AS (
    SELECT s.site_id, s.commodity, e.bucket, sum(e.kwh) AS kwh, count(e.kwh) AS meters, sum(e.coverage) AS covered
    FROM site_meter AS s
    JOIN energy_15m AS e ON e.meter_id = s.meter_id
    GROUP BY 1, 2, 3
)
SELECT t.site_id, t.commodity, t.bucket, t.kwh, t.meters,
    greatest(t.meters, width_bucket(t.bucket, m.since)) AS meters_expected,
    t.covered / greatest(t.meters, width_bucket(t.bucket, m.since)) AS coverage
FROM total AS t
JOIN member AS m ON m.site_id = t.site_id AND m.commodity = t.commodity;

CREATE VIEW site_energy_hourly AS
WITH member AS (
    SELECT site_id, commodity, array_agg(first_reading ORDER BY first_reading) AS since FROM site_meter GROUP BY 1, 2
),
total AS (
    SELECT s.site_id, s.commodity, e.bucket, sum(e.kwh) AS kwh, count(e.kwh) AS meters, sum(e.coverage) AS covered
    FROM site_meter AS s
    JOIN energy_hourly AS e ON e.meter_id = s.meter_id
    GROUP BY 1, 2, 3
)
SELECT t.site_id, t.commodity, t.bucket, t.kwh, t.meters,
    greatest(t.meters, width_bucket(t.bucket, m.since)) AS meters_expected,
    t.covered / greatest(t.meters, width_bucket(t.bucket, m.since)) AS coverage
FROM total AS t
JOIN member AS m ON m.site_id = t.site_id AND m.commodity = t.commodity;

CREATE VIEW site_energy_daily AS
WITH member AS (
    SELECT site_id, commodity, tz, array_agg(first_reading ORDER BY first_reading) AS since FROM site_meter GROUP BY 1, 2, 3
),
total AS (
    SELECT s.site_id, s.commodity, s.tz, (e.bucket AT TIME ZONE s.tz)::date AS day, sum(e.kwh) AS kwh,
        count(DISTINCT e.meter_id) AS meters, sum(e.coverage) / 4 AS covered_h
    FROM site_meter AS s
    JOIN energy_15m AS e ON e.meter_id = s.meter_id
    GROUP BY 1, 2, 3, 4
),
sized AS (
    SELECT t.*, t.day::timestamp AT TIME ZONE t.tz AS bucket, m.since, extract(
        epoch FROM ((t.day + 1)::timestamp AT TIME ZONE t.tz) - (t.day::timestamp AT TIME ZONE t.tz)
    )::double precision / 3600 AS hours
    FROM total AS t
    JOIN member AS m ON m.site_id = t.site_id AND m.commodity = t.commodity
)
SELECT site_id, commodity, day, bucket, tz, hours, kwh, meters,
    greatest(meters, width_bucket(bucket, since)) AS meters_expected,
    covered_h / hours / greatest(meters, width_bucket(bucket, since)) AS coverage
FROM sized;

COMMENT ON VIEW site_energy_15m IS 'Net kWh of each site and commodity by quarter-hour, UTC: the meters of site_meter.';
COMMENT ON VIEW site_energy_hourly IS 'Net kWh of each site and commodity by hour, UTC: the meters of site_meter.';
COMMENT ON VIEW site_energy_daily IS 'Net kWh of each site and commodity by the days of the site''s time zone.';

-- Virtual meters: what the direct children of a meter measure together, and what of the parent they leave over. Where a child
-- (or the parent) has no row, there is none: null, not zero. One pattern for the three widths.
DO $$
DECLARE
    width text;
BEGIN
    FOREACH width IN ARRAY ARRAY['15m', 'hourly', 'daily'] LOOP
        EXECUTE format($view$
            CREATE VIEW energy_children_%1$s AS
            WITH child AS (
                SELECT p.meter_id AS parent, c.meter_id
                FROM meter AS c
                JOIN meter AS p ON p.meter_id = c.parent_meter_id AND p.commodity = c.commodity AND p.meter_id <> c.meter_id
            ),
            family AS (SELECT parent, count(*) AS children FROM child GROUP BY parent)
            SELECT s.parent AS meter_id, s.bucket, CASE WHEN s.known = f.children THEN s.kwh END AS kwh,
                CASE WHEN s.known = f.children THEN s.coverage ELSE 0 END AS coverage, f.children, s.known
            FROM (
                SELECT c.parent, e.bucket, sum(e.kwh) AS kwh, min(e.coverage) AS coverage, count(e.kwh) AS known
                FROM child AS c
                JOIN energy_%1$s AS e ON e.meter_id = c.meter_id
                GROUP BY 1, 2
            ) AS s
            JOIN family AS f ON f.parent = s.parent
        $view$, width);
        EXECUTE format($view$
            CREATE VIEW energy_residual_%1$s AS
            SELECT coalesce(p.meter_id, c.meter_id) AS meter_id, coalesce(p.bucket, c.bucket) AS bucket,
                p.kwh - c.kwh AS kwh, least(coalesce(p.coverage, 0), coalesce(c.coverage, 0)) AS coverage,
                p.kwh AS parent_kwh, c.kwh AS children_kwh
            FROM (
                SELECT e.meter_id, e.bucket, e.kwh, e.coverage
                FROM energy_%1$s AS e
                WHERE e.meter_id IN (
                    SELECT m.parent_meter_id FROM meter AS m JOIN meter AS o ON o.meter_id = m.parent_meter_id
                    WHERE m.commodity = o.commodity AND m.meter_id <> o.meter_id
                )
            ) AS p
            FULL JOIN energy_children_%1$s AS c ON c.meter_id = p.meter_id AND c.bucket = p.bucket
        $view$, width);
        EXECUTE format($c$COMMENT ON VIEW energy_children_%1$s IS
            'Sum of the direct children (same commodity) of each meter; null where one of them has no row.'$c$, width);
        EXECUTE format($c$COMMENT ON VIEW energy_residual_%1$s IS
            'What a meter measures beyond its direct children; null where it or one of them has no row.'$c$, width);
    END LOOP;
END
$$;

-- Every bucket of a range, measured or not: the shape that charts and models want.
CREATE FUNCTION energy_gapfilled(
    of_meter text, from_ts timestamptz, until_ts timestamptz, width interval DEFAULT INTERVAL '1 hour'
) RETURNS TABLE (bucket timestamptz, hours double precision, kwh double precision, readings bigint, coverage double precision)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    zone text;
    starts timestamptz[];
    seconds numeric := extract(epoch FROM width);
    calendar boolean := seconds >= 86400;
BEGIN
    IF seconds <= 0 OR (NOT calendar AND (seconds % 900 <> 0 OR 86400 % seconds <> 0))
        OR (calendar AND width <> date_trunc('day', width)) THEN
        RAISE EXCEPTION 'energy_gapfilled: width % is neither a part of a day in quarter-hours nor whole days, weeks or months', width
            USING HINT = 'use 15 minutes, 1 hour, 6 hours, 1 day, 1 week, 1 month, …', ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT m.tz INTO zone FROM meter AS m WHERE m.meter_id = of_meter;
    IF zone IS NULL OR from_ts IS NULL OR until_ts IS NULL OR from_ts >= until_ts THEN
        RETURN;
    END IF;
    IF calendar THEN
        -- Days, weeks (from Monday) and months of the meter's clock.
        SELECT array_agg(d AT TIME ZONE zone ORDER BY d) INTO starts
        FROM generate_series(time_bucket(width, from_ts AT TIME ZONE zone), (until_ts AT TIME ZONE zone) + width, width) AS d;
    ELSE
        SELECT array_agg(d ORDER BY d) INTO starts
        FROM generate_series(time_bucket(width, from_ts), until_ts + width, width) AS d;
    END IF;
    RETURN QUERY
    WITH slot AS (
        SELECT width_bucket(e.bucket, starts) AS i, sum(e.kwh) AS kwh, sum(e.readings)::bigint AS readings,
            sum(e.coverage) / 4 AS covered_h
        FROM energy_15m AS e
        WHERE e.meter_id = of_meter AND e.bucket >= starts[1] AND e.bucket < starts[cardinality(starts)]
        GROUP BY 1
    )
    SELECT b.begins, b.hours, s.kwh, coalesce(s.readings, 0), coalesce(s.covered_h, 0) / b.hours
    FROM (
        SELECT starts[i] AS begins, i, extract(epoch FROM starts[i + 1] - starts[i])::double precision / 3600 AS hours
        FROM generate_series(1, cardinality(starts) - 1) AS i
        WHERE starts[i] < until_ts
    ) AS b
    LEFT JOIN slot AS s ON s.i = b.i
    ORDER BY b.begins;
END
$$;
COMMENT ON FUNCTION energy_gapfilled(text, timestamptz, timestamptz, interval) IS
    'A row a bucket of a meter from the one that holds from_ts to the one before until_ts; a gap has null kwh and coverage 0. Buckets '
    'under a day are of UTC, from a day on of the meter''s time zone.';
