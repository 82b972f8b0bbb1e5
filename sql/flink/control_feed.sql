-- A topic that control reads, as bytes, with the row time that its payload shows (field ${field}); sql/flink/meter_readings.sql
-- says why so. What a transaction has not committed is not seen.
--
-- ${table}, ${topic}, ${kafka}, ${group}, ${start}, ${discovery}, ${bounded}, ${idle_timeout}, ${event_time}: settings.

CREATE TEMPORARY TABLE ${table} (
  payload BYTES,
  received TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  received_ms AS EXTRACT(EPOCH FROM received) * 1000 + EXTRACT(MILLISECOND FROM received),
  ${event_time}
) WITH (
  'connector' = 'kafka',
  'topic' = '${topic}',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.auto.offset.reset' = 'earliest',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = '${start}',
  'scan.topic-partition-discovery.interval' = '${discovery}',
  ${bounded}
  ${idle_timeout}
  'format' = 'raw'
);
