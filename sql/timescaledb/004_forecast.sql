-- Forecasts: one row an issue, with arrays; the views give a row a step.
CREATE TABLE forecast_issue (
    meter_id text NOT NULL,
    issued_at timestamptz NOT NULL,
    target_start timestamptz NOT NULL,
    step_s integer NOT NULL CHECK (step_s > 0),
    kwh real[] NOT NULL CHECK (array_ndims(kwh) = 1 AND cardinality(kwh) % 9 = 0),
    model_id text NOT NULL,
    model_sha256 text NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    PRIMARY KEY (meter_id, issued_at)
);
SELECT create_hypertable('forecast_issue', 'issued_at', chunk_time_interval => INTERVAL '7 days', create_default_indexes => false);
COMMENT ON TABLE forecast_issue IS
    'kwh: nine quantiles (0.1 … 0.9) one after another, each of cardinality(kwh) / 9 steps, kWh of the step.';

CREATE VIEW forecast AS
SELECT
    f.meter_id,
    f.issued_at,
    f.target_start + make_interval(secs => f.step_s::double precision * (s.i - 1)) AS target_ts,
    f.step_s,
    f.kwh[s.i] AS q10,
    f.kwh[s.n + s.i] AS q20,
    f.kwh[2 * s.n + s.i] AS q30,
    f.kwh[3 * s.n + s.i] AS q40,
    f.kwh[4 * s.n + s.i] AS q50,
    f.kwh[5 * s.n + s.i] AS q60,
    f.kwh[6 * s.n + s.i] AS q70,
    f.kwh[7 * s.n + s.i] AS q80,
    f.kwh[8 * s.n + s.i] AS q90,
    f.model_id,
    f.model_sha256,
    f.tenant_id
FROM forecast_issue AS f
CROSS JOIN LATERAL (
    SELECT cardinality(f.kwh) / 9 AS n, i FROM generate_series(1, cardinality(f.kwh) / 9) AS i
) AS s;
COMMENT ON VIEW forecast IS 'A row a step: target_ts is its start; q10 … q90 kWh of the step_s seconds from there.';

-- Every meter, not only those of the last chunk; the key's index gives each meter's newest row.
CREATE VIEW forecast_latest AS
SELECT f.*
FROM (
    SELECT meter_id, max(issued_at) AS issued_at FROM forecast_issue GROUP BY meter_id
) AS newest
JOIN forecast AS f ON f.meter_id = newest.meter_id AND f.issued_at = newest.issued_at;
COMMENT ON VIEW forecast_latest IS 'The steps of the newest forecast of each meter.';

