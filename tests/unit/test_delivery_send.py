"""One request: what is sent in each format, what counts as delivered, and which addresses are refused."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import socket
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from jobs.delivery.formats import batch_id, body
from jobs.delivery.guard import allowed
from jobs.delivery.receivers import Receiver, Secret, SecretError
from jobs.delivery.send import NotDeliveredError, Rate, Sender, backoff_s
from tests.catcher import LOCAL, catcher, message

GROUP = {"tenant": "default", "site": "hq"}


def receiver(url: str = "https://ops.example/hook", **more: Any) -> Receiver:
    return Receiver.of({"receiver": "ops", "url": url, "allow_networks": LOCAL, "timeout": "500ms"} | more)


def send(to: Receiver, *alerts: dict[str, Any], resolver: AbstractResolver | None = None) -> None:
    async def once() -> None:
        sender = Sender(to, resolver)
        try:
            await sender.send("the-id", GROUP, alerts or (message("b2"),))
        finally:
            await sender.close()

    asyncio.run(once())


def test_the_webhook_of_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    with catcher() as caught:
        send(receiver(caught.url, secret={"env": "HOOK_SECRET"}), message("b2"), message("b3", "resolved"))
    ((headers, content, _),) = caught.requests
    told = orjson.loads(content)
    assert {k: told[k] for k in ("version", "status", "receiver", "groupKey", "truncatedAlerts", "externalURL")} == {
        "version": "4", "status": "firing", "receiver": "ops", "groupKey": '{}:{tenant="default", site="hq"}',
        "truncatedAlerts": 0, "externalURL": "",
    }  # fmt: skip
    assert told["groupLabels"] == GROUP
    assert told["commonLabels"] == GROUP | {"alertname": "MeterSpike", "severity": "warning"}
    assert told["commonAnnotations"] == {"value": "12"}
    assert [(a["fingerprint"], a["status"], a["endsAt"]) for a in told["alerts"]] == [
        ("b2", "firing", "0001-01-01T00:00:00Z"), ("b3", "resolved", "2026-01-01T00:15:00.000Z")
    ]  # fmt: skip
    assert headers["x-energyai-signature"] == f"sha256={hmac.new(b's3cret', content, hashlib.sha256).hexdigest()}"
    timed = headers["x-energyai-timestamp"].encode() + b"." + content
    assert headers["x-energyai-signature-timed"] == f"sha256={hmac.new(b's3cret', timed, hashlib.sha256).hexdigest()}"
    assert {k: v for k, v in headers.items() if k.startswith("ce-")} == {
        "ce-id": "the-id", "ce-specversion": "1.0", "ce-source": "/energyai/alerts", "ce-type": "energyai.alert.firing"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("500", "answered 500"),
        ("404", "answered 404"),
        ("hang", "no answer within 0.5 s"),
        ("close", "ServerDisconnectedError"),
        ("torn", "ClientPayloadError"),
        ("redirect", "answered 307: redirects are not followed, correct its url"),
    ],
)
def test_what_is_not_delivered(how: str, why: str) -> None:
    with catcher(lambda _: how) as caught, pytest.raises(NotDeliveredError) as error:
        send(receiver(caught.url + "/?token=hidden"))
    assert why in str(error.value)
    assert "hidden" not in str(error.value)
    assert len(caught.requests) == 1, "a redirect is not followed"


def test_who_does_not_listen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NotDeliveredError, match="ClientConnectorError"):
            send(receiver(url))


@pytest.mark.parametrize(
    ("address", "good"),
    [
        *(("8.8.8.8", True), ("2a00:1450::1", True), ("::ffff:8.8.8.8", True)),
        *(("127.0.0.1", False), ("10.0.0.1", False), ("169.254.169.254", False), ("192.168.1.1", False)),
        *(("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False)),
        *(("::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:10.0.0.1", False)),
        *(("64:ff9b::a00:1", False), ("2002:a00:1::", False)),
    ],
)  # fmt: skip
def test_private_addresses_are_refused(address: str, good: bool) -> None:
    assert allowed(address, []) is good
    assert allowed(address, [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")])


class Rebinding(AbstractResolver):
    """Public at first, then private: what a check before the connection does not see."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.answers.pop(0)
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None: ...


