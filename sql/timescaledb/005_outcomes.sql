-- What the jobs find, say and order, and the models they use.
CREATE TABLE anomaly (
    anomaly_id text NOT NULL,
    meter_id text NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    kind text NOT NULL
        CHECK (kind IN ('spike', 'drop', 'stuck', 'level_shift', 'missing', 'reset', 'negative')),
    start_ts timestamptz NOT NULL,
    end_ts timestamptz,
    score double precision,
    observed_kwh double precision,
    expected_kwh double precision,
    lower_kwh double precision,
    upper_kwh double precision,
    model_id text,
    PRIMARY KEY (anomaly_id, start_ts)
);
SELECT create_hypertable('anomaly', 'start_ts', chunk_time_interval => INTERVAL '28 days', create_default_indexes => false);
CREATE INDEX anomaly_meter ON anomaly (meter_id, start_ts DESC);

CREATE TABLE alert (
    fingerprint text NOT NULL,
    starts_at timestamptz NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    status text NOT NULL CHECK (status IN ('firing', 'resolved')),
    labels jsonb NOT NULL DEFAULT '{}',
    annotations jsonb NOT NULL DEFAULT '{}',
    ends_at timestamptz,
    generator_url text,
    acknowledged_at timestamptz,
    acknowledged_by text,
    PRIMARY KEY (fingerprint, starts_at)
);
CREATE INDEX alert_status ON alert (status, starts_at DESC);

CREATE TABLE webhook_delivery (
    delivery_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    tenant_id text NOT NULL DEFAULT 'default',
    fingerprint text NOT NULL,
    url text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    status text NOT NULL CHECK (status IN ('pending', 'delivered', 'dead')),
    last_error text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (delivery_id, created_at)
);
SELECT create_hypertable('webhook_delivery', 'created_at', chunk_time_interval => INTERVAL '28 days', create_default_indexes => false);

CREATE TABLE setpoint (
    setpoint_id text NOT NULL,
    asset_id text NOT NULL,
    site_id text NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    type text NOT NULL CHECK (type IN ('POWER', 'IMPORT_CAPACITY_LIMIT')),
    value_w double precision NOT NULL,
    execution_time timestamptz NOT NULL,
    duration_s double precision,
    ttl_s double precision NOT NULL,
    failsafe jsonb NOT NULL DEFAULT '{}',
    priority integer NOT NULL DEFAULT 0,
    mode text NOT NULL DEFAULT 'shadow' CHECK (mode IN ('shadow', 'live')),
    reason text,
    supersedes text,
    inputs jsonb NOT NULL DEFAULT '{}',
    expected jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (setpoint_id, execution_time)
);
SELECT create_hypertable('setpoint', 'execution_time', chunk_time_interval => INTERVAL '28 days', create_default_indexes => false);
CREATE INDEX setpoint_asset ON setpoint (asset_id, execution_time DESC);

CREATE TABLE setpoint_ack (
    setpoint_id text NOT NULL,
    asset_id text NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    status text NOT NULL CHECK (status IN ('ACCEPTED', 'REJECTED', 'STARTED', 'SUCCEEDED', 'ABORTED')),
    ts timestamptz NOT NULL,
    measured_w double precision,
    detail text,
    PRIMARY KEY (setpoint_id, status, ts)
);
SELECT create_hypertable('setpoint_ack', 'ts', chunk_time_interval => INTERVAL '28 days', create_default_indexes => false);

CREATE TABLE model_version (
    model_name text NOT NULL,
    version integer NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    alias text CHECK (alias IN ('champion', 'challenger')),
    sha256 text NOT NULL,
    uri text NOT NULL,
    feature_set text,
    trained_at timestamptz,
    effective_from timestamptz,
    metrics jsonb NOT NULL DEFAULT '{}',
    data_range tstzrange,
    PRIMARY KEY (model_name, version)
);
