"""Every setting of the command line and the jobs, from environment variables with the prefix ENERGYAI_."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from infra.embedded import state
from infra.embedded.options import StackOptions, default_home
from jobs.errors import UserError

PREFIX = "ENERGYAI_"
MEMORY_SIZE = re.compile(r"\d+(\.\d+)?\s*(k|m|g|kb|mb|gb)", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """One setting a field; ENERGYAI_<FIELD> in the environment sets it."""

    home: Path = field(
        default_factory=default_home,
        metadata={"help": "folder of fetched parts, and of the data unless ENERGYAI_DATA_DIR is set"},
    )
    data_dir: Path | None = field(
        default=None, metadata={"help": "the embedded stack's folder: databases, logs, checkpoints; default HOME/data"}
    )
    kafka: str | None = field(
        default=None,
        metadata={"help": "bootstrap servers of an external Kafka (host:port,…); no embedded one is started"},
    )
    database_url: str | None = field(
        default=None, metadata={"help": "libpq URL of an external TimescaleDB; no embedded one is started"}
    )
    flink_url: str | None = field(
        default=None, metadata={"help": "REST address of an external Flink cluster; no embedded one is started"}
    )
    kafka_port: int = field(default=0, metadata={"help": "port of the embedded Kafka; 0 chooses a free one"})
    database_port: int = field(default=0, metadata={"help": "port of the embedded TimescaleDB; 0 chooses a free one"})
    flink_port: int = field(
        default=0, metadata={"help": "port of the embedded Flink's Web UI and REST API; 0 chooses a free one"}
    )
    flink_memory: str = field(
        default="2g", metadata={"help": "size of the embedded TaskManager's process, such as 2g or 4096m"}
    )
    flink_slots: int = field(
        default=0, metadata={"help": "task slots of the embedded TaskManager; 0 keeps flink-conf.yaml's"}
    )
    partitions: int = field(default=4, metadata={"help": "partitions of topics that are created"})
    java_home: Path | None = field(
        default=None, metadata={"help": "a Java 17 or 21 to use instead of the one from packages"}
    )
    node: Path | None = field(
        default=None, metadata={"help": "a node binary (22 or newer) to use instead of the one from packages"}
    )
    debug: bool = field(default=False, metadata={"help": "1 shows the traceback of an error"})

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, data_dir: Path | None = None) -> Self:
        """Settings of an environment (default: this process's); `data_dir` (a `--data-dir` option) wins over it.

        Raises:
            UserError: a value that is no number, size or folder where one is needed.
        """
        environ = os.environ if environ is None else environ
        values = {}
        for each in fields(cls):
            text = environ.get(PREFIX + each.name.upper(), "").strip()
            if text:
                values[each.name] = _parse(each.name, str(each.type), text)
        settings = cls(**values)
        if not MEMORY_SIZE.fullmatch(settings.flink_memory):
            raise UserError(f"{PREFIX}FLINK_MEMORY={settings.flink_memory}: expected a size such as 2g or 4096m", 2)
        folder = data_dir or settings.data_dir or settings.home / "data"
        return replace(settings, home=settings.home.absolute(), data_dir=folder.expanduser().absolute())

    def stack_options(self) -> StackOptions:
        """The embedded stack that these settings ask for."""
        assert self.data_dir is not None, "Settings.load sets it"
        told = {"kafka": self.kafka_port, "database": self.database_port, "flink": self.flink_port}
        return StackOptions(
            data_dir=self.data_dir,
            home=self.home,
            kafka=self.kafka,
            database_url=self.database_url,
            flink_url=self.flink_url,
            ports={name: port for name, port in told.items() if port},
            memory=self.flink_memory.replace(" ", ""),
            slots=self.flink_slots,
            partitions=self.partitions,
            java_home=self.java_home,
            node=self.node,
        )


@dataclass(frozen=True)
class Addresses:
    """Where the three services are, external or embedded."""

    kafka: str
    """Bootstrap servers."""
    database_url: str
    """libpq URL, role `energyai_writer` on the embedded database."""
    flink_url: str
    """REST address."""


def addresses(settings: Settings) -> Addresses:
    """The services of a running stack; what ENERGYAI_KAFKA, _DATABASE_URL and _FLINK_URL name comes first.

    Raises:
        UserError: neither named nor running.
    """
    named = {name: getattr(settings, name) for name in ("kafka", "database_url", "flink_url")}
    if not all(named.values()):
        running = state.checked(state.read(settings.stack_options().state_file))
        if running.get("phase") != "up":
            wanted = " and ".join(PREFIX + name.upper() for name, value in named.items() if not value)
            raise UserError(f"no stack runs in {settings.data_dir}: `energyai up` first, or set {wanted}", 3)
        named = {name: value or running[name] for name, value in named.items()}
    return Addresses(**named)


def _parse(name: str, kind: str, text: str) -> Any:
    variable = PREFIX + name.upper()
    if kind.startswith("int"):
        try:
            number = int(text)
        except ValueError:
            raise UserError(f"{variable}={text}: expected a whole number", 2) from None
        limit = 65535 if name.endswith("_port") else 10_000
        if not 0 <= number <= limit or (name == "partitions" and number == 0):
            raise UserError(f"{variable}={text}: out of range", 2)
        return number
    if kind.startswith("bool"):
        if text.lower() not in ("0", "1", "true", "false", "yes", "no"):
            raise UserError(f"{variable}={text}: expected 1 or 0", 2)
        return text.lower() in ("1", "true", "yes")
    if kind.startswith("Path"):
        return Path(text).expanduser().absolute()
    return text
