"""Ports of one stack on 127.0.0.1: told or free, chosen once, kept in the data folder, used again when free."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from infra.embedded.errors import StackError
from infra.embedded.options import write_atomic

HOST = "127.0.0.1"
NAMES = (
    "kafka",
    "kafka-controller",
    "database",
    "zookeeper",
    "flink",
    "jobmanager-metrics",
    "taskmanager-metrics",
    "supervisor-metrics",
)
# Below the kernel's ephemeral range (32768 and up): the port of a part that is down for a moment cannot be taken
# meanwhile by some program's outgoing connection.
CHOICE = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of 127.0.0.1 now."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        # As the servers do: a port in TIME_WAIT may be used again, one that somebody listens on may not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def choose(taken: Iterable[int] = (), free: Callable[[int], bool] = is_free) -> int:
    """A free port that is not among `taken`.

    Random, so that two stacks that choose at the same moment do not both take the first one.

    Raises:
        StackError: none of many candidates is free.
    """
    blocked = set(taken)
    for port in random.sample(CHOICE, 500):
        if port not in blocked and free(port):
            return port
    raise StackError(f"no free port between {CHOICE.start} and {CHOICE.stop}: stop something, or name ports yourself")


def assign(
    kept: Mapping[str, int], told: Mapping[str, int], names: Iterable[str], free: Callable[[int], bool] = is_free
) -> dict[str, int]:
    """A port for each of `names`: the told one, else the kept one when it is free, else a new one.

    Raises:
        StackError: a told port is in use, is told twice, or its name is unknown.
    """
    names = list(names)
    for name, port in told.items():
        if name not in NAMES:
            raise StackError(f"unknown port name {name!r}: use one of {', '.join(NAMES)}")
        if name in names and not free(port):
            raise StackError(f"port {port} (for {name}) is in use: stop what listens there, or choose another port")
    if len(set(told.values())) < len(told):
        raise StackError(f"one port is given to two parts: {dict(told)}")
    ports: dict[str, int] = {name: told[name] for name in names if name in told}
    for name in names:
        if name in ports:
            continue
        old = kept.get(name)
        if old is not None and old not in ports.values() and free(old):
            ports[name] = old
        else:
            ports[name] = choose([*ports.values(), *kept.values()], free)
    return ports


def load_or_assign(path: Path, told: Mapping[str, int], names: Iterable[str]) -> dict[str, int]:
    """`assign`, with the kept ports read from and written to the JSON file `path`."""
    try:
        kept = {str(k): int(v) for k, v in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        kept = {}  # first start, or a file that a crash cut short: new ports do no harm
    ports = assign(kept, told, names)
    write_atomic(path, json.dumps({**kept, **ports}, indent=1))
    return ports
