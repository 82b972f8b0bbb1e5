"""Alerts on real parts: the job from anomaly to webhook, delivery that is failed, killed and blocked, Alertmanager."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
import psutil
import pytest

from infra.embedded import ports
from infra.embedded.options import PROJECT_ROOT
from infra.embedded.stack import Stack
from jobs import cli
from jobs.flink_rest import ENDED, FlinkRest
from jobs.submission import submit
from operators.alerting.times import iso
from tests.alert_stack import WITHIN_S, deployed, put, until
from tests.alerting import anomaly
from tests.catcher import LOCAL, Catcher, catcher, message
from tests.debian import program, root
from tests.pipeline import Deployment

SECRET = "a test's secret"
BURST = 100_000
"""Anomalies at once."""


@contextmanager
def configured(stack: Stack, folder: Path, *receivers: dict[str, Any]) -> Iterator[None]:
    """Receivers as a person configures them, and gone at the end."""
    file = folder / "receivers.yaml"
    file.write_text(json.dumps({"receivers": list(receivers)}))  # JSON is YAML
    where = ["--data-dir", str(stack.options.data_dir)]
    assert cli.main(["config", "apply", str(file), *where]) == 0
    try:
        yield
    finally:
        off = [{"receiver": each["receiver"], "enabled": False} for each in receivers]
        file.write_text(json.dumps({"receivers": off}))
        assert cli.main(["config", "apply", str(file), *where]) == 0


def hook(name: str, caught: Catcher, **more: Any) -> dict[str, Any]:
    """A receiver at a test's own server."""
    return {
        "receiver": name, "url": caught.url, "allow_networks": LOCAL, "secret": {"env": "TEST_SECRET"},
        "rate_per_minute": 60_000, "timeout": "2s", "attempts": 100, "group_wait": "100ms",
    } | more  # fmt: skip


def deliver(deployment: Deployment) -> subprocess.Popen[bytes]:
    """`energyai alerts deliver`, as a process of its own."""
    words = ["alerts", "deliver", "--topic", deployment.prefix + "alerts"]
    where = ["--data-dir", str(deployment.settings.data_dir)]
    env = {**os.environ, "TEST_SECRET": SECRET}
    return subprocess.Popen([sys.executable, "-m", "jobs.cli", *words, *where], cwd=PROJECT_ROOT, env=env)


@contextmanager
def delivering(deployment: Deployment) -> Iterator[subprocess.Popen[bytes]]:
    """The same, ended as a person does it."""
    process = deliver(deployment)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def told(caught: Catcher) -> list[tuple[str, str]]:
    """(meter, kind) of all that was delivered, in order."""
    return [
        (alert["labels"].get("meter", ""), alert["notification"]["kind"])
        for body in caught.delivered
        for alert in body["alerts"]
    ]


@contextmanager
def alerting(stack: Stack, prefix: str, folder: Path, caught: Catcher, name: str) -> Iterator[Deployment]:
    """The job and the delivery of a deployment of its own, and a receiver that takes what `MeterSpike` says."""
    deployment = deployed(stack, prefix)
    flink = FlinkRest(deployment.where.flink_url)
    rule = {"alert": "MeterSpike", "receivers": [name], "runbook_url": "https://runbook.example/spike"}
    put(deployment, "alerts.rules", [("rules", {"version": "1", "rules": [rule]})])
    with configured(stack, folder, hook(name, caught)):
        options = [*deployment.options, "--idle-timeout-s", "5"]
        job = submit(deployment.settings, deployment.where, ["alerts"], options)["alerts"]
        try:
            with delivering(deployment):
                yield deployment
        except AssertionError as error:
            error.add_note(f"the job: {flink.state(job)} {flink.cause(job)}")
            raise
        finally:
            flink.cancel(job)
            until(lambda: flink.state(job) in ENDED, lambda: flink.state(job))


