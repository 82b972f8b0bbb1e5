-- When each record became known, in event time: its row time, or, when it comes late, where its partition's clock stood.
--
-- The clock is the partition's own, a function of the order in which its records are stored; the job's watermark is the
-- slowest partition's, and how far the others are ahead of it differs from run to run. So the same records give the same
-- windows and forecasts in each run, at any parallelism, and no record is ever late for its window: the clock below is a
-- second ahead of the watermark that the source makes of the same row times. Only after a partition was idle, and the
-- watermark has gone on without it, its backlog would be: such a record is known when it is seen. A window drops none.
--
-- ${watermark_delay_s}, ${future_tolerance_s}: settings.

CREATE TEMPORARY VIEW record_clock AS
SELECT
  *,
  TIMESTAMPADD(SECOND, 1 - ${watermark_delay_s}, MAX(
    CASE WHEN rowtime <= TIMESTAMPADD(SECOND, ${future_tolerance_s}, received) THEN CAST(rowtime AS TIMESTAMP_LTZ(3)) END
  ) OVER (PARTITION BY `partition` ORDER BY arrival ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) AS clock
FROM meter_readings;

CREATE TEMPORARY VIEW record_known AS
SELECT
  payload, `topic`, `partition`, `offset`, received_ms,
  EXTRACT(EPOCH FROM known) * 1000 + EXTRACT(MILLISECOND FROM known) AS known_ms
FROM (
  SELECT *, CASE
    WHEN on_time > CURRENT_WATERMARK(rowtime) OR CURRENT_WATERMARK(rowtime) IS NULL THEN on_time
    ELSE TIMESTAMPADD(SECOND, 1, CURRENT_WATERMARK(rowtime))
  END AS known
  FROM (
    SELECT *, CASE WHEN rowtime >= clock THEN CAST(rowtime AS TIMESTAMP_LTZ(3)) ELSE COALESCE(clock, TO_TIMESTAMP_LTZ(0, 3)) END AS on_time
    FROM record_clock
  )
);