-- What came, and what the simple forecasts were, as one array a meter over a gapless grid: each forecast then meets its
-- targets by slicing, without a join a pair. All figures of a meter are over the same pairs: the target is measured, and each
-- simple forecast exists. Those look back at least a day, so at most 24 h ahead they know nothing that the forecast did not.
CREATE VIEW forecast_accuracy AS
WITH forecasted AS MATERIALIZED (
    SELECT meter_id, step_s, min(target_start) - INTERVAL '8 days' AS since, max(target_start) + INTERVAL '1 day' AS until
    FROM forecast_issue
    GROUP BY meter_id, step_s
),
actual AS MATERIALIZED (
    SELECT e.meter_id, f.step_s, e.bucket, e.kwh
    FROM forecasted AS f
    JOIN energy_hourly AS e ON e.meter_id = f.meter_id AND e.bucket >= f.since AND e.bucket < f.until
    WHERE f.step_s = 3600 AND e.coverage >= 0.999 AND e.bucket >= (SELECT min(since) FROM forecasted WHERE step_s = 3600)
    UNION ALL
    SELECT e.meter_id, f.step_s, e.bucket, e.kwh
    FROM forecasted AS f
    JOIN energy_15m AS e ON e.meter_id = f.meter_id AND e.bucket >= f.since AND e.bucket < f.until
    WHERE f.step_s = 900 AND e.coverage >= 0.999 AND e.bucket >= (SELECT min(since) FROM forecasted WHERE step_s = 900)
),
slot AS (
    -- Every slot from first to last, empty where nothing is known: grouped with what is known, which is quicker than joined.
    SELECT meter_id, step_s, ts, max(kwh) AS kwh
    FROM (
        SELECT meter_id, step_s, NULL::double precision AS kwh,
            generate_series(min(bucket), max(bucket), make_interval(secs => step_s)) AS ts
        FROM actual
        GROUP BY meter_id, step_s
        UNION ALL
        SELECT meter_id, step_s, kwh, bucket FROM actual
    ) AS both_of_them
    GROUP BY meter_id, step_s, ts
),
known AS (
    SELECT meter_id, step_s, ts, kwh, lag(kwh, 86400 / step_s) OVER w AS day_1,
        lag(kwh, 2 * 86400 / step_s) OVER w AS day_2, lag(kwh, 3 * 86400 / step_s) OVER w AS day_3,
        lag(kwh, 4 * 86400 / step_s) OVER w AS day_4, lag(kwh, 5 * 86400 / step_s) OVER w AS day_5,
        lag(kwh, 6 * 86400 / step_s) OVER w AS day_6, lag(kwh, 7 * 86400 / step_s) OVER w AS day_7
    FROM slot
    WINDOW w AS (PARTITION BY meter_id, step_s ORDER BY ts)
),
grid AS MATERIALIZED (
    SELECT meter_id, step_s, min(ts) AS start,
        -- A target counts only where all is known; the ensemble is the mean of the last seven days' same hour.
        array_agg(CASE WHEN day_1 + day_7 IS NOT NULL THEN kwh END ORDER BY ts) AS kwh,
        array_agg(day_7 ORDER BY ts) AS week,
        array_agg((day_1 + day_7) / 2 ORDER BY ts) AS day_week,
        array_agg(
            (coalesce(day_1, 0) + coalesce(day_2, 0) + coalesce(day_3, 0) + coalesce(day_4, 0) + coalesce(day_5, 0)
                + coalesce(day_6, 0) + coalesce(day_7, 0))
            / nullif(num_nonnulls(day_1, day_2, day_3, day_4, day_5, day_6, day_7), 0) ORDER BY ts
        ) AS ensemble
    FROM known
    GROUP BY meter_id, step_s
),
issue AS (
    SELECT f.meter_id, f.model_id, f.step_s, f.kwh AS q, cardinality(f.kwh) / 9 AS n,
        (extract(epoch FROM f.target_start - g.start)::bigint / f.step_s)::integer + 1 AS p, g.kwh, g.week, g.day_week,
        g.ensemble, least(cardinality(f.kwh) / 9, 86400 / f.step_s) AS steps
    FROM forecast_issue AS f
    JOIN grid AS g ON g.meter_id = f.meter_id AND g.step_s = f.step_s AND f.target_start >= g.start
),
scored AS (
    SELECT i.meter_id, i.model_id, i.step_s, s.*
    FROM issue AS i
    CROSS JOIN LATERAL unnest(
        kwh[p : p + steps - 1], week[p : p + steps - 1], day_week[p : p + steps - 1], ensemble[p : p + steps - 1],
        q[1 : steps], q[n + 1 : n + steps], q[2 * n + 1 : 2 * n + steps], q[3 * n + 1 : 3 * n + steps],
        q[4 * n + 1 : 4 * n + steps], q[5 * n + 1 : 5 * n + steps], q[6 * n + 1 : 6 * n + steps],
        q[7 * n + 1 : 7 * n + steps], q[8 * n + 1 : 8 * n + steps]
    ) AS s (y, week, day_week, ensemble, q10, q20, q30, q40, q50, q60, q70, q80, q90)
    WHERE s.y IS NOT NULL
)
SELECT
    meter_id,
    model_id,
    step_s,
    count(*) AS pairs,
    avg(y) AS mean_kwh,
    sqrt(avg((q50 - y) * (q50 - y))) / nullif(avg(y), 0) AS nrmse,
    sqrt(avg((week - y) * (week - y))) / nullif(avg(y), 0) AS nrmse_previous_week,
    sqrt(avg((ensemble - y) * (ensemble - y))) / nullif(avg(y), 0) AS nrmse_persistence_ensemble,
    sqrt(avg((day_week - y) * (day_week - y))) / nullif(avg(y), 0) AS nrmse_mean_day_week,
    -- Twice the mean pinball loss of the nine quantiles over the mean energy; the pinball loss of quantile a is
    -- a (y - q) + greatest(q - y, 0).
    2 * sum(
        4.5 * y - 0.1 * q10 - 0.2 * q20 - 0.3 * q30 - 0.4 * q40 - 0.5 * q50 - 0.6 * q60 - 0.7 * q70 - 0.8 * q80 - 0.9 * q90
        + greatest(q10 - y, 0) + greatest(q20 - y, 0) + greatest(q30 - y, 0) + greatest(q40 - y, 0) + greatest(q50 - y, 0)
        + greatest(q60 - y, 0) + greatest(q70 - y, 0) + greatest(q80 - y, 0) + greatest(q90 - y, 0)
    ) / 9 / nullif(sum(abs(y)), 0) AS wql,
    avg((y BETWEEN q10 AND q90)::integer)::double precision AS coverage_80
FROM scored
GROUP BY meter_id, model_id, step_s;
COMMENT ON VIEW forecast_accuracy IS
    'Of each meter and model over all forecasts whose targets are measured: root mean squared error over mean energy, of the '
    'median and of three simple forecasts; weighted quantile loss; share of targets between q10 and q90.';
