"""What one embedded stack is asked to be, and where its files are."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def default_home() -> Path:
    """Where fetched parts and data are kept: `.energyai` in a checkout, `~/.energyai` for an installed package."""
    root = PROJECT_ROOT if (PROJECT_ROOT / "setup.py").is_file() else Path.home()
    return root / ".energyai"


@dataclass(frozen=True)
class StackOptions:
    """One stack: its folder, what is external, and its few sizes."""

    data_dir: Path
    """Everything that this stack writes: databases, logs, checkpoints, ports, pids."""
    home: Path = field(default_factory=default_home)
    """Fetched parts (jars, node modules), shared by all the stacks of one checkout."""
    kafka: str | None = None
    """Bootstrap servers of an external Kafka; None starts the embedded one."""
    database_url: str | None = None
    """libpq URL of an external TimescaleDB; None starts the embedded one."""
    flink_url: str | None = None
    """REST address of an external Flink cluster; None starts the embedded one."""
    ports: dict[str, int] = field(default_factory=dict)
    """Ports that the user asked for, by the names of `ports.NAMES`; the others are chosen."""
    memory: str = "2g"
    """Flink TaskManager's process size (heap, RocksDB, network), as Flink writes sizes."""
    slots: int = 0
    """TaskManager's slots; 0 keeps what flink-conf.yaml says."""
    partitions: int = 4
    """Partitions of the topics that are created."""
    java_home: Path | None = None
    """A JDK or JRE (17 or 21) to use instead of the one in the environment."""
    node: Path | None = None
    """A Node.js binary to use instead of the one in the environment."""

    @property
    def state_file(self) -> Path:
        return self.data_dir / "stack.json"

    @property
    def lock_file(self) -> Path:
        return self.data_dir / "supervisor.lock"

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"

    def save(self, path: Path) -> None:
        """Writes the options for the supervisor process to read."""
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        write_atomic(path, json.dumps(plain, indent=1))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote."""
        plain: dict[str, Any] = json.loads(path.read_text())
        for name in ("data_dir", "home", "java_home", "node"):
            plain[name] = Path(plain[name]) if plain[name] else None
        return cls(**plain)


def write_atomic(path: Path, text: str) -> None:
    """Replaces a file in one step, so that a reader never meets half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    draft.write_text(text)
    draft.replace(path)
