"""The embedded Flink session cluster: configuration, folders, and ZooKeeper, JobManager and TaskManager as parts.

Flink's own distribution is used as the Python package brings it. Its start scripts are not: they start two more JVMs
to compute memory sizes, and break on a folder with a space in its name.

Open-source Flink recovers jobs of a lost JobManager only with ZooKeeper or Kubernetes; the distribution carries a
ZooKeeper server, which runs here with 48 MB, so every job, however it was submitted, comes back from its checkpoint.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from infra.embedded import artifacts, logging_config, timescaledb, web_ui
from infra.embedded.errors import StackError
from infra.embedded.keeper import Part
from infra.embedded.options import PROJECT_ROOT, StackOptions, write_atomic
from infra.embedded.ports import HOST
from infra.embedded.processes import Command

CONFIG = PROJECT_ROOT / "flink-conf.yaml"
UPLOADED_AS = "00000000-0000-4000-8000-000000000000"
"""The Web UI lists `<id>_<name>` jars; a fixed id keeps the address of flink-python's jar the same."""
MEMORY_CLASS = "org.apache.flink.runtime.util.bash.BashJavaUtils"
MASTER_CLASS = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
WORKER_CLASS = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
ZOOKEEPER_CLASS = "org.apache.flink.shaded.zookeeper3.org.apache.zookeeper.server.ZooKeeperServerMain"


