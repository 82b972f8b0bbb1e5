-- Model versions: what was announced and why, forecasts of models that are scored beside the champion, and live errors.
ALTER TABLE model_version ADD COLUMN registered_at timestamptz;
ALTER TABLE model_version ADD COLUMN lineage jsonb NOT NULL DEFAULT '{}';
CREATE UNIQUE INDEX model_version_alias ON model_version (model_name, alias) WHERE alias IS NOT NULL;

CREATE TABLE model_announcement (
    model_name text NOT NULL,
    announced_at timestamptz NOT NULL,
    effective_from timestamptz NOT NULL,
    version integer NOT NULL,
    sha256 text NOT NULL,
    alias text NOT NULL CHECK (alias IN ('champion', 'challenger')),
    uri text NOT NULL,
    reason text NOT NULL DEFAULT '',
    withdrawn boolean NOT NULL DEFAULT false,
    PRIMARY KEY (model_name, announced_at, effective_from, version, sha256, alias)
);
COMMENT ON TABLE model_announcement IS
    'All that was said on the topic models, by people and by the forecast job (rollbacks); rows are added, never changed.';

CREATE TABLE model_promotion (
    model_name text NOT NULL,
    version integer NOT NULL,
    judged_at timestamptz NOT NULL DEFAULT now(),
    against_sha256 text NOT NULL,
    passed boolean NOT NULL,
    verdict jsonb NOT NULL,
    PRIMARY KEY (model_name, version, judged_at)
);
COMMENT ON TABLE model_promotion IS 'What the gate said of a version, and why; of those that it stopped too.';

-- Beside forecast_issue, never in it: one forecast a meter and issue is the champion's.
CREATE TABLE forecast_shadow (
    meter_id text NOT NULL,
    issued_at timestamptz NOT NULL,
    target_start timestamptz NOT NULL,
    step_s integer NOT NULL CHECK (step_s > 0),
    kwh real[] NOT NULL CHECK (array_ndims(kwh) = 1 AND cardinality(kwh) % 9 = 0),
    model_id text NOT NULL,
    model_sha256 text NOT NULL,
    role text NOT NULL CHECK (role IN ('challenger', 'previous')),
    tenant_id text NOT NULL DEFAULT 'default',
    PRIMARY KEY (meter_id, issued_at, model_sha256)
);
SELECT create_hypertable('forecast_shadow', 'issued_at', chunk_time_interval => INTERVAL '7 days', create_default_indexes => false);
COMMENT ON TABLE forecast_shadow IS 'As forecast_issue, by models that were scored beside the champion on the same windows.';
ALTER TABLE forecast_shadow SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'meter_id', timescaledb.compress_orderby = 'issued_at'
);
SELECT add_compression_policy('forecast_shadow', compress_created_before => INTERVAL '15 days');
SELECT add_retention_policy('forecast_shadow', drop_created_before => INTERVAL '180 days');

CREATE TABLE model_error (
    model_name text NOT NULL,
    role text NOT NULL CHECK (role IN ('champion', 'challenger', 'previous')),
    model_sha256 text NOT NULL,
    issued_at timestamptz NOT NULL,
    step_s integer NOT NULL,
    known_at timestamptz NOT NULL,
    model_id text NOT NULL,
    version integer,
    days integer NOT NULL,
    squared double precision NOT NULL,
    pinball double precision NOT NULL,
    error double precision NOT NULL,
    inside double precision NOT NULL,
    PRIMARY KEY (model_name, role, model_sha256, issued_at, step_s, known_at)
);
COMMENT ON TABLE model_error IS
    'Sums over meter-days that were issued together, each in units of the meter''s own level, before calibration.';

CREATE TABLE model_drift (
    model_name text NOT NULL,
    model_sha256 text NOT NULL,
    day date NOT NULL,
    figure text NOT NULL,
    model_id text NOT NULL,
    psi double precision NOT NULL,
    meters integer NOT NULL,
    reference text NOT NULL,
    PRIMARY KEY (model_name, model_sha256, day, figure)
);
COMMENT ON TABLE model_drift IS 'Population stability index of the inputs of a day: above 0.25 they have changed much.';

CREATE VIEW model_live AS
SELECT model_name, role, model_id, model_sha256, (issued_at AT TIME ZONE 'UTC')::date AS day, sum(days) AS meter_days,
    sqrt(sum(squared) / nullif(sum(days), 0)) AS nrmse, sum(pinball) / nullif(sum(days), 0) AS loss,
    sum(error) / nullif(sum(days), 0) AS bias, sum(inside) / nullif(sum(days), 0) AS coverage_80
FROM model_error
GROUP BY model_name, role, model_id, model_sha256, (issued_at AT TIME ZONE 'UTC')::date;
COMMENT ON VIEW model_live IS
    'Live errors of each model by day of issue: each meter-day counts once, in units of the meter''s level.';

-- forecast_accuracy as before, with the models that are scored in shadow, told apart by their role.
CREATE OR REPLACE VIEW forecast_accuracy AS
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
    SELECT f.meter_id, f.model_id, f.role, f.step_s, f.kwh AS q, cardinality(f.kwh) / 9 AS n,
        (extract(epoch FROM f.target_start - g.start)::bigint / f.step_s)::integer + 1 AS p, g.kwh, g.week, g.day_week,
        g.ensemble, least(cardinality(f.kwh) / 9, 86400 / f.step_s) AS steps
    FROM (
        SELECT meter_id, step_s, target_start, kwh, model_id, 'champion' AS role FROM forecast_issue
        UNION ALL
        SELECT meter_id, step_s, target_start, kwh, model_id, role FROM forecast_shadow
    ) AS f
    JOIN grid AS g ON g.meter_id = f.meter_id AND g.step_s = f.step_s AND f.target_start >= g.start
),
scored AS (
    SELECT i.meter_id, i.model_id, i.role, i.step_s, s.*
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
    avg((y BETWEEN q10 AND q90)::integer)::double precision AS coverage_80,
    role
FROM scored
GROUP BY meter_id, model_id, role, step_s;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'energyai_writer') THEN
        GRANT INSERT, UPDATE ON forecast_shadow, model_error, model_drift TO energyai_writer;
        GRANT INSERT ON model_announcement, model_promotion TO energyai_writer;
    END IF;
END
$$;
