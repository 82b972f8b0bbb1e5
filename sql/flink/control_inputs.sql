-- Everything that control decides on, each record with the site that it is of; other sites' and meters' records end here.
--
-- A reading's body is "meter US register US kind US ts_ms US value US interval_ms US quality" (US: the ASCII separator), in kWh
-- or kW; the others are JSON as they came, without control characters. $$ is written for one dollar sign.

CREATE TEMPORARY VIEW control_records AS
SELECT
  site_of('reading', meter_id) AS site, 'reading' AS kind, ts_ms AS at_ms, received_ms,
  CONCAT_WS(U&'\001f', meter_id, register, CAST(kind AS STRING), CAST(ts_ms AS STRING), CAST(`value` AS STRING),
    CAST(interval_ms AS STRING), CAST(quality AS STRING)) AS body
FROM reading_valid
UNION ALL
SELECT site_of('forecast', JSON_VALUE(text, '$$.meter_id')), 'forecast', CAST(0 AS BIGINT), received_ms, text
FROM (SELECT received_ms, REGEXP_REPLACE(DECODE(payload, 'UTF-8'), '[\x00-\x1f]', ' ') AS text FROM forecast_feed)
UNION ALL
SELECT site_of('ack', JSON_VALUE(text, '$$.asset_id')), 'ack', CAST(0 AS BIGINT), received_ms, text
FROM (SELECT received_ms, REGEXP_REPLACE(DECODE(payload, 'UTF-8'), '[\x00-\x1f]', ' ') AS text FROM ack_feed)
UNION ALL
SELECT site_of('state', JSON_VALUE(text, '$$.asset_id')), 'state', CAST(0 AS BIGINT), received_ms, text
FROM (SELECT received_ms, REGEXP_REPLACE(DECODE(payload, 'UTF-8'), '[\x00-\x1f]', ' ') AS text FROM state_feed);

CREATE TEMPORARY VIEW control_inputs AS
SELECT site, kind, at_ms, received_ms, body FROM control_records WHERE site IS NOT NULL;
