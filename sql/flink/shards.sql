-- Many meters in one message: what Python is handed. One piece a meter, register and quarter hour, one text a shard.
--
-- A piece is "meter US register US tenant US kind US readings US numbers", the numbers five a reading (ts_ms, value,
-- interval_ms, revision, quality) with spaces between; pieces are joined with RS (US, RS: the ASCII separators; a valid
-- text has no control characters). Two steps, because LISTAGG copies what it has at each addition: a piece stays short,
-- and a shard has some hundred pieces (docs/decisions/001).
--
-- A late reading is in the window in which it became known; the shard patches its history with it. A backlog of late ones
-- is cut by the six hours that they tell of, so that no piece grows without bound.
--
-- ${shards}: number of shards, a setting that is fixed for the life of the job's state. `piece` is `reading_piece` with
-- the time at which it became known as its row time (jobs/tables.py).

CREATE TEMPORARY VIEW reading_piece AS
SELECT
  MOD(MOD(HASH_CODE(meter_id), ${shards}) + ${shards}, ${shards}) AS shard,
  CONCAT(meter_id, U&'\001f', register, U&'\001f', tenant_id, U&'\001f', CAST(kind AS STRING)) AS series,
  CONCAT(
    CAST(ts_ms AS STRING), ' ', CAST(`value` AS STRING), ' ', CAST(interval_ms AS STRING), ' ',
    CAST(revision AS STRING), ' ', CAST(quality AS STRING)
  ) AS numbers,
  (ts_ms - 1) / 21600000 AS six_hours,
  known_ms
FROM reading_valid;
