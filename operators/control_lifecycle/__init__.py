"""What happens to setpoints after they are planned, and what comes in besides forecasts: all by event time.

`issue` (ids, supersession, renewal), `ack_loop` and `tracking` (answers, re-issue, exclusion, deviation), `dr_events`,
`dr_book` and `timeline` (OpenADR 3 style events as constraints over time), `overrides` (a manager's hand), `receipts`
(what a setpoint was made from). Pure: no clock, no Kafka, no Flink; every state is JSON.
"""
