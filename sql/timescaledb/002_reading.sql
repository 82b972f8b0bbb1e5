-- The truth: the set of readings, each once, and what was turned away.
CREATE TYPE reading_kind AS ENUM ('register', 'interval', 'instant');
CREATE TYPE reading_quality AS ENUM ('measured', 'estimated', 'invalid');

CREATE TABLE reading (
    meter_id text NOT NULL,
    register text NOT NULL,
    ts timestamptz NOT NULL,
    kind reading_kind NOT NULL,
    value double precision NOT NULL,
    unit text NOT NULL,
    interval_s double precision,
    revision bigint NOT NULL DEFAULT 0,
    quality reading_quality NOT NULL DEFAULT 'measured',
    tenant_id text NOT NULL DEFAULT 'default',
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (meter_id, register, ts)
);
SELECT create_hypertable('reading', 'ts', chunk_time_interval => INTERVAL '7 days', create_default_indexes => false);
COMMENT ON TABLE reading IS
    'Readings in canonical units: kWh (register, interval) or kW (instant; import positive, export negative).';
COMMENT ON COLUMN reading.interval_s IS 'Kind interval: the value is the energy of the interval_s seconds that end at ts.';
COMMENT ON COLUMN reading.received_at IS 'When it was first stored.';

CREATE TABLE reading_conflict (
    meter_id text NOT NULL,
    register text NOT NULL,
    ts timestamptz NOT NULL,
    revision bigint NOT NULL,
    dropped_value double precision NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (meter_id, register, ts, revision, dropped_value)
);
COMMENT ON TABLE reading_conflict IS
    'Two values of one revision for the same meter, register and time: the greater stays in reading, the other is here.';

-- Partitioned by offset: the key must hold the partitioning column, and the contract's key has no time.
CREATE TABLE rejected_reading (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    reason text NOT NULL,
    detail text,
    raw text,
    tenant_id text NOT NULL DEFAULT 'default',
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, "offset")
);
SELECT create_hypertable('rejected_reading', 'offset', chunk_time_interval => 10000000, create_default_indexes => false);
CREATE INDEX rejected_reading_received ON rejected_reading (received_at);
COMMENT ON TABLE rejected_reading IS 'Records that are no readings; raw: the bytes as UTF-8, else base64.';