class Cluster:
    """Folders and configuration of one embedded cluster."""

    def __init__(self, options: StackOptions, ports: Mapping[str, int]) -> None:
        self.options = options
        self.ports = ports
        self.folder = options.data_dir / "flink"
        self.conf = self.folder / "conf"
        self.lib = self.folder / "lib"
        self.web = self.folder / "web"
        self.java = artifacts.java_home(options.java_home)
        self.home = artifacts.flink_home()
        self.temp = options.data_dir / "tmp"

    def config(self) -> dict[str, Any]:
        """flink-conf.yaml and what only this run knows: addresses, folders, memory."""
        return {**read_config(), **self._own_config()}

    def _own_config(self) -> dict[str, Any]:
        if self.options.flink_url:
            address = urlsplit(self.options.flink_url)
            if not address.hostname:
                raise StackError(
                    f"ENERGYAI_FLINK_URL={self.options.flink_url}: expected an address such as http://host:8081"
                )
            # Folders and the workers' Python are the external cluster's own.
            return {
                "rest.address": address.hostname,
                "rest.port": address.port or (443 if address.scheme == "https" else 80),
                "security.ssl.rest.enabled": address.scheme == "https",
                "python.client.executable": sys.executable,
            }
        own: dict[str, Any] = {
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
            "jobmanager.rpc.address": HOST,
            "jobmanager.bind-host": HOST,
            "taskmanager.host": HOST,
            "taskmanager.bind-host": HOST,
            "rest.address": HOST,
            "rest.bind-address": HOST,
            "rest.port": self.ports["flink"],
            "rest.bind-port": str(self.ports["flink"]),
            "web.upload.dir": str(self.web),
            "web.tmpdir": str(self.temp),
            "io.tmp.dirs": str(self.temp),
            "env.log.dir": str(self.options.logs),
            "execution.checkpointing.dir": (self.folder / "checkpoints").as_uri(),
            "execution.checkpointing.savepoint-dir": (self.folder / "savepoints").as_uri(),
            "taskmanager.memory.process.size": self.options.memory,
        }
        if self.options.slots:
            own["taskmanager.numberOfTaskSlots"] = self.options.slots
        return own

    def prepare(self) -> None:
        """Writes the configuration, the folder of jars, the Web UI's jar and the `flink` wrapper."""
        for folder in (self.conf, self.lib, self.web / "flink-web-upload", self.options.logs):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.conf / "config.yaml", yaml.safe_dump(self.config(), width=10_000, sort_keys=True))
        for name in ("log4j-cli.properties", "log4j-session.properties"):
            shutil.copyfile(self.home / "conf" / name, self.conf / name)
        self._link_jars()
        # `bin/flink` is for people: it sets what the cluster's own processes get, then runs Flink's script.
        exports = "".join(f"export {k}={shell_quote(v)}\n" for k, v in self.env().items() if k != "PATH")
        wrapper = self.folder / "bin" / "flink"
        wrapper.parent.mkdir(exist_ok=True)
        write_atomic(wrapper, f'#!/bin/sh\n{exports}exec {shell_quote(str(self.home / "bin" / "flink"))} "$@"\n')
        wrapper.chmod(0o755)

    def _link_jars(self) -> None:
        python_jar = next((self.home / "opt").glob("flink-python-*.jar"))
        wanted = [
            *(self.home / "lib").glob("*.jar"),
            python_jar,
            *(self.options.home / "parts" / "flink").glob("*.jar"),
        ]
        page = web_ui.build(self._dist_jar(), self.folder / "web-ui")
        if page:
            wanted.append(page)
        for old in self.lib.iterdir():
            old.unlink()
        for jar in wanted:
            (self.lib / jar.name).symlink_to(jar)
        listed = self.web / "flink-web-upload" / f"{UPLOADED_AS}_{python_jar.name}"
        if not listed.is_file() or listed.stat().st_size != python_jar.stat().st_size:
            shutil.copyfile(python_jar, listed)

    def env(self) -> dict[str, str]:
        """Environment of the cluster's processes and of its clients."""
        python_path = [str(PROJECT_ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        return {
            "JAVA_HOME": str(self.java),
            "FLINK_HOME": str(self.home),
            "FLINK_CONF_DIR": str(self.conf),
            "FLINK_LIB_DIR": str(self.lib),
            "FLINK_OPT_DIR": str(self.home / "opt"),
            "FLINK_PLUGINS_DIR": str(self.home / "plugins"),
            "FLINK_LOG_DIR": str(self.options.logs),
            # The workers import jobs, operators and models; a checkout need not be installed for that.
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(python_path)),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYFLINK_CLIENT_EXECUTABLE": sys.executable,
            "TMPDIR": str(self.temp),
            **self._addresses(),
        }

    def _addresses(self) -> dict[str, str]:
        """What the jobs' options are when none are given, under `flink run` and in the Web UI as well."""
        kafka = self.options.kafka or (f"{HOST}:{self.ports['kafka']}" if "kafka" in self.ports else "")
        own = timescaledb.url(self.ports["database"], "energyai_writer") if "database" in self.ports else ""
        return {"ENERGYAI_KAFKA": kafka, "ENERGYAI_DATABASE_URL": self.options.database_url or own}

    def jvm(self, role: str) -> tuple[list[str], list[str]]:
        """JVM flags and `-D` arguments that carry Flink's memory model for `JM` or `TM`.

        Flink computes them itself (as its start scripts let it); the answer is kept for as long as the configuration
        stays the same.
        """
        text = (self.conf / "config.yaml").read_bytes() + str(self.home).encode()
        kept = self.conf / f"memory-{role}-{hashlib.sha256(text).hexdigest()[:16]}.json"
        if not kept.is_file():
            for old in self.conf.glob(f"memory-{role}-*.json"):
                old.unlink()
            classpath = f"{self.home / 'bin' / 'bash-java-utils.jar'}{os.pathsep}{self._dist_jar()}"
            java = [str(self.java / "bin" / "java"), "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:-UsePerfData"]
            command = [*java, "-cp", classpath, MEMORY_CLASS, f"GET_{role}_RESOURCE_PARAMS", "--configDir"]
            done = subprocess.run([*command, str(self.conf)], capture_output=True, text=True, check=False)
            lines = [x.partition(":")[2].split() for x in done.stdout.splitlines() if x.startswith("BASH_JAVA_UTILS")]
            if len(lines) != 2:
                raise StackError(f"flink-conf.yaml is refused by Flink: {memory_error(done.stdout + done.stderr)}")
            write_atomic(kept, json.dumps(lines))
        flags, dynamic = json.loads(kept.read_text())
        return flags, dynamic

    def _dist_jar(self) -> Path:
        return next((self.home / "lib").glob("flink-dist-*.jar"))

    def java_command(self, main: str, flags: Iterable[str], arguments: Iterable[str], log_name: str) -> Command:
        """A Flink process: its class, JVM flags and arguments."""
        log4j = logging_config.write(self.conf / f"log4j-{log_name}.properties", self.options.logs / f"{log_name}.log")
        classpath = os.pathsep.join(str(jar) for jar in sorted(self.lib.glob("*.jar")))
        java = [str(self.java / "bin" / "java"), *flags, f"-Djava.io.tmpdir={self.temp}"]
        log_flags = [f"-Dlog4j.configurationFile={log4j.as_uri()}", f"-Dlog.file={self.options.logs / log_name}.log"]
        return Command([*java, *log_flags, "-cp", classpath, main, *arguments], env=self.env())

    def high_availability(self) -> list[str]:
        """Arguments that only the cluster's processes get: clients then need no ZooKeeper."""
        settings = {
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": f"{HOST}:{self.ports['zookeeper']}",
            "high-availability.storageDir": (self.folder / "recovery").as_uri(),
            "high-availability.cluster-id": "/energyai",
        }
        return dynamic_arguments(settings)


def read_config(path: Path = CONFIG) -> dict[str, Any]:
    """flink-conf.yaml as flat keys.

    Raises:
        StackError: missing, or not flat `key: value` YAML.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise StackError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(config, dict) or any(isinstance(value, dict) for value in config.values()):
        raise StackError(f"{path.name}: expected flat `dotted.key: value` lines")
    return config


def dynamic_arguments(settings: Mapping[str, Any]) -> list[str]:
    """`-D key=value` pairs."""
    return [word for key, value in settings.items() for word in ("-D", f"{key}={value}")]


def shell_quote(text: str) -> str:
    """A word that sh takes literally."""
    return "'" + text.replace("'", "'\\''") + "'"


def memory_error(output: str) -> str:
    """The line of Flink's complaint that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if "xception" in line]
    return (lines[-1] if lines else output[-300:].strip())[:400]


def get_json(port: int, path: str, timeout_s: float = 3.0) -> Any:
    """An answer of the REST API; None when there is none (starting, electing a leader, gone)."""
    link = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    with suppress(OSError, ValueError, http.client.HTTPException):
        try:
            link.request("GET", path)
            answer = link.getresponse()
            body = answer.read()
            if answer.status == 200:
                return json.loads(body)
        finally:
            link.close()
    return None


def zookeeper_answers(port: int, timeout_s: float = 2.0) -> bool:
    """Whether ZooKeeper says `imok` to `ruok`."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout_s) as link:
        link.settimeout(timeout_s)
        link.sendall(b"ruok")
        return link.recv(4) == b"imok"
    return False


def zookeeper_part(cluster: Cluster) -> Part:
    """Remembers the leader and the running jobs, so that a JobManager that died can go on with them."""
    port = cluster.ports["zookeeper"]
    folder = cluster.options.data_dir / "zookeeper"

    def command() -> Command:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        settings = {
            "dataDir": folder / "data",
            "clientPort": port,
            "clientPortAddress": HOST,
            # Sessions may be 2 to 20 ticks long; Flink's is in flink-conf.yaml.
            "tickTime": 1000,
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "ruok,srvr",
            "autopurge.snapRetainCount": 3,
            "autopurge.purgeInterval": 1,
        }
        config = folder / "zoo.cfg"
        config.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        flags = ["-Xmx48m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        # 64 MB of log file ahead is the default, for a thousand times our writes.
        flags += ["-Dzookeeper.preAllocSize=256", "-XX:MaxMetaspaceSize=48m", "-XX:+ExitOnOutOfMemoryError"]
        return cluster.java_command(ZOOKEEPER_CLASS, flags, [str(config)], "zookeeper")

    return Part("zookeeper", port, command, lambda: zookeeper_answers(port), stop_within_s=5.0)


def java_flags(config: Mapping[str, Any], role: str) -> list[str]:
    """JVM options that flink-conf.yaml gives all processes and this one."""
    return [*str(config.get("env.java.opts.all", "")).split(), *str(config.get(f"env.java.opts.{role}", "")).split()]


def jobmanager_part(cluster: Cluster) -> Part:
    """The JobManager with the Web UI and REST API."""
    port = cluster.ports["flink"]

    def command() -> Command:
        memory, dynamic = cluster.jvm("JM")
        metrics = dynamic_arguments({"metrics.reporter.prom.port": cluster.ports["jobmanager-metrics"]})
        arguments = ["--configDir", str(cluster.conf), *dynamic, *cluster.high_availability(), *metrics]
        flags = [*memory, *java_flags(cluster.config(), "jobmanager")]
        return cluster.java_command(MASTER_CLASS, flags, arguments, "jobmanager")

    return Part("jobmanager", port, command, lambda: get_json(port, "/overview") is not None, stop_within_s=15.0)


def taskmanager_part(cluster: Cluster) -> Part:
    """The TaskManager; its Python workers are its children."""
    port = cluster.ports["flink"]
    current: list[str] = []

    def command() -> Command:
        memory, dynamic = cluster.jvm("TM")
        # A new name each time: the JobManager goes on listing a dead TaskManager for a while.
        current[:] = [f"taskmanager-{uuid.uuid4().hex[:8]}"]
        own = {
            "taskmanager.resource-id": current[0],
            "metrics.reporter.prom.port": cluster.ports["taskmanager-metrics"],
        }
        arguments = ["--configDir", str(cluster.conf), *dynamic, *cluster.high_availability(), *dynamic_arguments(own)]
        flags = [*memory, *java_flags(cluster.config(), "taskmanager")]
        return cluster.java_command(WORKER_CLASS, flags, arguments, "taskmanager")

    def registered() -> bool:
        answer = get_json(port, "/taskmanagers")
        if answer is None:
            return False
        return any(tm.get("id") in current for tm in answer.get("taskmanagers", []))

    return Part("taskmanager", cluster.ports["taskmanager-metrics"], command, registered, stop_within_s=10.0)


def parts(options: StackOptions, ports: dict[str, int]) -> list[Part]:
    """The cluster's three processes, with the files they need written."""
    cluster = Cluster(options, ports)
    cluster.prepare()
    return [zookeeper_part(cluster), jobmanager_part(cluster), taskmanager_part(cluster)]
