-- A topic whose messages Python or SQL has written out already: key and value as texts.
--
-- Every client reads gzip without more packages. The transaction's timeout must be below the broker's maximum (15 minutes), or
-- the job restarts for ever. So it would where the producer refused a dead letter: a record of a megabyte takes up to six in
-- JSON (each byte as \u0000), before it is compressed.
--
-- Exactly once, a message is seen with the checkpoint after it; at least once, at once (docs/decisions/017).
--
-- ${table}, ${topic}, ${kafka}, ${transactions}, ${guarantee}, ${linger_ms}: settings.

CREATE TEMPORARY TABLE ${table} (
  record_key STRING,
  record_value STRING
) WITH (
  'connector' = 'kafka',
  'topic' = '${topic}',
  'properties.bootstrap.servers' = '${kafka}',
  'properties.transaction.timeout.ms' = '600000',
  'properties.max.request.size' = '8388608',
  'properties.compression.type' = 'gzip',
  'properties.compression.gzip.level' = '1',
  'properties.linger.ms' = '${linger_ms}',
  'properties.batch.size' = '262144',
  'key.format' = 'raw',
  'key.fields' = 'record_key',
  'value.format' = 'raw',
  'value.fields-include' = 'EXCEPT_KEY',
  'sink.delivery-guarantee' = '${guarantee}',
  'sink.transactional-id-prefix' = '${transactions}'
);
