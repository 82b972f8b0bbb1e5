"""Forecasts from an exported ONNX model; needs numpy and onnxruntime, never the library that trained it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from operators import local_time
from operators.features import (
    CONTEXT_HOURS,
    FEATURE_SETS,
    HORIZON_HOURS,
    LOCAL_DATES,
    QUANTILES,
    WITH_WEATHER,
    from_phases,
    model_inputs,
    phase_issue_times,
    to_phases,
)
from operators.local_time import is_placed

SHIPPED_MODEL = Path(__file__).resolve().parent.parent / "models" / "shipped" / "forecaster.onnx"
"""The model that comes with the project; `card.json` beside it holds its checksum."""

CHUNK_ROWS = 256  # what fits the processor's cache: larger is slower
_MIN_ROWS = 8


class ModelError(RuntimeError):
    """A model file that cannot be used; the message is one line and says what to do."""


def shipped_sha256() -> str:
    """The checksum that the shipped model's card promises.

    Raises:
        ModelError: the card is missing or not readable.
    """
    return str(_shipped("sha256"))


def shipped_reference() -> str:
    """How the shipped model's inputs were distributed (`Forecaster.reference`): its file was made before files said so.

    Raises:
        ModelError: the card is missing or not readable.
    """
    return json.dumps(_shipped("reference"))


def _shipped(field: str) -> Any:
    card = SHIPPED_MODEL.with_name("card.json")
    try:
        return json.loads(card.read_text(encoding="utf-8"))[field]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model card {card} is unreadable: check the project out again") from error


class Forecaster:
    """A loaded model. Safe to share between threads; one instance a worker is enough."""

    def __init__(self, session: Any, sha256: str) -> None:
        metadata = session.get_modelmeta().custom_metadata_map
        self._session = session
        self.sha256 = sha256
        self.model_id = str(metadata["model_id"])
        self.feature_set = str(metadata["feature_set"])
        self.reference = str(metadata.get("reference", ""))
        """How the inputs that it was trained on are distributed, JSON of `operators.serving.drift`, or ""."""

    @property
    def reads_weather(self) -> bool:
        """Whether it has inputs for it."""
        return self.feature_set == WITH_WEATHER

    @classmethod
    def load(cls, path: str | Path = SHIPPED_MODEL, sha256: str | None = None) -> Self:
        """Reads, verifies and compiles a model.

        Args:
            path: the ONNX file.
            sha256: the checksum it must have, hexadecimal; None accepts any.

        Raises:
            ModelError: missing file, another checksum, not an ONNX model, or a model made for other features.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            reason = error.strerror or "cannot be read"
            raise ModelError(f"model {path}: {reason}; name an ONNX file that exists and can be read") from error
        return cls.from_bytes(content, sha256, f"model {path}")

    @classmethod
    def from_bytes(cls, content: bytes, sha256: str | None = None, name: str = "model") -> Self:
        """A model from the bytes of its file, as a job carries it to its workers; otherwise as `load`.

        Raises:
            ModelError: as `load`; `name` begins the message.
        """
        found = hashlib.sha256(content).hexdigest()
        if sha256 is not None and found != sha256.lower():
            raise ModelError(
                f"{name}: SHA-256 is {found[:12]}…, expected {sha256[:12]}…; "
                "the file was changed or damaged: restore it, or give the checksum of the file you mean"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            # What is compiled is what was hashed: the bytes, not the path.
            session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's error classes share no base but Exception
            raise ModelError(f"{name}: not a usable ONNX model; restore it or export it again") from error
        metadata = session.get_modelmeta().custom_metadata_map
        feature_set = metadata.get("feature_set", "none")
        if feature_set not in FEATURE_SETS or "model_id" not in metadata:
            raise ModelError(
                f"{name}: made for features '{feature_set}', this version has {', '.join(FEATURE_SETS)}; "
                "train it again with `energyai train`"
            )
        return cls(session, found)

    def predict(
        self,
        history: NDArray[Any],
        issued_at_ms: NDArray[np.int64] | int,
        step_s: int,
        utc_offset_s: NDArray[np.int64] | int = 0,
        zones: Sequence[str] | str | None = None,
        weather: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Forecasts the 24 hours from `issued_at_ms`.

        A row's result does not depend on the rows beside it. Steps shorter than an hour are forecast a phase of the
        hour each (the slots at :00, at :15, …), by the same model. A meter with no known value is forecast as zero:
        ask `has_context` first.

        Args:
            history: [m, 168 * k] kWh of each step, k = 3600 / step_s, oldest first, NaN = missing.
            issued_at_ms: [m] or one for all; epoch ms, UTC: the end of the newest step.
            step_s: seconds of a step; divides 3600.
            utc_offset_s: [m] or one for all; seconds that local time is ahead of UTC, 0 when unknown.
            zones: [m] or one for all; IANA time zones of the meters, which say the offset (in place of
                `utc_offset_s`), the season and the public holidays. "" or UTC: the place is unknown.
            weather: [m, 192, 2] as known at issue (`operators.weather.Weather.known`), for a model that
                `reads_weather`; NaN, or None for all: not known.

        Returns:
            [m, 9, 24 * k] kWh of each step, finite; quantiles 0.1 to 0.9, non-decreasing.

        Raises:
            ValueError: the shape of `history` does not fit `step_s`, or there is no such zone.
        """
        per_hour, rest = divmod(3600, step_s) if step_s > 0 else (0, 1)
        if rest or history.ndim != 2 or history.shape[1] != CONTEXT_HOURS * per_hour:
            raise ValueError(f"history {history.shape} does not hold {CONTEXT_HOURS} hours of {step_s} s steps")
        meters = len(history)
        issued = np.broadcast_to(np.asarray(issued_at_ms, dtype=np.int64), (meters,))
        places = _Places.of(zones, meters)
        offset = np.broadcast_to(np.asarray(utc_offset_s, dtype=np.int64), (meters,))
        if places is not None:
            offset = places.offsets(issued)
        if weather is not None and not self.reads_weather:
            weather = None
        result = np.empty((meters, len(QUANTILES), HORIZON_HOURS * per_hour), dtype=np.float32)
        size = max(1, CHUNK_ROWS // per_hour)
        for start in range(0, meters, size):
            part = slice(start, start + size)
            where = None if places is None else places.take(part, per_hour)
            sky = None if weather is None else np.repeat(weather[part], per_hour, axis=0)
            if per_hour == 1:
                self._hourly(history[part], issued[part], offset[part], where, sky, result[part])
            else:
                phases = to_phases(history[part], per_hour)
                hourly = np.empty((len(phases), len(QUANTILES), HORIZON_HOURS), dtype=np.float32)
                times = phase_issue_times(issued[part], per_hour)
                self._hourly(phases, times, np.repeat(offset[part], per_hour), where, sky, hourly)
                result[part] = from_phases(hourly, per_hour)
        return result

    def _hourly(
        self,
        history: NDArray[Any],
        issued: NDArray[np.int64],
        offset: NDArray[np.int64],
        places: _Places | None,
        weather: NDArray[np.float32] | None,
        out: NDArray[np.float32],
    ) -> None:
        rows = len(history)
        holidays, placed = (None, None) if places is None else places.calendar(issued, offset)
        inputs, scale = model_inputs(history, issued, offset, holidays, placed, self.feature_set, weather)
        if rows < _MIN_ROWS:
            # Matrix products of one or few rows take other kernels, which round otherwise: keep to one kind.
            inputs = {name: np.pad(value, ((0, _MIN_ROWS - rows), (0, 0))) for name, value in inputs.items()}
        (normalised,) = self._session.run(["quantiles"], inputs)
        np.multiply(normalised[:rows], scale.astype(np.float32)[:, None, None], out=out)


@dataclass(frozen=True)
class _Places:
    """Time zones of m rows: few names, and each row's number among them."""

    names: list[str]
    row: NDArray[np.intp]

    @classmethod
    def of(cls, zones: Sequence[str] | str | None, meters: int) -> Self | None:
        """None when no row has a place."""
        if zones is None:
            return None
        names, row = np.unique(np.broadcast_to(np.asarray(zones, dtype=np.str_), (meters,)), return_inverse=True)
        found = [str(name) for name in names]
        return cls(found, row) if any(map(is_placed, found)) else None

    def take(self, part: slice, repeats: int) -> _Places:
        return _Places(self.names, np.repeat(self.row[part], repeats))

    def offsets(self, at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        offset = np.zeros(len(self.row), dtype=np.int64)
        for number, name in enumerate(self.names):
            rows = self.row == number
            offset[rows] = local_time.utc_offset_s(name, at_ms[rows])
        return offset

    def calendar(
        self, at_ms: NDArray[np.int64], offset_s: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Holidays [m, LOCAL_DATES], and which rows have a place [m]."""
        flags = np.zeros((len(self.row), LOCAL_DATES), dtype=np.bool_)
        placed = np.zeros(len(self.row), dtype=np.bool_)
        for number, name in enumerate(self.names):
            if is_placed(name):
                rows = self.row == number
                flags[rows] = local_time.holiday_flags(name, at_ms[rows], offset_s[rows])
                placed[rows] = True
        return flags, placed
