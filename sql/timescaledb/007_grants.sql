-- Least privilege: writers change data, readers see it, nobody but the owner changes the schema.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'energyai_reader') THEN
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA public TO energyai_reader, energyai_writer;
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO energyai_reader, energyai_writer;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO energyai_reader, energyai_writer;
    GRANT INSERT, UPDATE ON
        site, meter, asset, reading, series_state, forecast_issue, anomaly, alert, webhook_delivery, setpoint,
        setpoint_ack, model_version
        TO energyai_writer;
    GRANT INSERT ON reading_conflict, rejected_reading TO energyai_writer;
    GRANT INSERT, UPDATE, DELETE ON energy_slot TO energyai_writer;
    BEGIN
        -- Only its owner may refresh a continuous aggregate, and a writer of late readings must.
        ALTER MATERIALIZED VIEW energy_15m OWNER TO energyai_writer;
        ALTER MATERIALIZED VIEW energy_hourly OWNER TO energyai_writer;
        ALTER MATERIALIZED VIEW energy_daily OWNER TO energyai_writer;
        GRANT SELECT ON energy_15m, energy_hourly, energy_daily TO energyai_reader;
    EXCEPTION
        WHEN insufficient_privilege THEN
            RAISE NOTICE 'the migrating user keeps energy_*: late readings show there after the next policy run';
    END;
END
$$;
