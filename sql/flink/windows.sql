-- The quarter hours' pieces by meter, then by shard: see shards.sql.

CREATE TEMPORARY VIEW shard_texts AS
SELECT
  shard,
  EXTRACT(EPOCH FROM window_end) * 1000 AS window_end_ms,
  LISTAGG(CONCAT(series, U&'\001f', CAST(readings AS STRING), U&'\001f', numbers), U&'\001e') AS pieces
FROM (
  SELECT shard, series, window_start, window_end, window_time, COUNT(*) AS readings, LISTAGG(numbers, ' ') AS numbers
  FROM TABLE(TUMBLE(DATA => TABLE piece, TIMECOL => DESCRIPTOR(known), SIZE => INTERVAL '15' MINUTE))
  GROUP BY shard, series, six_hours, window_start, window_end, window_time
)
GROUP BY shard, window_start, window_end;
