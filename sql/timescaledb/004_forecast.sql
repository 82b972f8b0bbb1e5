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
