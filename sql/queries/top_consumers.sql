-- Top consumers: the meters with the highest consumption over the last 30 days that have data, and their part of the whole.
-- Meters below another (parent_meter_id) are left out: the parent measures them already.
-- Columns: meter_id; site_id; kwh (net import, kWh); share (of all, 0-1); running_share (with all above it, 0-1).
WITH consumption AS (
    SELECT e.meter_id, m.site_id, sum(e.kwh) AS kwh
    FROM energy_daily AS e
    JOIN meter AS m USING (meter_id)
    WHERE m.parent_meter_id IS NULL
        AND e.bucket > (SELECT max(bucket) FROM energy_daily) - INTERVAL '30 days'
    GROUP BY e.meter_id, m.site_id
)
SELECT
    meter_id,
    site_id,
    kwh,
    kwh / nullif(sum(kwh) OVER (), 0) AS share,
    sum(kwh) OVER (ORDER BY kwh DESC, meter_id) / nullif(sum(kwh) OVER (), 0) AS running_share
FROM consumption
ORDER BY kwh DESC, meter_id
LIMIT 20;
