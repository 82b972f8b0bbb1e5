-- The topics that tell of anomalies, and of alerts that other jobs raise: bytes, from the start.
--
-- The watermark is made per partition, inside the source, from when the message became known, as its text shows; one of the future
-- does not move it, nor does one without a time.
--
-- ${topics}, ${kafka}, ${group}, ${discovery}, ${bounded}, ${idle_timeout}, ${known_ms}, ${tolerance}, ${delay}: settings.

CREATE TEMPORARY TABLE evidence (
  payload BYTES,
  received TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  rowtime AS TO_TIMESTAMP_LTZ(COALESCE(${known_ms}, 0), 3),
  WATERMARK FOR rowtime AS
    CASE WHEN rowtime <= TIMESTAMPADD(SECOND, ${tolerance}, received) THEN TIMESTAMPADD(SECOND, -${delay}, rowtime) END
) WITH (
  'connector' = 'kafka',
  'topic' = '${topics}',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.auto.offset.reset' = 'earliest',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'scan.topic-partition-discovery.interval' = '${discovery}',
  ${bounded}
  ${idle_timeout}
  'format' = 'raw'
);
