-- Weather by site, as it was known at each time: what was measured and what was foreseen.
CREATE TABLE weather (
    site_id text NOT NULL,
    ts timestamptz NOT NULL,
    issued_at timestamptz NOT NULL,
    temperature_c real,
    irradiance_w_m2 real,
    tenant_id text NOT NULL DEFAULT 'default',
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, ts, issued_at)
);
SELECT create_hypertable('weather', 'ts', chunk_time_interval => INTERVAL '30 days', create_default_indexes => false);
COMMENT ON TABLE weather IS
    'Means of the hour that begins at ts; issued_at: when it was known. A forecast of energy uses, of each hour, the newest issued before it.';

SELECT add_retention_policy('weather', drop_after => INTERVAL '25 years');

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'energyai_writer') THEN
        GRANT INSERT, UPDATE ON weather TO energyai_writer;
    END IF;
END
$$;
