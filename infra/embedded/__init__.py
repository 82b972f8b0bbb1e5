"""Kafka, TimescaleDB and Flink on one machine, from packages alone, kept running by one supervisor process."""
