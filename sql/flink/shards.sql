-- Many meters in one message: what Python is handed. One piece a meter, register and quarter hour, one text a shard.
--
-- A piece is "meter US register US tenant US kind US readings US numbers", the numbers five a reading (ts_ms, value,
-- interval_ms, revision, quality) with spaces between; pieces are joined with RS (US, RS: the ASCII separators; a valid
-- text has no control characters). Two steps, because LISTAGG copies what it has at each addition: a piece stays short,
-- and a shard has some hundred pieces (docs/decisions/003).
--
-- A reading whose quarter hour the watermark has passed goes round the windows, as a text of its own with window 0: the
-- shard patches its history. Each reading takes one of the two ways: both tests see the same watermark, the source's.
--
-- ${shards}: number of shards, a setting that is fixed for the life of the job's state.

CREATE TEMPORARY VIEW reading_piece AS
SELECT
  MOD(MOD(HASH_CODE(meter_id), ${shards}) + ${shards}, ${shards}) AS shard,
  CONCAT(meter_id, U&'\001f', register, U&'\001f', tenant_id, U&'\001f', CAST(kind AS STRING)) AS series,
  CONCAT(
    CAST(ts_ms AS STRING), ' ', CAST(`value` AS STRING), ' ', CAST(interval_ms AS STRING), ' ',
    CAST(revision AS STRING), ' ', CAST(quality AS STRING)
  ) AS numbers,
  rowtime,
  rowtime IS NULL OR COALESCE(
    TO_TIMESTAMP_LTZ(
      (CAST(TIMESTAMPDIFF(MINUTE, TO_TIMESTAMP_LTZ(0, 3), rowtime) AS BIGINT) / 15 + 1) * 900000 - 1, 3
    ) <= CURRENT_WATERMARK(rowtime), FALSE
  ) AS late
FROM reading_valid;

CREATE TEMPORARY VIEW reading_on_time AS
SELECT shard, series, numbers, rowtime FROM reading_piece WHERE NOT late;

CREATE TEMPORARY VIEW shard_window AS
SELECT
  shard,
  window_end,
  LISTAGG(CONCAT(series, U&'\001f', CAST(readings AS STRING), U&'\001f', numbers), U&'\001e') AS pieces
FROM (
  SELECT shard, series, window_start, window_end, window_time, COUNT(*) AS readings, LISTAGG(numbers, ' ') AS numbers
  FROM TABLE(TUMBLE(DATA => TABLE reading_on_time, TIMECOL => DESCRIPTOR(rowtime), SIZE => INTERVAL '15' MINUTE))
  GROUP BY shard, series, window_start, window_end, window_time
)
GROUP BY shard, window_start, window_end;

CREATE TEMPORARY VIEW shard_texts AS
SELECT shard, UNIX_TIMESTAMP(CAST(window_end AS STRING)) * 1000 AS window_end_ms, pieces FROM shard_window
UNION ALL
SELECT shard, CAST(0 AS BIGINT), CONCAT(series, U&'\001f1\001f', numbers) FROM reading_piece WHERE late;
