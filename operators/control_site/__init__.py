"""One site under control: what comes in (`feeds`), what its meters and devices say (`live`, `assets`), what was
(`past`), and what follows from it (`controller`). Pure: told every time, no clock, no Kafka, no Flink; every state
is JSON.
"""
