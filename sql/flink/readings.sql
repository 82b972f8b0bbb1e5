-- From records to readings, on the JVM: each record of the topic is either one row of `reading_valid` or one row of
-- `reading_rejected`, with the first code of the contract that fits. One table of rules for every job.
--
-- JSON_STRING(v['x']) is the JSON text of field x: 12.5 and "12.5" stay apart, NULL is absent, 'null' is null. Each
-- CROSS JOIN UNNEST(ARRAY[…]) is a fence: the planner merges projections and would otherwise compute the parse again
-- for each use of each column (27 µs a reading instead of 9.5, docs/decisions/002).
--
-- TRY_PARSE_JSON accepts anything after the value, and would lose the second of two objects without a word. So a record is
-- parsed inside of brackets and inside of braces: no text that holds more than one value fits into both. `ts` before 1970
-- or after 9999, and dates that do not exist, are bad_ts.
--
-- DECODE puts U+FFFD where bytes are no UTF-8, and the parser a question mark where an escape is half a surrogate pair: two
-- ids would become one. Such bytes are not_json; such an id is bad_type, a text that is not read may be so.
--
-- ${records}: the table or view of records; ${future_tolerance_s}, ${max_record_bytes}: settings; the rest are the expressions of jobs/flink_sql.py.

CREATE TEMPORARY VIEW record_text AS
SELECT
  payload, `topic`, `partition`, `offset`, received_ms, known_ms,
  COALESCE(DECODE(payload, 'UTF-8'), '') AS text
FROM ${records};

CREATE TEMPORARY VIEW record_fields AS
SELECT
  payload, `topic`, `partition`, `offset`, received_ms, known_ms, text,
  f.*
FROM record_text
CROSS JOIN UNNEST(ARRAY[
  CASE
    WHEN CHAR_LENGTH(text) <= ${max_record_bytes} AND REGEXP(text, '^\s*\{')
      AND (LOCATE(U&'\FFFD', text) = 0 OR ENCODE(text, 'UTF-8') = payload)
      AND TRY_PARSE_JSON(CONCAT('[', text, ']')) IS NOT NULL
    THEN TRY_PARSE_JSON(CONCAT('{"record":', text, '}'))['record']
  END
]) AS parsed (v)
CROSS JOIN UNNEST(ARRAY[ROW(
  v IS NOT NULL,
  NULLIF(JSON_STRING(v['meter_id']), 'null'),
  NULLIF(JSON_STRING(v['register']), 'null'),
  NULLIF(JSON_STRING(v['kind']), 'null'),
  NULLIF(JSON_STRING(v['value']), 'null'),
  NULLIF(JSON_STRING(v['unit']), 'null'),
  NULLIF(JSON_STRING(v['ts']), 'null'),
  NULLIF(JSON_STRING(v['interval_s']), 'null'),
  NULLIF(JSON_STRING(v['revision']), 'null'),
  NULLIF(JSON_STRING(v['quality']), 'null'),
  NULLIF(JSON_STRING(v['tenant_id']), 'null')
)]) AS f (is_object, meter_json, register_json, kind, value_json, unit, ts_json, interval_json, revision_json, quality, tenant_json);

-- Time as epoch milliseconds. TO_TIMESTAMP_LTZ ignores an offset in the text, and both it and CAST move 30 February to
-- the 28th: so the wall time is read alone, compared with its text, and the offset is applied by hand.
CREATE TEMPORARY VIEW record_values AS
SELECT
  payload, `topic`, `partition`, `offset`, received_ms, known_ms, text,
  is_object, meter_json, register_json, kind, value_json, unit, ts_json, interval_json, revision_json, quality, tenant_json,
  x.*
FROM record_fields
CROSS JOIN UNNEST(ARRAY[ROW(
  ${ts_ms},
  TRY_CAST(value_json AS DOUBLE),
  TRY_CAST(interval_json AS DOUBLE),
  TRY_CAST(COALESCE(revision_json, '0') AS BIGINT)
)]) AS x (ts_ms, raw_value, interval_s, revision);

