"""Delivery of alerts: topic `alerts` → outbox (table `webhook_delivery`) → receivers. No part of a Flink job."""
