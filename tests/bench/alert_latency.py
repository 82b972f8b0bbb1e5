"""From a reading to its alert: how long it takes at shares of the rate that the jobs sustain.

    python -m tests.bench.alert_latency --shares 0.25,0.5,0.75 --seconds 40

A stack of its own; jobs `detect` and `alerts` at parallelism 1; meters that send their power every ten seconds. First a
backlog, to see at what rate `detect` takes it; then, in real time, readings at a share of that rate, some of them ten
times what `max_kw` allows. An alert is timed from when its reading is handed to the producer until a consumer of topic
`alerts` in a process of its own has it; producer and consumer run on the same cores as the jobs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer

from infra.embedded.options import PROJECT_ROOT, StackOptions, default_home
from infra.embedded.stack import Stack
from jobs.flink_rest import FlinkRest
from jobs.submission import submit
from tests.alert_stack import deployed, put, until
from tests.pipeline import Deployment

EVERY_S = 10
SITES = 50
MAX_KW = 100
ODD_A_SECOND = 10
TICK_S = 0.02
LAST_S = 20
"""How long the last alerts of a share are waited for."""


def reading(meter: int, ts_ms: int, kw: float) -> tuple[bytes, bytes]:
    """Key and value of one."""
    value = b'{"meter_id":"lat-%d","kind":"instant","value":%.3f,"unit":"kW","ts":%d}' % (meter, kw, ts_ms)
    return b"lat-%d" % meter, value


def backlog(meters: int, n: int, end_ms: int) -> Iterator[tuple[bytes, bytes]]:
    """`n` readings of the time before `end_ms`, in order."""
    rounds = n // meters
    for i in range(rounds * meters):
        yield reading(i % meters, end_ms - (rounds - i // meters) * EVERY_S * 1000, 5 + i % 7)


def drain_rate(flink: FlinkRest, job: str, n: int) -> float:
    """Readings a second that the job takes, between a tenth and the last of a backlog of `n`."""
    seen: list[tuple[float, int]] = []

    def taken() -> bool:
        vertices = flink.call(f"/jobs/{job}")["vertices"]
        seen.append((time.monotonic(), max(int(v["metrics"]["write-records"]) for v in vertices[:1])))
        return seen[-1][1] >= n

    until(taken, lambda: seen[-3:], 240)
    begun = next(at for at in seen if at[1] >= n / 10)
    return (seen[-1][1] - begun[1]) / (seen[-1][0] - begun[0])


def run(deployment: Deployment, meters: int, rate: float, seconds: float, first_odd: int) -> dict[str, float]:
    """Sends at `rate` for `seconds`; meter → when its odd reading was sent, epoch s."""
    producer = KafkaProducer(bootstrap_servers=deployment.where.kafka, acks=1, linger_ms=2, batch_size=65_536)
    topic, sent, sent_at = deployment.prefix + "meter.readings", 0, {}
    begun, odd = time.time(), 0
    try:
        while (past := time.time() - begun) < seconds:
            now = time.time()
            while odd < past * ODD_A_SECOND:
                meter = first_odd + odd
                key, value = reading(meter, int(now * 1000), 10 * MAX_KW)
                sent_at[f"lat-{meter}"] = time.time()
                producer.send(topic, value, key)
                odd += 1
            for i in range(sent, int(past * rate)):
                key, value = reading(i % meters, int(now * 1000), 5 + i % 7)
                producer.send(topic, value, key)
            sent = max(sent, int(past * rate))
            time.sleep(max(0.0, TICK_S - (time.time() - now)))
        kept = sent / (time.time() - begun)
        producer.flush()
    finally:
        producer.close()
    print(f"  sent {kept:,.0f} readings/s", flush=True)
    return sent_at


def listen(kafka: str, topic: str, file: Path) -> None:
    """Notes when the first message of each meter's alert came: the process beside."""
    consumer = KafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest", fetch_max_wait_ms=10)
    seen = set()
    with file.open("w") as out:
        for message in consumer:
            meter = json.loads(message.value)["labels"]["meter"]
            if meter not in seen:
                seen.add(meter)
                print(json.dumps([meter, time.time()]), file=out, flush=True)


