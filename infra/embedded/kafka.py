"""The embedded Kafka: one KRaft broker and controller in one process, formatted once."""

from __future__ import annotations

import base64
import socket
import struct
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

from infra.embedded import artifacts, logging_config
from infra.embedded.errors import StackError
from infra.embedded.keeper import Part
from infra.embedded.options import StackOptions
from infra.embedded.ports import HOST
from infra.embedded.processes import Command

HEAP = "-Xmx384m"
API_VERSIONS = 18
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # Topics have contracts: a typing error must not create one.
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # An exactly-once job that is stopped keeps its last transaction open until it is resumed from its checkpoint: a
    # laptop that was closed for a long weekend must still be able to commit it.
    "transaction.max.timeout.ms": str(7 * 24 * 3600 * 1000),
    "offsets.retention.minutes": str(30 * 24 * 60),
    "group.initial.rebalance.delay.ms": "0",
    # A dead letter carries its record in base64, a third longer: topics set their own, smaller limits.
    "message.max.bytes": str(4 * 1024 * 1024),
    "log.segment.bytes": str(128 * 1024 * 1024),
    "log.index.size.max.bytes": str(2 * 1024 * 1024),
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
    # Flink's idle producers and long pauses of a debugger should not lose their connection.
    "connections.max.idle.ms": str(3600 * 1000),
}


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """The broker's configuration file."""
    own = {
        "log.dirs": str(data),
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
    }
    # A properties file reads a backslash as an escape.
    return "".join(f"{k}={v.replace(chr(92), chr(92) * 2)}\n" for k, v in {**SETTINGS, **own}.items())


def answers(port: int, timeout_s: float = 2.0) -> bool:
    """Whether a broker on `port` answers an ApiVersions request (Kafka protocol, version 0)."""
    request = struct.pack(">hhih", API_VERSIONS, 0, 1, -1)
    with suppress(OSError, struct.error), socket.create_connection((HOST, port), timeout_s) as link:
        link.settimeout(timeout_s)
        link.sendall(struct.pack(">i", len(request)) + request)
        answer = link.recv(10)
        _, correlation, error = struct.unpack(">iih", answer)
        return bool(correlation == 1 and error == 0)
    return False


def part(options: StackOptions, ports: dict[str, int]) -> Part:
    """The broker as a part of the stack."""
    folder = options.data_dir / "kafka"
    java = artifacts.java_home(options.java_home) / "bin" / "java"
    jars = options.home / "parts" / "kafka" / "*"
    temp = options.data_dir / "tmp"
    base = [str(java), "-XX:-UsePerfData", f"-Djava.io.tmpdir={temp}", "-cp", str(jars)]
    properties = folder / "server.properties"

    def format_once() -> None:
        if (folder / "data" / "meta.properties").is_file():
            return
        # One in 64 of these begins with a dash, which the tool takes for an option.
        cluster_id = "e" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        flags = ["-XX:TieredStopAtLevel=1", "-Xmx128m", *base[1:]]
        command = [base[0], *flags, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id]
        done = subprocess.run([*command, "-c", str(properties)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"Kafka's folder {folder} cannot be formatted: {(done.stderr or done.stdout)[-300:]}")

    def command() -> Command:
        folder.mkdir(parents=True, exist_ok=True)
        properties.write_text(server_properties(folder / "data", ports["kafka"], ports["kafka-controller"]))
        log4j = logging_config.write(folder / "log4j2.properties", options.logs / "kafka.log")
        format_once()
        heap = [HEAP, "-Xms96m", "-XX:+UseSerialGC", "-XX:MaxMetaspaceSize=128m", "-XX:+ExitOnOutOfMemoryError"]
        argv = [base[0], *heap, f"-Dlog4j2.configurationFile={log4j.as_uri()}", *base[1:]]
        return Command([*argv, "kafka.Kafka", str(properties)])

    return Part(name="kafka", port=ports["kafka"], command=command, healthy=lambda: answers(ports["kafka"]))
