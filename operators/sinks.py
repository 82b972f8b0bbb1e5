"""Thin Flink wrappers of the columnar store: a vectorised function that is done with rows when they are committed.

Flink finishes the running bundle of a Python operator before a checkpoint's barrier passes. So a row whose call has
returned is in the database, and one whose call has not is read again after a failure; the store's upserts make that
exactly once. While the database is away the call waits, and back-pressure holds the source.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
import pandas as pd
from pyflink.table import DataTypes
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from operators import forecast_messages
from operators.packing import RECORD, UNIT
from operators.pg import Session
from operators.readings import Readings
from operators.store import Store


class StoreFunction(ScalarFunction):  # type: ignore[misc]
    """A function with a connection of its own."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._store: Store | None = None

    def open(self, function_context: FunctionContext) -> None:
        self._store = Store(self._database_url)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def is_deterministic(self) -> bool:
        return False  # The planner may not call it twice, or not at all

    @property
    def store(self) -> Store:
        assert self._store is not None, "open() was called"
        return self._store


class SessionFunction(ScalarFunction):  # type: ignore[misc]
    """A function with a session of its own, for rows that are not the store's."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._session: Session | None = None

    def open(self, function_context: FunctionContext) -> None:
        self._session = Session(self._database_url)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def is_deterministic(self) -> bool:
        return False  # The planner may not call it twice, or not at all

    @property
    def session(self) -> Session:
        assert self._session is not None, "open() was called"
        return self._session


class _WriteTexts(SessionFunction):
    """Done with a text when its rows are committed."""

    def __init__(self, database_url: str, write: Callable[[Session, list[str]], None]) -> None:
        super().__init__(database_url)
        self._write = write

    def eval(self, texts: pd.Series[Any]) -> pd.Series[Any]:
        messages = [message.split(UNIT, 1)[1] for text in texts for message in text.split(RECORD)]
        if messages:
            self._write(self.session, messages)
        return texts


def write_texts(database_url: str, write: Callable[[Session, list[str]], None]) -> Any:
    """SQL function that stores texts of messages ("key US message", joined by RS), and gives them on when committed.

    Args:
        database_url: libpq URL.
        write: a module's function that writes messages in one transaction.
    """
    return udf(_WriteTexts(database_url, write), result_type=DataTypes.STRING(), func_type="pandas")


class _WriteReadings(StoreFunction):
    def eval(
        self,
        meter_id: pd.Series[Any],
        register: pd.Series[Any],
        tenant_id: pd.Series[Any],
        ts_ms: pd.Series[Any],
        kind: pd.Series[Any],
        value: pd.Series[Any],
        interval_ms: pd.Series[Any],
        revision: pd.Series[Any],
        quality: pd.Series[Any],
        received_ms: pd.Series[Any],
    ) -> pd.Series[Any]:
        if len(ts_ms):
            readings = Readings(
                meter_id.to_numpy(object),
                register.to_numpy(object),
                ts_ms.to_numpy(np.int64),
                kind.to_numpy(np.int8),
                value.to_numpy(np.float64),
                interval_ms.to_numpy(np.int64),
                revision.to_numpy(np.int64),
                quality.to_numpy(np.int8),
                tenant_id.to_numpy(object),
            )
            self.store.write_readings(readings, received_ms.to_numpy(np.int64))
        return pd.Series(np.ones(len(ts_ms), np.int64))


class _WriteRejected(StoreFunction):
    def eval(
        self,
        topic: pd.Series[Any],
        partition: pd.Series[Any],
        offset: pd.Series[Any],
        reason: pd.Series[Any],
        detail: pd.Series[Any],
        raw: pd.Series[Any],
    ) -> pd.Series[Any]:
        place = (topic.tolist(), partition.tolist(), offset.tolist())
        return pd.Series(reject(self.store, *place, reason.tolist(), detail.tolist(), raw.tolist()), dtype=object)


class _WriteForecasts(StoreFunction):
    def eval(self, messages: pd.Series[Any]) -> pd.Series[Any]:
        for forecasts in forecast_messages.read(messages):
            self.store.write_forecasts(
                forecasts.meter_id,
                forecasts.issued_at_ms,
                forecasts.step_s,
                forecasts.kwh,
                forecasts.model_id,
                forecasts.model_sha256,
                forecasts.tenant_id,
                forecasts.role,
            )
        return pd.Series([forecast_messages.sent(text) for text in messages], dtype=object)


class _WriteModelEvents(StoreFunction):
    def eval(self, events: pd.Series[Any]) -> pd.Series[Any]:
        found = [orjson.loads(event) for event in events]
        self.store.write_model_events(found)
        # "model name US message", or nothing to be sent.
        sent = [f"{event['model_name']}{UNIT}{event['message']}" if event["message"] else "" for event in found]
        return pd.Series(sent, dtype=object)


def reject(
    store: Store,
    topic: Sequence[str],
    partition: Sequence[int],
    offset: Sequence[int],
    reason: Sequence[str],
    detail: Sequence[str],
    raw: Sequence[bytes | None],
) -> list[str]:
    """Stores n records that were refused; the dead letter's message of each."""
    texts = [readable(payload) for payload in raw]
    # PostgreSQL's texts hold no NUL, so such a record stands there as base64, too.
    stored = [
        base64.b64encode(payload or b"").decode() if "\0" in text else text
        for text, payload in zip(texts, raw, strict=True)
    ]
    details = [text.replace("\0", "\\0") for text in detail]
    store.write_rejected(topic, partition, offset, reason, details, stored)
    names = ("reason", "detail", "topic", "partition", "offset", "raw")
    columns = (reason, detail, topic, partition, offset, texts)
    return [dead_letter(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def readable(payload: bytes | None) -> str:
    """A record as text: itself when it is UTF-8, else base64 (contract of `meter.readings.rejected`)."""
    content = payload or b""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return base64.b64encode(content).decode()


def dead_letter(fields: dict[str, Any]) -> str:
    """One message of `meter.readings.rejected`."""
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def write_readings(database_url: str) -> Any:
    """SQL function that stores readings and the energy that follows from them; 1 for each when they are committed."""
    return udf(_WriteReadings(database_url), result_type=DataTypes.BIGINT(), func_type="pandas")


def write_rejected(database_url: str) -> Any:
    """SQL function that stores rejected records and gives the dead letter's message for each."""
    return udf(_WriteRejected(database_url), result_type=DataTypes.STRING(), func_type="pandas")


def write_forecasts(database_url: str) -> Any:
    """SQL function that stores texts of forecasts and gives them on when they are committed."""
    return udf(_WriteForecasts(database_url), result_type=DataTypes.STRING(), func_type="pandas")


def write_model_events(database_url: str) -> Any:
    """SQL function that stores what the models' watch found, and gives the message for the topic `models`, or ''."""
    return udf(_WriteModelEvents(database_url), result_type=DataTypes.STRING(), func_type="pandas")
