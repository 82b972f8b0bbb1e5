-- The topic `models`, for what the forecast job itself announces: rollbacks. At least once: an announcement that comes again
-- changes nothing, and one that waited for a checkpoint would come later than it must.
--
-- ${topic}, ${kafka}: settings.

CREATE TEMPORARY TABLE model_announcements (
  record_key STRING,
  record_value STRING
) WITH (
  'connector' = 'kafka',
  'topic' = '${topic}',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.compression.type' = 'gzip',
  'key.format' = 'raw',
  'key.fields' = 'record_key',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY',
  'sink.delivery-guarantee' = 'at-least-once'
);
