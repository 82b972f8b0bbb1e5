-- One text a look at a site, stored, then cut into one message a change of an alert.

CREATE TEMPORARY VIEW stored_alerts AS
SELECT write_alerts(messages) AS messages FROM raised;

INSERT INTO alerts
SELECT SPLIT_INDEX(message, U&'\001f', 0), SPLIT_INDEX(message, U&'\001f', 1)
FROM stored_alerts CROSS JOIN UNNEST(SPLIT(messages, U&'\001e')) AS t (message);
