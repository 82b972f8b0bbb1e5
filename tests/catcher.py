"""A receiver that fails in every way, in a thread of its own, and messages of topic `alerts`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from aiohttp import web

LOCAL = ["127.0.0.0/8"]
Answer = Callable[[int], str]
"""Number of the request → what is done: `ok`, an HTTP status, `hang`, `close`, `torn`, `redirect`."""


class Catcher:
    """What came: headers (lower case) and bodies, and how each was answered."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[tuple[dict[str, str], bytes, str]] = []
        self.url = ""
        self._answer = answer

    @property
    def delivered(self) -> list[dict[str, Any]]:
        """Bodies of the requests that were accepted."""
        return [orjson.loads(body) for _, body, how in self.requests if how == "ok"]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request as told."""
        body = await request.read()
        how = self._answer(len(self.requests))
        self.requests.append(({k.lower(): v for k, v in request.headers.items()}, body, how))
        if how == "ok":
            return web.json_response({})
        if how == "hang":
            await asyncio.sleep(60)
        if how == "redirect":
            return web.Response(status=307, headers={"Location": f"{self.url}/private"})
        if how in ("close", "torn"):
            answer = web.StreamResponse(headers={"Content-Length": "100"})
            if how == "torn":
                await answer.prepare(request)
                await answer.write(b"half")
            assert request.transport is not None
            request.transport.abort()
            return answer
        return web.Response(status=int(how) if how.isdigit() else 500)


@contextmanager
def catcher(answer: Answer = lambda _: "ok") -> Iterator[Catcher]:
    """Serves on a free port."""
    caught = Catcher(answer)
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", caught.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        caught.url = f"http://127.0.0.1:{port}"
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(serve())
        started.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        hanging = asyncio.all_tasks(loop)
        for task in hanging:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*hanging, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield caught
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def message(name: str, kind: str = "firing", site: str = "hq", **more: Any) -> dict[str, Any]:
    """A message that tells something of the alert `name`."""
    return {
        "fingerprint": name,
        "status": "resolved" if kind == "resolved" else "firing",
        "labels": {"alertname": "MeterSpike", "severity": "warning", "tenant": "default", "site": site, "meter": name},
        "annotations": {"summary": f"{site}/{name}: more than expected", "value": "12"},
        "startsAt": "2026-01-01T00:00:00.000Z",
        "endsAt": "2026-01-01T00:15:00.000Z" if kind == "resolved" else None,
        "generatorURL": f"energyai:alerts/show/{name}",
        "tenant_id": "default",
        "at": "2026-01-01T00:15:00.000Z",
        "notify": {"kind": kind, "id": f"{name}-0-{kind}-1"},
        "receivers": [],
    } | more
