"""Alerts as a pure function of evidence, rules and event time: episodes, inhibition, notifications, messages."""
