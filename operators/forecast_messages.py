"""Forecasts as texts: what the topic `forecasts` carries, many to a text on the way through the JVM.

After a GS come those of models that are scored beside the champion: stored, and sent to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from operators.features import QUANTILES
from operators.packing import RECORD, UNIT
from operators.shard import Due

SHADOW = "\x1d"
"""GS, the ASCII group separator: what follows it in a text is stored only."""
QUANTILE_NAMES = [f"q{round(100 * q)}" for q in QUANTILES]


@dataclass(frozen=True)
class Forecasts:
    """Columns of m forecasts with one number of steps, by one model."""

    meter_id: list[str]
    tenant_id: list[str]
    issued_at_ms: NDArray[np.int64]
    step_s: NDArray[np.int64]
    kwh: NDArray[np.float32]
    """[m, 9, steps]"""
    model_id: str
    model_sha256: str
    role: str = ""
    """Of a model that is scored beside the champion: challenger or previous."""


def write(due: Due, kwh: NDArray[np.float32], model_id: str, model_sha256: str, role: str = "") -> str:
    """The messages of one set of forecasts: "key US value" joined by RS.

    Args:
        due: for which m meters.
        kwh: [m, 9, steps] kWh of each step.
        model_id, model_sha256: the model.
        role: of one that is scored beside the champion.
    """
    at = f"{np.datetime64(due.issued_at_ms, 'ms')}Z"
    texts = []
    for meter_id, tenant_id, quantiles in zip(due.meter_id, due.tenant_id, kwh, strict=True):
        value = {
            "meter_id": meter_id,
            "tenant_id": tenant_id,
            "issued_at": at,
            "target_start": at,
            "step_s": due.step_s,
            "kwh": dict(zip(QUANTILE_NAMES, quantiles, strict=True)),
            "model_id": model_id,
            "model_sha256": model_sha256,
            **({"role": role} if role else {}),
        }
        texts.append(meter_id + UNIT + orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode())
    return RECORD.join(texts)


def join(issued: Sequence[str], shadows: Sequence[str]) -> str:
    """One text of what `write` gave: what is sent, and what is only stored."""
    return RECORD.join(issued) + (SHADOW + RECORD.join(shadows) if shadows else "")


def sent(text: str) -> str:
    """The part of a text that goes to the topic; may be empty."""
    return text.partition(SHADOW)[0]


def read(texts: Iterable[str]) -> Iterator[Forecasts]:
    """The forecasts in such texts, those of one model, role and number of steps together, bit by bit."""
    groups: dict[tuple[str, str, str, int], list[dict[str, object]]] = {}
    for text in texts:
        for message in text.replace(SHADOW, RECORD).split(RECORD):
            if not message:
                continue
            value = orjson.loads(message.partition(UNIT)[2])
            steps = len(value["kwh"][QUANTILE_NAMES[0]])
            key = (value["model_id"], value["model_sha256"], value.get("role", ""), steps)
            groups.setdefault(key, []).append(value)
    for (model_id, model_sha256, role, _), values in groups.items():
        yield Forecasts(
            [str(value["meter_id"]) for value in values],
            [str(value["tenant_id"]) for value in values],
            np.array([str(value["issued_at"]).rstrip("Z") for value in values], "datetime64[ms]").astype(np.int64),
            np.array([value["step_s"] for value in values], np.int64),
            np.array([list(value["kwh"].values()) for value in values], np.float32),  # type: ignore[attr-defined]
            model_id,
            model_sha256,
            role,
        )
