-- Many meters in one message: what Python is handed. A quarter hour of a shard is two texts, of its readings in any order.
--
-- `series`: "meter US register US tenant US kind" of each reading, joined with RS (US, RS: the ASCII separators; a valid
-- text has no control characters). `numbers`: five of each reading (ts_ms, value, interval_ms, revision, quality), with
-- spaces between.
--
-- Two steps, because LISTAGG copies what it has at each addition: first the readings of one shard and ten seconds, then
-- those of the quarter hour. Never by meter: a window is 30 µs of state and timers, and of a meter it holds few readings
-- (docs/decisions/019).
--
-- A late reading is in the window in which it became known; the shard patches its history with it. A backlog of late ones
-- is cut by the ten seconds that they tell of, as the others are, so that no text of the first step grows without bound.
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
  (ts_ms - 1) / 10000 AS moment,
  known_ms
FROM reading_valid;