def test_a_name_that_leads_inside_is_refused_at_the_connection() -> None:
    with catcher() as caught:
        port = caught.url.rpartition(":")[2]
        inside = Rebinding("127.0.0.1")
        with pytest.raises(NotDeliveredError, match=r"ops\.example is at 127\.0\.0\.1, which is not public"):
            send(receiver(f"http://ops.example:{port}/", allow_networks=[]), resolver=inside)
        with pytest.raises(NotDeliveredError, match="not public"):
            send(receiver(f"http://127.0.0.1:{port}/", allow_networks=[]))
        with pytest.raises(NotDeliveredError, match="not public"):
            send(receiver(f"http://[::ffff:127.0.0.1]:{port}/", allow_networks=[]))
        assert caught.requests == []
        send(receiver(f"http://ops.example:{port}/"), resolver=Rebinding("127.0.0.1"))
        assert len(caught.requests) == 1


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    import subprocess

    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(cert)),
            *("-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def attempt(**more: Any) -> int:
        from aiohttp import web

        async def ok(_: web.Request) -> web.Response:
            return web.Response()

        app = web.Application()
        app.router.add_post("/", ok)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        sender = Sender(receiver(f"https://127.0.0.1:{runner.addresses[0][1]}/", timeout="5s", **more))
        try:
            await sender.send("id", GROUP, [message("b2")])
        finally:
            await sender.close()
            await runner.cleanup()
        return 1

    with pytest.raises(NotDeliveredError, match="Certificate"):
        asyncio.run(attempt())
    assert asyncio.run(attempt(ca_file=str(cert))) == 1


def test_pagerduty_slack_teams_and_alertmanager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PD", "r0uting")
    to = Receiver.of({"receiver": "pd", "type": "pagerduty", "routing_key": {"env": "PD"}})
    assert (to.max_alerts, to.shown_url) == (1, "https://events.pagerduty.com/v2/enqueue")
    event = orjson.loads(body(to, GROUP, [message("b2")]))
    assert (event["event_action"], event["dedup_key"]) == ("trigger", "b2")
    assert event["payload"] == {
        "summary": "hq/b2: more than expected", "source": "b2", "severity": "warning",
        "timestamp": "2026-01-01T00:00:00.000Z", "group": "hq", "class": "MeterSpike",
        "custom_details": {"summary": "hq/b2: more than expected", "value": "12"},
    }  # fmt: skip
    over = orjson.loads(body(to, GROUP, [message("b2", "resolved")]))
    assert over == {"routing_key": "r0uting", "event_action": "resolve", "dedup_key": "b2"}
    many = [message(f"m{i}") for i in range(25)]
    text = orjson.loads(body(receiver(type="slack"), GROUP, many))["text"]
    assert text.splitlines()[0] == "hq: 25 alerts"
    assert text.splitlines()[-1] == "and 5 more: `energyai alerts list`"
    card = orjson.loads(body(receiver(type="teams"), GROUP, many[:1]))["attachments"][0]["content"]
    assert card["body"][0]["text"].endswith("firing warning MeterSpike: hq/m0: more than expected")
    pushed = orjson.loads(body(receiver(type="alertmanager"), GROUP, [message("b2")]))
    assert pushed[0]["endsAt"] == "9999-12-31T23:59:59Z"


def test_secrets_are_read_when_used_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    place = tmp_path / "secret"
    to = receiver(secret={"file": str(place)}, url={"file": str(place)}, bearer={"env": "NOT_THERE"})
    with pytest.raises(NotDeliveredError, match="cannot be read"):
        send(to)
    place.write_text(" https://hooks.example/T0/very-secret \n")
    assert Secret("file", str(place)).read() == "https://hooks.example/T0/very-secret"
    with pytest.raises(SecretError, match="NOT_THERE is empty"):
        Secret("env", "NOT_THERE").read({})
    with pytest.raises(NotDeliveredError) as error:
        send(to)
    for shown in (repr(to), to.shown_url, str(error.value), caplog.text):
        assert "very-secret" not in shown
    assert receiver("https://u.example/a?token=x#y").shown_url == "https://u.example/a"


def test_ids_backoff_and_rate() -> None:
    assert batch_id("ops", ["a", "b"]) == batch_id("ops", ["a", "b"]) != batch_id("boss", ["a", "b"])
    assert all(0.5 * 2**n <= backoff_s(n + 1) <= 2**n for n in range(9))
    assert backoff_s(1000) <= 600

    rate, begun, taken = Rate(1_200), time.monotonic(), 0
    while time.monotonic() < begun + 0.2:
        if not rate.delay_s():
            rate.take()
            taken += 1
    assert 200 <= taken <= 210, "ten seconds' worth at once, then twenty a second"