CREATE TEMPORARY VIEW record_checked AS
SELECT
  *,
  CASE
    WHEN CHAR_LENGTH(text) > ${max_record_bytes} THEN 'too_large'
    WHEN NOT is_object AND REGEXP(text, '^\s*\{.*:\s*[+-]?(NaN|Inf(inity)?)\s*[,}]') THEN 'not_finite'
    WHEN NOT is_object THEN 'not_json'
    WHEN meter_json IS NULL OR meter_json = '""' OR ts_json IS NULL OR kind IS NULL OR value_json IS NULL OR unit IS NULL
      THEN 'missing_field'
    WHEN kind = '"interval"' AND interval_json IS NULL THEN 'missing_field'
    WHEN NOT ${meter_ok}
      OR (LOCATE('?', CONCAT_WS('', meter_json, register_json, tenant_json)) > 0 AND REGEXP(text, '${half_surrogate}'))
      OR NOT ${register_ok}
      OR NOT ${tenant_ok}
      OR kind NOT LIKE '"%' OR unit NOT LIKE '"%'
      OR value_json LIKE '"%' OR value_json LIKE '{%' OR value_json LIKE '[%' OR raw_value IS NULL
      OR ts_json LIKE '{%' OR ts_json LIKE '[%' OR ts_json IN ('true', 'false')
      OR revision_json LIKE '"%' OR revision IS NULL OR TRY_CAST(revision_json AS DOUBLE) <> CAST(revision AS DOUBLE)
      OR (interval_json IS NOT NULL AND (interval_json LIKE '"%' OR interval_s IS NULL OR NOT interval_s BETWEEN 0.001 AND 31622400))
      OR quality NOT IN ('"measured"', '"estimated"', '"invalid"')
      THEN 'bad_type'
    WHEN NOT ABS(raw_value * CASE WHEN unit IN ('"MWh"', '"MW"') THEN 1000 ELSE 1 END) <= 1.7976931348623157E308 THEN 'not_finite'
    WHEN kind NOT IN ('"register"', '"interval"', '"instant"') THEN 'unknown_kind'
    WHEN kind = '"instant"' AND unit NOT IN ('"W"', '"kW"', '"MW"') THEN 'bad_unit'
    WHEN kind <> '"instant"' AND unit NOT IN ('"Wh"', '"kWh"', '"MWh"') THEN 'bad_unit'
    WHEN ts_ms IS NULL OR ts_ms < 0 THEN 'bad_ts'
    WHEN ts_ms > received_ms + 1000 * ${future_tolerance_s} THEN 'ts_in_future'
  END AS reason
FROM record_values;

CREATE TEMPORARY VIEW reading_rejected AS
SELECT
  `topic`, `partition`, `offset`, payload, reason,
  CASE reason
    WHEN 'too_large' THEN 'longer than ${max_record_bytes} characters'
    WHEN 'not_json' THEN 'not one JSON object with distinct keys'
    WHEN 'not_finite' THEN 'value is not a finite number'
    WHEN 'missing_field' THEN 'meter_id, ts, kind, value and unit are required, and interval_s for kind interval'
    WHEN 'bad_type' THEN 'a field has another type than the contract says'
    WHEN 'unknown_kind' THEN 'kind is ' || LEFT(kind, 100)
    WHEN 'bad_unit' THEN 'unit ' || LEFT(unit, 100) || ' does not fit kind ' || kind
    WHEN 'bad_ts' THEN 'ts is ' || LEFT(ts_json, 100) || ': want ISO-8601 with an offset, or epoch milliseconds from 1970 to 9999'
    WHEN 'ts_in_future' THEN 'ts is ' || LEFT(ts_json, 100) || ', more than ${future_tolerance_s} s after the record arrived'
  END AS detail
FROM record_checked
WHERE reason IS NOT NULL;

CREATE TEMPORARY VIEW reading_valid AS
SELECT
  JSON_UNQUOTE(meter_json) AS meter_id,
  COALESCE(JSON_UNQUOTE(register_json), '1-0:1.8.0') AS register,
  COALESCE(JSON_UNQUOTE(tenant_json), 'default') AS tenant_id,
  ts_ms,
  CASE kind WHEN '"register"' THEN 0 WHEN '"interval"' THEN 1 ELSE 2 END AS kind,
  CASE unit
    WHEN '"Wh"' THEN raw_value / 1000 WHEN '"W"' THEN raw_value / 1000
    WHEN '"MWh"' THEN raw_value * 1000 WHEN '"MW"' THEN raw_value * 1000
    ELSE raw_value
  END AS `value`,
  CASE WHEN kind = '"interval"' THEN CAST(ROUND(interval_s * 1000) AS BIGINT) ELSE CAST(0 AS BIGINT) END AS interval_ms,
  revision,
  CASE quality WHEN '"estimated"' THEN 1 WHEN '"invalid"' THEN 2 ELSE 0 END AS quality,
  received_ms,
  known_ms
FROM record_checked
WHERE reason IS NULL;
