-- The topic as it is: bytes, where they stood, when the broker got them, and a row time for watermarks.
--
-- The watermark is made per partition, inside the source, from what the payload's text shows: a hint, found without
-- parsing; `reading_valid` has the exact time. A record without a usable hint has no row time; neither such a record nor
-- one from the future moves the watermark: a wrong clock must not make everybody else late.
-- The row time is one millisecond before ts: a reading that ends at 00:15 belongs to the quarter hour that ends there.
--
-- ${topic}, ${kafka}, ${group}, ${start}, ${discovery}, ${bounded}, ${idle_timeout}: settings; ${event_time}: row time, arrival
-- and watermark, or what stands for them where a job needs none.

CREATE TEMPORARY TABLE meter_readings (
  payload BYTES,
  `topic` STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  received TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  received_ms AS EXTRACT(EPOCH FROM received) * 1000,
  ${event_time}
) WITH (
  'connector' = 'kafka',
  'topic' = '${topic}',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.auto.offset.reset' = 'earliest',
  'scan.startup.mode' = '${start}',
  'scan.topic-partition-discovery.interval' = '${discovery}',
  ${bounded}
  ${idle_timeout}
  'format' = 'raw'
);
