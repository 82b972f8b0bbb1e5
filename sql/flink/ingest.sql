-- Each reading into the table `reading`, each other record into `rejected_reading` and the dead letter. The functions
-- write whole batches; a row of `stored_readings` is a reading that is committed.

CREATE TEMPORARY TABLE stored_readings (committed BIGINT) WITH ('connector' = 'blackhole');

INSERT INTO stored_readings
SELECT write_readings(
  meter_id, register, tenant_id, ts_ms, kind, `value`, interval_ms, revision, quality, received_ms
)
FROM reading_valid;

INSERT INTO dead_letters
SELECT CAST(NULL AS STRING), write_rejected(`topic`, `partition`, `offset`, reason, detail, payload)
FROM reading_rejected;
