-- What was decided and answered, into its tables; a row of `recorded` is a record that is committed.

CREATE TEMPORARY TABLE recorded (committed BIGINT) WITH ('connector' = 'blackhole');

INSERT INTO recorded
SELECT write_control('setpoint', payload) FROM setpoint_record
UNION ALL SELECT write_control('ack', payload) FROM ack_record
UNION ALL SELECT write_control('log', payload) FROM log_record;
