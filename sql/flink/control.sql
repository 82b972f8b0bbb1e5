-- One message an output of a site's controller, to its topic.

CREATE TEMPORARY VIEW decided AS
SELECT
  SPLIT_INDEX(message, U&'\001f', 0) AS target, SPLIT_INDEX(message, U&'\001f', 1) AS record_key,
  SPLIT_INDEX(message, U&'\001f', 2) AS record_value
FROM decisions;

INSERT INTO setpoints SELECT record_key, record_value FROM decided WHERE target = 'control.setpoints';

INSERT INTO control_alerts SELECT record_key, record_value FROM decided WHERE target = 'alerts.control';

INSERT INTO control_log SELECT record_key, record_value FROM decided WHERE target = 'control.log';
