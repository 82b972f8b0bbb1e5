-- Roles, and what is configured: sites, meters, assets.
-- Roles are groups without login: grant them to the login users of an installation. Where the migrating user may not create
-- roles (a managed service), they are left out with a notice, and the owner's own user works as before.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['energyai_writer', 'energyai_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL; -- another migration was quicker
                WHEN insufficient_privilege THEN RAISE NOTICE 'role % not created: no right to create roles', role_name;
            END;
        END IF;
    END LOOP;
END
$$;

CREATE TABLE site (
    site_id text PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    tz text NOT NULL DEFAULT 'UTC',
    limit_kw double precision CHECK (limit_kw > 0),
    tariff jsonb NOT NULL DEFAULT '{}',
    mode text NOT NULL DEFAULT 'shadow' CHECK (mode IN ('shadow', 'live')),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE site IS 'A place with one grid connection. limit_kw: agreed import capacity. tz: IANA time zone.';
INSERT INTO site (site_id) VALUES ('default');

CREATE TABLE meter (
    meter_id text PRIMARY KEY,
    site_id text NOT NULL DEFAULT 'default' REFERENCES site,
    tenant_id text NOT NULL DEFAULT 'default',
    tz text NOT NULL DEFAULT 'UTC',
    commodity text NOT NULL DEFAULT 'electricity',
    register_max double precision CHECK (register_max > 0),
    max_kw double precision CHECK (max_kw > 0),
    parent_meter_id text,
    configured boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX meter_site ON meter (site_id);
COMMENT ON TABLE meter IS 'A meter; configured = false: it registered itself with its first reading.';
COMMENT ON COLUMN meter.register_max IS 'kWh at which the register starts again from zero; null: never.';
COMMENT ON COLUMN meter.max_kw IS 'Capacity of the connection, kW; more than that is not believed. Null: not known.';

CREATE TABLE asset (
    asset_id text PRIMARY KEY,
    site_id text NOT NULL REFERENCES site,
    tenant_id text NOT NULL DEFAULT 'default',
    tz text NOT NULL DEFAULT 'UTC',
    type text NOT NULL CHECK (type IN ('battery', 'ev', 'flexible_load')),
    min_w double precision,
    max_w double precision,
    ramp_w_per_s double precision,
    capacity_wh double precision,
    efficiency double precision,
    priority integer NOT NULL DEFAULT 0,
    settings jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE asset IS 'Something that can be controlled. Powers in W: import positive, export (discharge) negative.';
