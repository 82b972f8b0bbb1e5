-- What the readings themselves say is odd, and meters whose energy a new configuration has still to reach.
ALTER TABLE anomaly ADD COLUMN register text;
ALTER TABLE anomaly ADD COLUMN reading_kind reading_kind;
ALTER TABLE anomaly ADD COLUMN cause text;
ALTER TABLE anomaly ADD COLUMN value_before double precision;
ALTER TABLE anomaly ADD COLUMN value_after double precision;
CREATE INDEX anomaly_of_reading ON anomaly (meter_id, register, end_ts) WHERE register IS NOT NULL;
COMMENT ON COLUMN anomaly.cause IS
    'Found in the readings of a register: dip, glitch, reset, rollover, replacement, implausible, lost. Null: by the jobs.';
COMMENT ON COLUMN anomaly.observed_kwh IS
    'Energy that came; where register is set: what its readings say when taken at their word.';
COMMENT ON COLUMN anomaly.expected_kwh IS 'Energy that was expected; where register is set: what energy_slot counts.';

ALTER TABLE series_state ADD COLUMN fallen boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN series_state.fallen IS 'Its last readings are those of a counter that fell, and may be a glitch.';

ALTER TABLE meter ADD COLUMN energy_outdated boolean NOT NULL DEFAULT false;
CREATE INDEX meter_energy_outdated ON meter (meter_id) WHERE energy_outdated;
CREATE INDEX meter_parent ON meter (parent_meter_id) WHERE parent_meter_id IS NOT NULL;
COMMENT ON COLUMN meter.energy_outdated IS
    'register_max or max_kw changed, and its energy is still to be derived again (`energyai config apply` does it).';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'energyai_writer') THEN
        GRANT DELETE ON anomaly TO energyai_writer;
    END IF;
END
$$;
