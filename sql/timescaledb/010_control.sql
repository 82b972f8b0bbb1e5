-- Control: how plans were made, and what came of them.
ALTER TABLE site ADD COLUMN settings jsonb NOT NULL DEFAULT '{}';
COMMENT ON COLUMN site.settings IS 'Control: grid_meters, load_meters, groups (docs/control.md).';

ALTER TABLE setpoint ADD COLUMN issued_at timestamptz;
COMMENT ON COLUMN setpoint.issued_at IS 'When it was decided, event time.';

CREATE TABLE control_plan (
    plan_id text NOT NULL,
    site_id text NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    planned_at timestamptz NOT NULL,
    reason text NOT NULL,
    cost double precision,
    baseline_cost double precision,
    record jsonb NOT NULL,
    PRIMARY KEY (plan_id, planned_at)
);
SELECT create_hypertable('control_plan', 'planned_at', chunk_time_interval => INTERVAL '28 days', create_default_indexes => false);
CREATE INDEX control_plan_site ON control_plan (site_id, planned_at DESC);
SELECT add_retention_policy('control_plan', drop_after => INTERVAL '2 years');
COMMENT ON COLUMN control_plan.record IS 'The plan with everything that it was made from: `energyai explain` makes it again.';

CREATE TABLE site_slot (
    site_id text NOT NULL,
    bucket timestamptz NOT NULL,
    tenant_id text NOT NULL DEFAULT 'default',
    load_kw double precision NOT NULL,
    devices_kw double precision NOT NULL,
    price double precision,
    export_price double precision,
    kg_co2_per_kwh double precision,
    mode text NOT NULL,
    on_paper boolean NOT NULL DEFAULT false,
    PRIMARY KEY (site_id, bucket)
);
SELECT create_hypertable('site_slot', 'bucket', chunk_time_interval => INTERVAL '28 days', create_default_indexes => false);
SELECT add_retention_policy('site_slot', drop_after => INTERVAL '25 years');
COMMENT ON TABLE site_slot IS 'A controlled site''s quarter hours: the site without its devices, the devices, the prices that held.';
COMMENT ON COLUMN site_slot.on_paper IS 'Devices that never reported are taken as obeying: what shadow would have done.';

-- What no control, and perfect foresight, would have done with the devices: filled by `energyai report control`.
CREATE TABLE control_foresight (
    site_id text NOT NULL,
    bucket timestamptz NOT NULL,
    none_kw double precision NOT NULL,
    devices_kw double precision NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, bucket)
);
SELECT create_hypertable('control_foresight', 'bucket', chunk_time_interval => INTERVAL '28 days', create_default_indexes => false);

-- Cost of a month's quarter hours with the devices as they ran, without control (batteries at rest, cars and loads at once; until
-- the report has run: all at rest), and as foresight would have run them.
-- A demand charge is the tariff's of now; a month that is not over counts by its peak so far.
CREATE VIEW control_savings AS
WITH slot AS (
    SELECT
        s.site_id, t.tz, date_trunc('month', s.bucket AT TIME ZONE t.tz)::date AS month, s.bucket, s.price, s.export_price,
        s.kg_co2_per_kwh, s.mode, s.on_paper, v.policy, v.kw,
        coalesce((t.tariff ->> 'demand_charge_per_kw_month')::float8, (t.tariff ->> 'capacity_per_kw_month')::float8, 0) AS demand,
        coalesce((t.tariff ->> 'carbon_price_per_kg')::float8, (t.tariff ->> 'carbon_price_per_t')::float8 / 1000, 0) AS carbon
    FROM site_slot AS s
    JOIN site AS t USING (site_id)
    LEFT JOIN control_foresight AS f ON f.site_id = s.site_id AND f.bucket = s.bucket
    CROSS JOIN LATERAL (VALUES
        ('none', s.load_kw + coalesce(f.none_kw, 0)), ('energyai', s.load_kw + s.devices_kw), ('foresight', s.load_kw + f.devices_kw)
    ) AS v (policy, kw)
    WHERE v.kw IS NOT NULL
)
SELECT
    site_id, month, policy,
    count(*) AS quarter_hours,
    sum(kw / 4) AS net_kwh,
    sum(greatest(kw, 0) / 4 * price - greatest(-kw, 0) / 4 * export_price) AS energy_cost,
    greatest(max(kw), 0) AS peak_kw,
    greatest(max(kw), 0) * max(demand) AS demand_cost,
    sum(greatest(kw, 0) / 4 * kg_co2_per_kwh) AS kg_co2,
    sum(greatest(kw, 0) / 4 * kg_co2_per_kwh) * max(carbon) AS carbon_cost,
    bool_or(on_paper) AS on_paper
FROM slot
GROUP BY site_id, month, policy;
COMMENT ON VIEW control_savings IS 'Monthly bill by policy: energyai (as it ran), none, foresight (these two after `energyai report control`).';

-- Saved against no control, and how much of what could have been saved.
CREATE VIEW control_regret AS
SELECT
    e.site_id, e.month, e.quarter_hours, e.on_paper,
    r.cost - e.cost AS saved, r.cost - f.cost AS possible, e.cost - f.cost AS regret,
    (r.cost - e.cost) / nullif(r.cost - f.cost, 0) AS share_of_possible,
    r.peak_kw AS peak_none_kw, e.peak_kw AS peak_kw, f.peak_kw AS peak_foresight_kw, r.kg_co2 - e.kg_co2 AS kg_co2_saved
FROM (SELECT *, energy_cost + demand_cost + carbon_cost AS cost FROM control_savings WHERE policy = 'energyai') AS e
JOIN (SELECT *, energy_cost + demand_cost + carbon_cost AS cost FROM control_savings WHERE policy = 'none') AS r
    USING (site_id, month)
LEFT JOIN (SELECT *, energy_cost + demand_cost + carbon_cost AS cost FROM control_savings WHERE policy = 'foresight') AS f
    ON f.site_id = e.site_id AND f.month = e.month AND f.quarter_hours = e.quarter_hours;
COMMENT ON VIEW control_regret IS 'By site and month: saved, the most that was possible, and the difference.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'energyai_writer') THEN
        GRANT INSERT, UPDATE ON control_plan, site_slot TO energyai_writer;
        GRANT INSERT, UPDATE, DELETE ON control_foresight TO energyai_writer;
    END IF;
END
$$;
