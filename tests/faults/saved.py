"""A savepoint of an earlier version of the jobs in one file, with the records around it and what it had done."""

from __future__ import annotations

import base64
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import orjson

from jobs.replay.batch import KIND_NAMES, QUALITY_NAMES, Batch, batch
from tests.faults.traffic import Record

FILE = Path(__file__).parent / "fixtures" / "savepoint.tar.gz"
PREFIX = "upgrade-"
"""Of the topics, whose names are in the savepoint."""
FACTS = "facts.json"
_KINDS = {name: kind for kind, name in KIND_NAMES.items()}
_QUALITIES = {name: quality for quality, name in QUALITY_NAMES.items()}


@dataclass(frozen=True)
class Saved:
    """What the file has beside the savepoints themselves, which are folders `ingest` and `forecast` in it."""

    seed: int
    version: str
    """Of the jobs that wrote it."""
    records: list[Record]
    """All of them in the order in which they were sent; the offsets in the savepoint count these."""
    before: int
    """How many of them were on the topic when the jobs were stopped."""
    stored: list[tuple[str, str, int]]
    """Readings (meter, register, ts in ms) that job ingest had stored by then."""
    issued: list[tuple[str, int]]
    """Forecasts (meter, issued at in ms) that job forecast had issued by then."""

    def write(self, path: Path, savepoints: dict[str, Path]) -> None:
        """Packs this and the folders of the savepoints, by job."""
        facts = {
            **{name: getattr(self, name) for name in ("seed", "version", "before", "stored", "issued")},
            "records": [
                (record.partition, record.key.decode(), base64.b64encode(record.value).decode())
                for record in self.records
            ],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz", compresslevel=9) as archive:
            content = orjson.dumps(facts)
            entry = tarfile.TarInfo(FACTS)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            for job, folder in savepoints.items():
                archive.add(folder, job, filter=_anonymous)

    @classmethod
    def unpack(cls, path: Path, folder: Path) -> Self:
        """Reads the facts, and puts the savepoints into `folder`/ingest and `folder`/forecast."""
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        facts: dict[str, Any] = orjson.loads((folder / FACTS).read_bytes())
        records = [Record(at, key.encode(), base64.b64decode(value)) for at, key, value in facts.pop("records")]
        stored = [tuple(each) for each in facts.pop("stored")]
        issued = [tuple(each) for each in facts.pop("issued")]
        return cls(**facts, records=records, stored=stored, issued=issued)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def to_batch(records: list[Record]) -> Batch:
    """The columns of records that are all readings."""
    rows = [orjson.loads(record.value) for record in records]

    def texts(name: str) -> Any:
        return np.array([row.get(name) or "" for row in rows], object)

    def numbers(name: str) -> Any:
        return np.array([row.get(name) or 0 for row in rows], np.int64)

    return batch(
        texts("meter_id"),
        numbers("ts"),
        np.array([row["value"] for row in rows], np.float64),
        kind=np.array([_KINDS[row["kind"]] for row in rows], np.int8),
        unit=texts("unit"),
        interval_s=numbers("interval_s"),
        register=texts("register"),
        revision=numbers("revision"),
        quality=np.array([_QUALITIES[row.get("quality") or "measured"] for row in rows], np.int8),
    )
