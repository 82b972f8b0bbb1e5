-- Rejected records: how many, for which reason, on which day of arrival, with one example.
-- Columns: day (UTC, of arrival); reason (code); records; example_detail; example_raw (its first 200 characters).
SELECT
    date_trunc('day', received_at, 'UTC') AS day,
    reason,
    count(*) AS records,
    (array_agg(detail ORDER BY topic, partition, "offset"))[1] AS example_detail,
    left((array_agg(raw ORDER BY topic, partition, "offset"))[1], 200) AS example_raw
FROM rejected_reading
GROUP BY 1, 2
ORDER BY 1, records DESC, reason;
