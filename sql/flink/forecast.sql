-- One text a shard, stored, then cut into one message a meter: Python writes long texts cheaply, and rows dearly (10 µs each).

CREATE TEMPORARY VIEW stored AS
SELECT write_forecasts(messages) AS messages FROM issued;

INSERT INTO forecasts
SELECT SPLIT_INDEX(message, U&'\001f', 0), SPLIT_INDEX(message, U&'\001f', 1)
FROM stored CROSS JOIN UNNEST(SPLIT(messages, U&'\001e')) AS t (message);

-- What the models' watch found out is stored; where it takes a champion back, that is announced.

CREATE TEMPORARY VIEW model_events_stored AS
SELECT write_model_events(events) AS messages FROM model_events;

INSERT INTO model_announcements
SELECT SPLIT_INDEX(message, U&'\001f', 0), SPLIT_INDEX(message, U&'\001f', 1)
FROM model_events_stored CROSS JOIN UNNEST(SPLIT(messages, U&'\001e')) AS t (message)
WHERE message <> '';
