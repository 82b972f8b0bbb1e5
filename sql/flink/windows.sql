-- The quarter hours' readings by moment, then by shard: see shards.sql.

CREATE TEMPORARY VIEW shard_texts AS
SELECT
  shard,
  EXTRACT(EPOCH FROM window_end) * 1000 AS at_ms,
  LISTAGG(series, U&'\001e') AS series,
  LISTAGG(numbers, ' ') AS numbers
FROM (
  SELECT shard, window_start, window_end, window_time, LISTAGG(series, U&'\001e') AS series, LISTAGG(numbers, ' ') AS numbers
  FROM TABLE(TUMBLE(DATA => TABLE piece, TIMECOL => DESCRIPTOR(known), SIZE => INTERVAL '15' MINUTE))
  GROUP BY shard, moment, window_start, window_end, window_time
)
GROUP BY shard, window_start, window_end;
