"""The Web UI's correction, on made-up jars."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path

import pytest

from infra.embedded import flink, web_ui

SENDS = (
    b"runJob(t,i,o,q,c,m){const h={entryClass:i,parallelism:o,programArgs:q,savepointPath:c,allowNonRestoredState:m}"
)
PLANS = b'o&&(c=c.append("p",o)),q&&(c=c.append("program-args",q)),this.httpClient.get(`u`)'
FORM = b"fb.group({entryClass:[null],parallelism:[null],programArgs:[null],savepointPath:[null]})"


def made_up(path: Path, scripts: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("org/apache/flink/A.class", b"programArgs:a,savepointPath:c")
        jar.writestr("web/index.html", b"<html>")
        jar.writestr("web/assets/logo.png", b"\x89PNG")
        for name, script in scripts.items():
            jar.writestr(name, script)
    return path


def content(jar: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(jar) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_whole_page_is_in_the_jar_and_only_the_arguments_differ(tmp_path: Path) -> None:
    dist = made_up(tmp_path / "flink-dist-2.3.0.jar", {"web/1.js": SENDS + PLANS + FORM, "web/2.js": FORM})
    jar = web_ui.build(dist, tmp_path / "made")
    assert jar == tmp_path / "made" / "energyai-web-ui.jar"
    # Flink looks for the folder itself, and serves only what lies beside it.
    assert content(jar) == {
        "web/": b"",
        "web/index.html": b"<html>",
        "web/assets/logo.png": b"\x89PNG",
        "web/1.js": SENDS.replace(b"programArgs:q", rb'programArgsList:(q||"").match(/\S+/g)')
        + PLANS.replace(b'"program-args",q', rb'"programArg",q.trim().split(/\s+/).join()')
        + FORM,
        "web/2.js": FORM,
    }
    assert [path.name for path in jar.parent.iterdir()] == [jar.name]


def test_another_page_is_left_alone_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dist = made_up(tmp_path / "flink-dist-2.3.0.jar", {"web/1.js": SENDS})
    jar = web_ui.build(dist, tmp_path)
    assert jar is not None
    other = made_up(tmp_path / "flink-dist-9.0.0.jar", {"web/1.js": b"programArgsList:a,savepointPath:c"})
    with caplog.at_level(logging.WARNING):
        assert web_ui.build(other, tmp_path) is None
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["flink-dist-9.0.0.jar"]
    assert not jar.exists(), "nothing of the former Flink is served"


def test_it_is_made_once_and_again_when_flink_changes(tmp_path: Path) -> None:
    dist = made_up(tmp_path / "flink-dist-2.3.0.jar", {"web/1.js": SENDS})
    jar = web_ui.build(dist, tmp_path)
    assert jar is not None
    first = jar.stat()
    web_ui.build(dist, tmp_path)
    assert (jar.stat().st_ino, jar.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    made_up(dist, {"web/1.js": SENDS, "web/new.js": FORM})
    os.utime(dist, ns=(0, dist.stat().st_mtime_ns + 1))
    web_ui.build(dist, tmp_path)
    assert content(jar)["web/new.js"] == FORM


def test_a_damaged_jar_is_made_again(tmp_path: Path) -> None:
    dist = made_up(tmp_path / "flink-dist-2.3.0.jar", {"web/1.js": SENDS})
    jar = web_ui.build(dist, tmp_path)
    assert jar is not None
    jar.write_bytes(b"half a jar")
    web_ui.build(dist, tmp_path)
    assert "web/1.js" in content(jar)


def test_it_comes_before_flink_on_the_class_path() -> None:
    assert web_ui.NAME < "flink-dist-2.3.0.jar"


def test_a_program_that_exits_does_not_end_the_jobmanager() -> None:
    assert flink.read_config()["cluster.intercept-user-system-exit"] == "THROW"
