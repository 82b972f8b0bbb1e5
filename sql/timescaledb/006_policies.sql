-- What the database does by itself. Compression counts from the moment a chunk was created, not from its rows' time:
-- replayed history is not compressed under its writers.
ALTER TABLE reading SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'meter_id, register', timescaledb.compress_orderby = 'ts'
);
ALTER TABLE energy_slot SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'meter_id, register, kind', timescaledb.compress_orderby = 'bucket'
);
ALTER TABLE forecast_issue SET (
    timescaledb.compress, timescaledb.compress_segmentby = 'meter_id', timescaledb.compress_orderby = 'issued_at'
);
-- Late readings may come for 7 days.
SELECT add_compression_policy('reading', compress_created_before => INTERVAL '15 days');
SELECT add_compression_policy('energy_slot', compress_created_before => INTERVAL '22 days');
SELECT add_compression_policy('forecast_issue', compress_created_before => INTERVAL '15 days');

-- Retention counts from the rows' own time, and history is replayed here: long by default; shorten it for your installation
-- (remove_retention_policy, add_retention_policy).
SELECT add_retention_policy('reading', drop_after => INTERVAL '25 years');
SELECT add_retention_policy('energy_slot', drop_after => INTERVAL '25 years');
SELECT add_retention_policy('forecast_issue', drop_after => INTERVAL '25 years');
SELECT add_retention_policy('anomaly', drop_after => INTERVAL '25 years');
SELECT add_retention_policy('setpoint', drop_after => INTERVAL '25 years');
SELECT add_retention_policy('setpoint_ack', drop_after => INTERVAL '25 years');
SELECT add_retention_policy('webhook_delivery', drop_after => INTERVAL '180 days');
SELECT add_retention_policy('rejected_reading', drop_created_before => INTERVAL '1 year');

-- Materialise the days that readings no longer reach: late ones come for 7 days, and the rest is aggregated when it is read.
-- By the readings' time, not the clock's (as add_continuous_aggregate_policy would): a replayed year would write below what is
-- materialised with every batch. The tenth part of the series may lag behind. No start of the window: whatever a writer's own
-- refresh missed (it was killed between commit and refresh) is mended by the next run.
CREATE PROCEDURE refresh_energy(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    head timestamptz;
    settled timestamptz;
BEGIN
    SELECT to_timestamp(percentile_disc(0.1) WITHIN GROUP (ORDER BY head_ts) / 1000.0) INTO head FROM series_state;
    IF head IS NULL THEN
        RETURN;
    END IF;
    settled := time_bucket(INTERVAL '1 day', least(head, now()) - (config ->> 'settled_after')::interval);
    CALL refresh_continuous_aggregate('energy_15m', NULL, settled);
    CALL refresh_continuous_aggregate('energy_hourly', NULL, settled);
    CALL refresh_continuous_aggregate('energy_daily', NULL, settled);
END
$$;
SELECT add_job('refresh_energy', INTERVAL '30 minutes', config => '{"settled_after": "8 days"}');

-- When infra/database.py ran each policy, where no background worker does (the embedded database).
CREATE TABLE policy_run (
    job_id integer PRIMARY KEY,
    ran_at timestamptz NOT NULL
);
