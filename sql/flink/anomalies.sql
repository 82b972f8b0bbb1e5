-- One text a shard and window, stored, then cut into one message an anomaly.

CREATE TEMPORARY VIEW stored_anomalies AS
SELECT write_anomalies(messages) AS messages FROM found;

INSERT INTO anomalies
SELECT SPLIT_INDEX(message, U&'\001f', 0), SPLIT_INDEX(message, U&'\001f', 1)
FROM stored_anomalies CROSS JOIN UNNEST(SPLIT(messages, U&'\001e')) AS t (message);