def heard(file: Path) -> dict[str, float]:
    """What the process beside has noted."""
    return dict(json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n"))


def on_topic(deployment: Deployment, name: str) -> dict[str, float]:
    """Meter → when its first anomaly was put on the topic, epoch s, by the producer's clock: the first hop's end."""
    consumer = KafkaConsumer(
        deployment.prefix + name,
        bootstrap_servers=deployment.where.kafka,
        auto_offset_reset="earliest",
        consumer_timeout_ms=2000,
    )
    found: dict[str, float] = {}
    for message in consumer:
        found.setdefault(json.loads(message.value)["meter_id"], message.timestamp / 1000)
    consumer.close()
    return found


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and p99.9."""
    values = np.quantile(seconds, [0.5, 0.99, 0.999]) if seconds else np.full(3, np.nan)
    return {name: round(float(value), 3) for name, value in zip(("p50", "p99", "p99.9"), values, strict=True)}


def measured(stack: Stack, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    deployment = deployed(stack, "latency-")
    flink = FlinkRest(deployment.where.flink_url)
    names = [f"lat-{i}" for i in range(args.meters)]
    put(
        deployment,
        "meters",
        ((m, {"meter_id": m, "site_id": f"lat-{i % SITES}", "max_kw": MAX_KW}) for i, m in enumerate(names)),
    )
    n = deployment.produce(backlog(args.meters, args.backlog, int(time.time() * 1000)))
    file = folder / "heard"
    command = [sys.executable, "-m", "tests.bench.alert_latency", "--listen", str(file)]
    command += ["--kafka", deployment.where.kafka, "--topic", deployment.prefix + "alerts"]
    beside = subprocess.Popen(command, cwd=PROJECT_ROOT)
    options = [*deployment.options, "--parallelism", "1"]
    jobs = submit(deployment.settings, deployment.where, ["alerts", "detect"], options)
    figures: dict[str, Any] = {"meters": args.meters, "shares": {}}
    try:
        sustained = args.rate or drain_rate(flink, jobs["detect"], n)
        figures["sustained"] = round(sustained)
        print(f"detect takes {sustained:,.0f} readings/s", flush=True)
        # The first alert shows that all is up.
        deployment.produce([reading(args.meters - 1, int(time.time() * 1000), 10 * MAX_KW)])
        until(lambda: file.exists() and heard(file), lambda: [flink.cause(job) for job in jobs.values()], 120)
        odd = 0
        for share in args.shares:
            sent_at = run(deployment, args.meters, share * sustained, args.seconds, odd)
            odd += len(sent_at)
            deadline = time.monotonic() + LAST_S
            while not sent_at.keys() <= heard(file).keys() and time.monotonic() < deadline:
                time.sleep(0.2)
            came, found = heard(file), on_topic(deployment, "anomalies")
            late = [came[meter] - at for meter, at in sent_at.items() if meter in came]
            half = [found[meter] - at for meter, at in sent_at.items() if meter in found]
            row = {"alerts": len(late), "of": len(sent_at), **quantiles(late), "to_anomaly": quantiles(half)}
            figures["shares"][str(share)] = row
            print(f"  {share:.0%}: {row}", flush=True)
    finally:
        beside.kill()
        beside.wait()
        for job in jobs.values():
            flink.cancel(job)
    return figures


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=lambda text: [float(x) for x in text.split(",")], default=[0.25, 0.5, 0.75])
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--meters", type=int, default=5_000)
    parser.add_argument("--backlog", type=int, default=400_000)
    parser.add_argument("--rate", type=float, help="readings/s that count as sustained, instead of a measurement")
    parser.add_argument("--listen", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kafka", help=argparse.SUPPRESS)
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.listen:
        listen(args.kafka, args.topic, args.listen)
        return 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Kafka may end later
        stack = Stack(StackOptions(Path(folder) / "stack", home=default_home()))
        stack.up()
        try:
            print(json.dumps(measured(stack, args, Path(folder))))
        finally:
            stack.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
