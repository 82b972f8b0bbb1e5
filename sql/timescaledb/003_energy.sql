-- Energy, derived from the readings by operators/energy.py and written by operators/store.py, then aggregated.
CREATE TABLE energy_slot (
    meter_id text NOT NULL,
    register text NOT NULL,
    kind reading_kind NOT NULL,
    bucket timestamptz NOT NULL,
    flow smallint NOT NULL,
    kwh double precision NOT NULL,
    covered_s double precision NOT NULL,
    readings integer NOT NULL,
    PRIMARY KEY (meter_id, register, kind, bucket)
);
SELECT create_hypertable('energy_slot', 'bucket', chunk_time_interval => INTERVAL '7 days', create_default_indexes => false);
CREATE INDEX energy_slot_bucket ON energy_slot (bucket); -- for narrow refreshes
COMMENT ON TABLE energy_slot IS 'kWh of each register in each quarter of an hour; a function of the set of readings alone.';
COMMENT ON COLUMN energy_slot.flow IS
    'What the register is: import 11-15, export 21-25 (…1 counter total, …2 interval total, …3 counter by tariff, '
    '…4 interval by tariff, …5 power), 31 net power, 0 not active energy. The smallest one present makes the net.';
COMMENT ON COLUMN energy_slot.readings IS 'Readings that ended a measured or spread stretch in (bucket, bucket + 15 min].';

-- The row that a writer locks, and what it needs to append without reading back.
CREATE TABLE series_state (
    meter_id text NOT NULL,
    register text NOT NULL,
    kind smallint,
    first_ts bigint,
    head_ts bigint,
    max_interval bigint NOT NULL DEFAULT 0,
    last_ts bigint,
    mark double precision,
    estimated boolean NOT NULL DEFAULT false,
    kwh double precision NOT NULL DEFAULT 0,
    covered bigint NOT NULL DEFAULT 0,
    readings integer NOT NULL DEFAULT 0,
    PRIMARY KEY (meter_id, register)
) WITH (fillfactor = 50);
COMMENT ON TABLE series_state IS
    'Internal. Epoch milliseconds: first_ts, head_ts (any reading), last_ts (last one that is not invalid); mark: its register '
    'high-water mark or power; kwh, covered (ms), readings: of the slot that last_ts is in. kind 0, 1, 2, or -1 when mixed.';

-- One source per direction and slot: a total beats the tariff registers, a counter beats power; else energy is counted twice.
CREATE MATERIALIZED VIEW energy_15m
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    meter_id,
    time_bucket(INTERVAL '15 minutes', bucket) AS bucket,
    coalesce(
        coalesce(
            sum(kwh) FILTER (WHERE flow = 11), sum(kwh) FILTER (WHERE flow = 12), sum(kwh) FILTER (WHERE flow = 13),
            sum(kwh) FILTER (WHERE flow = 14), sum(kwh) FILTER (WHERE flow = 15),
            CASE WHEN count(*) FILTER (WHERE flow BETWEEN 21 AND 25) > 0 THEN 0 END
        ) - coalesce(
            sum(kwh) FILTER (WHERE flow = 21), sum(kwh) FILTER (WHERE flow = 22), sum(kwh) FILTER (WHERE flow = 23),
            sum(kwh) FILTER (WHERE flow = 24), sum(kwh) FILTER (WHERE flow = 25), 0
        ),
        sum(kwh) FILTER (WHERE flow = 31)
    ) AS kwh,
    sum(readings)::bigint AS readings,
    max(covered_s) / 900 AS coverage
FROM energy_slot
WHERE flow > 0
GROUP BY meter_id, time_bucket(INTERVAL '15 minutes', bucket)
WITH NO DATA;

CREATE MATERIALIZED VIEW energy_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    meter_id,
    time_bucket(INTERVAL '1 hour', bucket) AS bucket,
    sum(kwh) AS kwh,
    sum(readings)::bigint AS readings,
    sum(coverage) / 4 AS coverage
FROM energy_15m
GROUP BY meter_id, time_bucket(INTERVAL '1 hour', bucket)
WITH NO DATA;

CREATE MATERIALIZED VIEW energy_daily
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT
    meter_id,
    time_bucket(INTERVAL '1 day', bucket) AS bucket,
    sum(kwh) AS kwh,
    sum(readings)::bigint AS readings,
    sum(coverage) / 24 AS coverage
FROM energy_hourly
GROUP BY meter_id, time_bucket(INTERVAL '1 day', bucket)
WITH NO DATA;

COMMENT ON VIEW energy_15m IS 'Net kWh (import minus export) of each meter by quarter of an hour, UTC; bucket is its start.';
COMMENT ON VIEW energy_hourly IS 'Net kWh of each meter by hour, UTC; bucket is its start.';
COMMENT ON VIEW energy_daily IS 'Net kWh of each meter by UTC day; bucket is its start.';
