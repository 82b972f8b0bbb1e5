-- The topic `weather` into its table, and what is no weather into the dead letter. There is little of it: Python parses it.
-- The function answers with the dead letter's message, or '' when the row is committed; UNNEST keeps it from being called twice.
--
-- ${topic}, ${kafka}, ${group}, ${discovery}, ${bounded}: settings.

CREATE TEMPORARY TABLE weather_records (
  payload BYTES,
  `topic` STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = '${topic}',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.group.id' = '${group}',
  'properties.auto.offset.reset' = 'earliest',
  'scan.startup.mode' = 'earliest-offset',
  'scan.topic-partition-discovery.interval' = '${discovery}',
  ${bounded}
  'format' = 'raw'
);

CREATE TEMPORARY VIEW weather_letters AS
SELECT write_weather(`topic`, `partition`, `offset`, payload) AS letter FROM weather_records;

INSERT INTO dead_letters
SELECT CAST(NULL AS STRING), message
FROM weather_letters CROSS JOIN UNNEST(SPLIT(letter, U&'\001e')) AS t (message)
WHERE message <> '';
