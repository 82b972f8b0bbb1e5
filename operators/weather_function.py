"""Thin Flink wrapper: records of the topic `weather` into the database, or the dead letter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pyflink.table import DataTypes
from pyflink.table.udf import udf

from operators.sinks import StoreFunction, reject
from operators.weather import Report, WeatherError
from operators.weather_rows import store


class _WriteWeather(StoreFunction):
    def eval(
        self, topic: pd.Series[Any], partition: pd.Series[Any], offset: pd.Series[Any], payload: pd.Series[Any]
    ) -> pd.Series[Any]:
        reports, letters = [], [""] * len(payload)
        refused: dict[int, WeatherError] = {}
        for row, content in enumerate(payload):
            try:
                reports.append(Report.of_message(content))
            except WeatherError as error:
                refused[row] = error
        store(self.store.session, reports)
        if refused:
            rows = np.array(list(refused), np.int64)
            topics, partitions, offsets, raw = (c.iloc[rows].tolist() for c in (topic, partition, offset, payload))
            codes = [error.code for error in refused.values()]
            details = [str(error) for error in refused.values()]
            told = reject(self.store, topics, partitions, offsets, codes, details, raw)
            for row, letter in zip(refused, told, strict=True):
                letters[row] = letter
        return pd.Series(letters, dtype=object)


def write_weather(database_url: str) -> Any:
    """SQL function that stores weather: '' when its row is committed, else the dead letter's message, stored too."""
    return udf(_WriteWeather(database_url), result_type=DataTypes.STRING(), func_type="pandas")
