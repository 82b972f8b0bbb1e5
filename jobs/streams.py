"""Streams between SQL and Python that stay on the JVM for as long as they can."""

from __future__ import annotations

from typing import Any


def keyed(t_env: Any, query: str, types: list[Any]) -> Any:
    """Rows of an append-only query, keyed, as a pyflink KeyedStream.

    PyFlink's own `key_by` asks Python for the key: each text would cross to Python twice. Keys and their state are the
    same as its.

    Args:
        t_env: a pyflink TableEnvironment.
        query: SELECT of two columns: the key, INT, and a ROW of what Python is handed.
        types: pyflink types of that ROW's fields.
    """
    from pyflink.common.typeinfo import Types
    from pyflink.datastream.data_stream import KeyedStream
    from pyflink.java_gateway import get_gateway

    columns = Types.ROW(types)
    stream = t_env.to_append_stream(t_env.sql_query(query), Types.ROW([Types.INT(), columns]))
    by_key = stream._j_data_stream.keyBy(
        get_gateway().jvm.KeyByKeySelector(), Types.ROW([Types.INT()]).get_java_type_info()
    )
    return KeyedStream(by_key, columns, stream)


def shard_texts(t_env: Any, view: str) -> Any:
    """`shard_texts` or `raw_texts` of jobs/tables.py, keyed by shard: (shard, time in epoch ms, series, numbers)."""
    from pyflink.common.typeinfo import Types

    query = f"SELECT shard, ROW(shard, at_ms, series, numbers) FROM {view}"
    return keyed(t_env, query, [Types.INT(), Types.LONG(), Types.STRING(), Types.STRING()])
