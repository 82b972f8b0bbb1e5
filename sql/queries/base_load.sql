-- Base load: what a meter draws when nobody is there, as the load that nine in ten hours exceed, and its share of all energy.
-- Columns: meter_id; base_kw (kW); mean_kw (kW); base_share (base load's part of the energy, 0-1); hours (measured in full).
SELECT
    meter_id,
    percentile_cont(0.1) WITHIN GROUP (ORDER BY kwh) AS base_kw,
    avg(kwh) AS mean_kw,
    percentile_cont(0.1) WITHIN GROUP (ORDER BY kwh) / nullif(avg(kwh), 0) AS base_share,
    count(*) AS hours
FROM energy_hourly
WHERE coverage >= 0.999
GROUP BY meter_id
ORDER BY base_kw DESC;