def test_from_an_anomaly_to_a_signed_webhook_and_its_end(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with catcher() as caught, alerting(stack, "alerts-job-", tmp_path, caught, "job-hook") as deployment:
        put(deployment, "meters", [("spiky", {"meter_id": "spiky", "site_id": "tower"})])
        begins = anomaly("s1", 0, None, meter="spiky")
        del begins["site_id"]  # as the topic `meters` has it
        put(deployment, "anomalies", [("spiky", begins), ("spiky", begins), ("junk", {"kind": 7})])
        until(lambda: told(caught), lambda: caught.requests)
        wrong = anomaly("s2", 10, None, meter="wrong") | {"site_id": "tower"}
        put(deployment, "anomalies", [("wrong", wrong)])
        until(lambda: ("wrong", "firing") in told(caught), lambda: told(caught))
        put(deployment, "anomalies", [("wrong", wrong | {"status": "retracted", "known_at": at_minute(30)})])
        put(deployment, "anomalies", [("spiky", {**begins, "end": at_minute(15)})])
        put(deployment, "anomalies", [("other", anomaly("s3", 90, 95, meter="other") | {"site_id": "tower"})])
        until(lambda: ("spiky", "resolved") in told(caught), lambda: told(caught))
        until(lambda: ("wrong", "resolved") in told(caught), lambda: told(caught))
        until(lambda: ("other", "firing") in told(caught), lambda: told(caught))
        assert [t for t in told(caught) if t[0] == "spiky"] == [("spiky", "firing"), ("spiky", "resolved")]
        burst(deployment, caught, 2_000)
    for headers, content, _ in caught.requests:
        right = hmac.new(SECRET.encode(), content, hashlib.sha256).hexdigest()
        assert headers["x-energyai-signature"] == f"sha256={right}"
    (alert,) = caught.delivered[0]["alerts"]
    assert alert["labels"] == {
        "alertname": "MeterSpike", "severity": "warning", "tenant": "default", "site": "tower", "meter": "spiky"
    }  # fmt: skip
    assert alert["annotations"]["runbook_url"] == "https://runbook.example/spike"
    rows = deployment.rows(
        "SELECT status, starts_at, ends_at FROM alert WHERE fingerprint = %s", (alert["fingerprint"],)
    )
    assert [(s, b.isoformat(), e.isoformat()) for s, b, e in rows] == [
        ("resolved", "2026-01-01T00:00:00+00:00", "2026-01-01T00:15:00+00:00")
    ]
    assert deployment.rows("SELECT * FROM alert WHERE labels ->> 'meter' = 'wrong'") == [], "it was none"
    assert deployment.rows(alert["annotations"]["query"]) == [], "the query runs; no readings came"
    capsys.readouterr()
    where = ["--data-dir", str(stack.options.data_dir), "--json"]
    assert cli.main(["alerts", "show", alert["fingerprint"][:8], *where]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(d["kind"], d["status"]) for d in shown["deliveries"]] == [
        ("firing", "delivered"),
        ("resolved", "delivered"),
    ]


@pytest.mark.long
def test_a_killed_taskmanager_says_nothing_twice_and_a_burst_is_grouped(stack: Stack, tmp_path: Path) -> None:
    with catcher() as caught, alerting(stack, "alerts-burst-", tmp_path, caught, "burst-hook") as deployment:
        begins = anomaly("k1", 0, None, meter="killed")
        put(deployment, "anomalies", [("killed", begins)])
        until(lambda: told(caught), lambda: caught.requests)
        os.kill(stack.status()["parts"]["taskmanager"]["pid"], signal.SIGKILL)
        put(deployment, "anomalies", [("killed", {**begins, "end": at_minute(15)})])
        put(deployment, "anomalies", [("other", anomaly("k2", 90, 95, meter="other"))])
        until(lambda: ("killed", "resolved") in told(caught), lambda: told(caught))
        until(lambda: ("other", "firing") in told(caught), lambda: told(caught))
        assert [t for t in told(caught) if t[0] == "killed"] == [("killed", "firing"), ("killed", "resolved")]
        begun = time.monotonic()
        burst(deployment, caught, BURST)
        took, peak = time.monotonic() - begun, worker_bytes(stack)
        print(f"\n{BURST} anomalies: {took:.0f} s, worker {peak / 1e6:.0f} MB, {len(caught.requests)} requests in all")
        assert peak < 400e6, "memory is bounded"


def at_minute(minutes: float) -> str:
    """A time of the tests' day."""
    return iso(1_767_225_600_000 + int(minutes * 60_000))


def burst(deployment: Deployment, caught: Catcher, n: int) -> None:
    """So many anomalies at once: few requests, one alert a meter."""
    requests = len(caught.requests)
    day = 60 * 24
    put(
        deployment,
        "anomalies",
        (
            (f"burst-{i % 40}", anomaly(f"burst-{i}", day + i / 100, day + i / 100 + 15, meter=f"burst-{i % 40}"))
            for i in range(n)
        ),
    )
    put(deployment, "anomalies", [("burst-last", anomaly("burst-last", day + n / 100, None, meter="burst-last"))])
    until(lambda: ("burst-last", "firing") in told(caught), lambda: Counter(told(caught)).most_common(5), 60 + n / 250)
    counts = Counter(kind for meter, kind in told(caught) if meter.startswith("burst-"))
    assert counts["firing"] == 41, "one alert a meter"
    assert len(caught.requests) - requests < 41, "grouped"


def worker_bytes(stack: Stack) -> int:
    """Memory of the largest Python worker of the TaskManager."""
    parent = psutil.Process(stack.status()["parts"]["taskmanager"]["pid"])
    return max(child.memory_info().rss for child in parent.children(recursive=True))


@pytest.mark.long
def test_a_run_to_the_end_resolves_what_is_over(stack: Stack) -> None:
    deployment = deployed(stack, "alerts-end-")
    over, open_ = anomaly("e1", 0, 15, meter="end-over"), anomaly("e2", 0, None, meter="end-open")
    put(deployment, "anomalies", [("e1", over), ("e2", open_)])
    options = [*deployment.options, "--until-complete"]
    job = submit(deployment.settings, deployment.where, ["alerts"], options)["alerts"]
    flink = FlinkRest(deployment.where.flink_url)
    assert flink.wait(job, WITHIN_S) == "FINISHED", flink.cause(job)
    rows = deployment.rows(
        "SELECT labels ->> 'meter', status FROM alert WHERE starts_with(labels ->> 'meter', 'end-') ORDER BY 1"
    )
    assert rows == [("end-open", "firing"), ("end-over", "resolved")]
    notes = Counter(m["notify"]["kind"] for m in deployment.consume("alerts") if m["notify"])
    assert notes == {"firing": 2, "resolved": 1}


@pytest.mark.long
def test_a_receiver_that_fails_half_of_the_time_and_a_worker_that_is_killed(stack: Stack, tmp_path: Path) -> None:
    deployment = deployed(stack, "alerts-half-")
    r = random.Random(4)
    ways = ["ok"] * 6 + ["500", "close", "torn", "redirect", "503", "hang"]
    wanted = {f"half-{site}-{i}" for site in range(12) for i in range(20)}
    alerts = [
        message(name, kind, site=f"half-{name.split('-')[1]}", receivers=["half-hook"])
        for kind in ("firing", "resolved")
        for name in sorted(wanted)
    ]
    with (
        catcher(lambda _: r.choice(ways)) as caught,
        configured(stack, tmp_path, hook("half-hook", caught, max_alerts=7, timeout="500ms")),
    ):
        process = deliver(deployment)
        put(deployment, "alerts", [(m["fingerprint"], m) for m in alerts])
        until(lambda: len(caught.delivered) >= 5, lambda: len(caught.requests))
        process.kill()
        process.wait()
        with delivering(deployment):
            until(
                lambda: len({m for m, kind in told(caught) if kind == "resolved"}) == len(wanted),
                lambda: Counter(kind for _, kind in told(caught)),
            )
    assert {m for m, kind in told(caught) if kind == "firing"} == wanted, "every alert, at least once"
    by_id: dict[str, set[bytes]] = {}
    for headers, content, _ in caught.requests:
        by_id.setdefault(headers["ce-id"], set()).add(content)
    assert all(len(bodies) == 1 for bodies in by_id.values()), "one id is one body"
    carried = Counter(n for body in map(orjson.loads, (b for (b,) in by_id.values())) for n in ids(body))
    assert set(carried.values()) == {1}, "a notification stays in its request"
    ended: set[str] = set()
    for meter, kind in told(caught):
        assert kind == "resolved" or meter not in ended, "the order of a group stays"
        ended |= {meter} if kind == "resolved" else set()
    rows = deployment.rows("SELECT status, count(*) FROM webhook_delivery WHERE receiver = 'half-hook' GROUP BY 1")
    assert rows == [("delivered", 2 * len(wanted))]


def ids(body: dict[str, Any]) -> list[str]:
    return [alert["notification"]["id"] for alert in body["alerts"]]


def test_a_dead_receiver_holds_no_other_back_and_people_are_heard(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = deployed(stack, "alerts-dead-")
    where = ["--data-dir", str(stack.options.data_dir), "--json"]
    names = ["dead-hook", "live-hook"]

    def tell(name: str, kind: str = "firing", **more: Any) -> dict[str, Any]:
        return message(name, kind, site="dead-site", receivers=names, **more)

    def said(*words: str) -> Any:
        capsys.readouterr()
        assert cli.main(["alerts", *words, *where]) == 0
        return json.loads(capsys.readouterr().out)

    with (
        catcher(lambda _: "hang") as hangs,
        catcher() as lives,
        configured(stack, tmp_path, hook("dead-hook", hangs, attempts=2), hook("live-hook", lives)),
        delivering(deployment),
    ):
        put(deployment, "alerts", [(f"d{i}", tell(f"d{i}")) for i in range(5)])
        until(lambda: len(told(lives)) == 5, lambda: told(lives))
        dead = until(lambda: said("dead")["dead"], lambda: deployment.rows("SELECT * FROM webhook_delivery"))
        assert {(d["receiver"], d["attempts"], d["last_error"]) for d in dead} == {
            ("dead-hook", 2, "no answer within 2 s")
        }
        assert len(hangs.requests) == 2

        silence = said("silence", "--site", "dead-*", "--meter", "quiet", "--for", "1h", "--by", "me")
        assert [s["silence_id"] for s in said("silences")["silences"]] == [silence["silence_id"]]
        deployment.rows(
            "INSERT INTO alert (fingerprint, starts_at, status, labels) VALUES ('acked-dead-alert', "
            '\'2026-01-01T00:00:00Z\', \'firing\', \'{"site": "dead-site", "meter": "quiet"}\') RETURNING 1'
        )
        assert said("list", "--site", "dead-s?te")["alerts"][0]["silenced_by"] == silence["silence_id"]
        assert said("ack", "acked-dead", "--by", "ann")["acknowledged_by"] == "ann"
        assert said("ack", "acked-dead", "--by", "bob")["acknowledged_by"] == "ann", "the first one stays"
        more = [tell("quiet"), tell("acked-dead-alert", "repeat"), tell("quiet", "resolved"), tell("d0", "resolved")]
        put(deployment, "alerts", [("d0", m) for m in more])
        until(lambda: ("d0", "resolved") in told(lives), lambda: told(lives))
        assert {m for m, _ in told(lives)} == {f"d{i}" for i in range(5)}
        rows = deployment.rows(
            "SELECT DISTINCT fingerprint, last_error FROM webhook_delivery WHERE receiver = 'live-hook' "
            "AND status = 'suppressed' ORDER BY 1"
        )
        assert rows == [("acked-dead-alert", "acknowledged"), ("quiet", f"silenced by {silence['silence_id']}")]
        assert said("silence", "--end", silence["silence_id"])["ended"]
        assert said("silences")["silences"] == []
    assert cli.main(["alerts", "ack", "feedfeed", *where]) == 1
    assert capsys.readouterr().err == "error: no alert feedfeed: `energyai alerts list --all` shows them\n"


def test_a_real_alertmanager_is_told_and_prometheus_sees_the_worker(stack: Stack, tmp_path: Path) -> None:
    deployment = deployed(stack, "alerts-am-")
    manager, web, metrics = (ports.choose() for _ in range(3))
    home = Path(stack.options.home)
    (tmp_path / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    (tmp_path / "prom.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: d, static_configs: [{{targets: ['127.0.0.1:{metrics}']}}]}}]\n"
    )
    programs = [
        [
            str(program("prometheus-alertmanager", "usr/bin/prometheus-alertmanager", home)),
            f"--config.file={tmp_path / 'am.yml'}", f"--storage.path={tmp_path / 'am'}", "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{manager}",
        ],
        [
            str(program("prometheus", "usr/bin/prometheus", home)),
            f"--config.file={tmp_path / 'prom.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{web}",
        ],
    ]  # fmt: skip
    worker = [sys.executable, "-m", "jobs.cli", "alerts", "deliver", "--topic", deployment.prefix + "alerts"]
    worker += ["--metrics-port", str(metrics), "--data-dir", str(deployment.settings.data_dir)]
    url = f"http://127.0.0.1:{manager}"
    to = {"receiver": "am", "type": "alertmanager", "url": url, "allow_networks": LOCAL, "group_wait": "100ms"}

    def ask(address: str) -> Any:
        try:
            with urlopen(address, timeout=10) as answer:
                return json.loads(answer.read() or b"null")
        except OSError:
            return None

    with configured(stack, tmp_path, to):
        at = root("prometheus-alertmanager", home)
        running = [subprocess.Popen(command, cwd=at, stderr=subprocess.DEVNULL) for command in programs]
        until(lambda: ask(f"{url}/api/v2/status"), lambda: f"Alertmanager: {running[0].poll()}")
        running.append(subprocess.Popen(worker, cwd=PROJECT_ROOT))
        try:
            both = [message("am-1", receivers=["am"]), message("am-2", receivers=["am"])]
            put(deployment, "alerts", [(m["fingerprint"], m) for m in both])
            active = until(lambda: ask(f"{url}/api/v2/alerts"), lambda: deployment.rows(STATUS))
            assert {a["labels"]["meter"] for a in active} == {"am-1", "am-2"}
            assert active[0]["annotations"]["value"] == "12"
            put(deployment, "alerts", [("am-1", message("am-1", "resolved", receivers=["am"]))])
            until(lambda: len(ask(f"{url}/api/v2/alerts") or ()) == 1, lambda: ask(f"{url}/api/v2/alerts"))
            query = "energyai_alert_deliveries_total{receiver=%22am%22,status=%22delivered%22}==3"
            seen = until(
                lambda: (ask(f"http://127.0.0.1:{web}/api/v1/query?query={query}") or {}).get("data", {}).get("result"),
                lambda: ask(f"http://127.0.0.1:{web}/api/v1/targets"),
            )
            assert seen[0]["metric"]["receiver"] == "am"
        finally:
            for process in running:
                process.terminate()
            assert [process.wait(60) for process in running][2] == 0


STATUS = "SELECT receiver, status, attempts, last_error FROM webhook_delivery"
