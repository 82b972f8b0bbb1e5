"""Thin Flink wrapper: records of the topic `weather` into the database, or the dead letter."""

from __future__ import annotations

import base64
from typing import Any

import pandas as pd
from pyflink.table import DataTypes
from pyflink.table.udf import udf

from operators.sinks import StoreFunction, dead_letter, readable
from operators.weather import Report, WeatherError
from operators.weather_rows import store


class _WriteWeather(StoreFunction):
    def eval(
        self, topic: pd.Series[Any], partition: pd.Series[Any], offset: pd.Series[Any], payload: pd.Series[Any]
    ) -> pd.Series[Any]:
        reports, refused, letters = [], [], []
        for place in zip(topic, partition, offset, payload, strict=True):
            try:
                reports.append(Report.of_message(place[3]))
                letters.append("")
            except WeatherError as error:
                refused.append((*place, error))
                letters.append(_letter(*place, error))
        store(self.store.session, reports)
        if refused:
            topics, partitions, offsets, raw, errors = zip(*refused, strict=True)
            texts = [readable(content) for content in raw]
            # PostgreSQL's texts hold no NUL, so such a record stands there as base64.
            texts = [
                base64.b64encode(content).decode() if "\0" in text else text
                for text, content in zip(texts, raw, strict=True)
            ]
            codes, details = [error.code for error in errors], [str(error) for error in errors]
            self.store.write_rejected(topics, partitions, offsets, codes, details, texts)
        return pd.Series(letters, dtype=object)


def _letter(topic: str, partition: int, offset: int, raw: bytes | None, error: WeatherError) -> str:
    names = ("reason", "detail", "topic", "partition", "offset", "raw")
    return dead_letter(
        dict(zip(names, (error.code, str(error), topic, int(partition), int(offset), readable(raw)), strict=True))
    )


def write_weather(database_url: str) -> Any:
    """SQL function that stores weather: '' when its row is committed, else the dead letter's message, stored too."""
    return udf(_WriteWeather(database_url), result_type=DataTypes.STRING(), func_type="pandas")
