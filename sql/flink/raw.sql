-- The readings of a moment, one text a shard, for what is to be seen before a quarter hour is over: the form of shards.sql.
--
-- By the clock, not by event time: a tenth of a second's readings go to Python together, and what Python says of each does
-- not depend on the cut. `passing` is the time at which a piece passes (jobs/tables.py).

CREATE TEMPORARY VIEW raw_texts AS
SELECT
  shard,
  CAST(0 AS BIGINT) AS at_ms,
  LISTAGG(series, U&'\001e') AS series,
  LISTAGG(numbers, ' ') AS numbers
FROM TABLE(TUMBLE(DATA => TABLE piece, TIMECOL => DESCRIPTOR(passing), SIZE => INTERVAL '0.1' SECOND))
GROUP BY shard, window_start, window_end;
