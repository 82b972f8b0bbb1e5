-- What makes alerts, who is told, who must not be, and what is on its way to them.
CREATE TABLE alert_rule (
    alert text PRIMARY KEY,
    entry jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE alert_rule IS 'Rules of `energyai config apply`, in place of the shipped ones of the same name.';

CREATE TABLE alert_receiver (
    receiver text PRIMARY KEY,
    entry jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE alert_receiver IS 'Who is told, without secrets: entries name the file or environment variable that holds them.';

CREATE TABLE alert_silence (
    silence_id text PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT 'default',
    matchers jsonb NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at >= starts_at),
    created_by text NOT NULL,
    comment text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN alert_silence.matchers IS 'Label → pattern (* and ?); all must match. Nothing is sent about such alerts.';

ALTER TABLE alert ADD COLUMN changed_at timestamptz;
COMMENT ON COLUMN alert.changed_at IS 'Event time at which the job wrote the row.';

-- The outbox: a row a notification and receiver, written before anything is sent.
ALTER TABLE webhook_delivery DROP CONSTRAINT webhook_delivery_status_check;
ALTER TABLE webhook_delivery ADD CONSTRAINT webhook_delivery_status_check
    CHECK (status IN ('pending', 'delivered', 'dead', 'suppressed'));
ALTER TABLE webhook_delivery ADD COLUMN receiver text NOT NULL DEFAULT '';
ALTER TABLE webhook_delivery ADD COLUMN starts_at timestamptz;
ALTER TABLE webhook_delivery ADD COLUMN kind text;
ALTER TABLE webhook_delivery ADD COLUMN group_key text NOT NULL DEFAULT '';
ALTER TABLE webhook_delivery ADD COLUMN position bigint;
ALTER TABLE webhook_delivery ADD COLUMN batch_id text;
ALTER TABLE webhook_delivery ADD COLUMN message jsonb;
ALTER TABLE webhook_delivery ADD COLUMN next_attempt_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE webhook_delivery ADD COLUMN claimed_until timestamptz;
CREATE SEQUENCE webhook_delivery_position;
CREATE INDEX webhook_delivery_id ON webhook_delivery (delivery_id);
CREATE INDEX webhook_delivery_pending ON webhook_delivery (receiver, group_key, position) WHERE status = 'pending';
CREATE INDEX webhook_delivery_alert ON webhook_delivery (fingerprint, created_at DESC);
COMMENT ON COLUMN webhook_delivery.kind IS 'firing, repeat, escalated or resolved.';
COMMENT ON COLUMN webhook_delivery.batch_id IS 'The request that carries it, its ce-id: several alerts of a group go together.';

-- What came and what was forecast for it just before: the query that each alert of a meter names.
CREATE FUNCTION alert_context(of_meter text, from_ts timestamptz, until_ts timestamptz)
RETURNS TABLE (
    bucket timestamptz, step_s integer, kwh double precision, coverage double precision, q10 real, q50 real, q90 real, anomaly text
) LANGUAGE sql STABLE AS $$
    SELECT e.bucket, 900, e.kwh, e.coverage, f.q10, f.q50, f.q90, a.kinds
    FROM energy_15m AS e
    LEFT JOIN LATERAL (
        -- The forecast that began with this step; an hour's is shared out evenly over its quarters.
        SELECT (i.kwh[1] * 900 / i.step_s)::real AS q10, (i.kwh[4 * n + 1] * 900 / i.step_s)::real AS q50,
            (i.kwh[8 * n + 1] * 900 / i.step_s)::real AS q90
        FROM forecast_issue AS i, LATERAL (SELECT cardinality(i.kwh) / 9 AS n) AS c
        WHERE i.meter_id = of_meter AND i.issued_at <= e.bucket AND i.issued_at > e.bucket - INTERVAL '1 hour'
            AND e.bucket < i.issued_at + make_interval(secs => i.step_s)
        ORDER BY i.issued_at DESC
        LIMIT 1
    ) AS f ON true
    LEFT JOIN LATERAL (
        SELECT string_agg(DISTINCT x.kind, ', ' ORDER BY x.kind) AS kinds
        FROM anomaly AS x
        WHERE x.meter_id = of_meter AND x.start_ts < e.bucket + INTERVAL '15 minutes'
            AND (x.end_ts IS NULL OR x.end_ts > e.bucket OR x.start_ts >= e.bucket)
    ) AS a ON true
    WHERE e.meter_id = of_meter AND e.bucket >= from_ts AND e.bucket < until_ts
    ORDER BY e.bucket
$$;
COMMENT ON FUNCTION alert_context(text, timestamptz, timestamptz) IS
    'Quarter hours of a meter with the forecast that began there (q10, q50, q90 of kWh) and the kinds of its anomalies.';

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'energyai_writer') THEN
        GRANT INSERT, UPDATE, DELETE ON alert_rule, alert_receiver, alert_silence TO energyai_writer;
        GRANT DELETE ON alert TO energyai_writer;
        GRANT USAGE ON SEQUENCE webhook_delivery_position TO energyai_writer;
    END IF;
END
$$;
