"""What kafka-python must be told so that it reads whatever the topics may hold."""

ANSWER_MAX_BYTES = 64 * 1024 * 1024
"""The largest answer of a broker: the fetch limit (50 MiB over all partitions) with room for one message beyond it.
kafka-python's own default of 1,000,000 refuses what its default fetch size asks for."""
