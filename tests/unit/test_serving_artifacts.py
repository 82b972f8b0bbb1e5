"""Versions in the registry, their signatures, and what a worker loads or refuses."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.errors import UserError
from jobs.models import keys
from jobs.models.registry import Registry, Version
from operators.forecaster import Forecaster, ModelError
from operators.serving import signing
from operators.serving.artifacts import AGAIN_S, Models, RefusedError, UnavailableError, load
from operators.serving.plan import CHAMPION, Announcement
from tests.unit.serving_support import KEY, PUBLIC, forecaster, trained


def announced(of: Version, **changes: object) -> Announcement:
    made = Announcement(1, 0, of.version, of.sha256, CHAMPION, of.uri)
    return replace(made, **changes)


def test_versions_are_numbered_signed_and_read_again(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry", PUBLIC)
    first = registry.register(trained(tmp_path / "a", train_until="2020-01-01"), KEY)
    second = registry.register(trained(tmp_path / "b", 2.0), KEY, lineage={"parent": 1})
    assert (first.version, second.version) == (1, 2)
    assert registry.numbers("forecaster") == [1, 2]
    assert registry.numbers("another") == []
    again = registry.get("forecaster", 2)
    assert again.manifest == second.manifest
    assert again.manifest["lineage"]["parent"] == 1
    assert first.manifest["data_range"] == [None, "2020-01-01"]
    assert again.card()["data"]["name"] == "test"
    assert again.model().sha256 == second.sha256
    assert load("forecaster", announced(second), PUBLIC).model_id == "test-2.0-0.3"
    assert sorted(p.name for p in (tmp_path / "registry/forecaster/1").iterdir()) == [
        *("card.json", "forecaster.onnx", "manifest.json", "manifest.sig")
    ]


def test_a_registry_may_be_at_an_address(tmp_path: Path) -> None:
    registry = Registry((tmp_path / "far").as_uri(), PUBLIC)
    found = registry.register(trained(tmp_path / "a"), KEY)
    assert found.uri.startswith("file://")
    assert load("forecaster", announced(found), PUBLIC).sha256 == found.sha256


def test_an_address_with_options_is_refused_as_its_versions_would_lose_them() -> None:
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL"):
        Registry("s3://models/registry?endpoint_override=127.0.0.1:9000", PUBLIC)


def test_what_is_no_model_with_its_card_is_not_registered(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry", PUBLIC)
    path = trained(tmp_path / "a")
    with pytest.raises(UserError, match="no name of a model"):
        registry.register(path, KEY, "../evil")
    (tmp_path / "a/card.json").write_text("{")
    with pytest.raises(UserError, match="no JSON"):
        registry.register(path, KEY)
    (tmp_path / "a/card.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(ModelError, match="SHA-256"):
        registry.register(path, KEY)
    (tmp_path / "a/card.json").unlink()
    with pytest.raises(UserError, match="card beside it"):
        registry.register(path, KEY)
    assert registry.numbers("forecaster") == []
    with pytest.raises(UserError, match="models list"):
        registry.get("forecaster", 1)


@pytest.mark.parametrize("name", ["forecaster.onnx", "card.json", "manifest.json", "manifest.sig"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    registry = Registry(tmp_path / "registry", PUBLIC)
    version = registry.register(trained(tmp_path / "a"), KEY)
    path = Path(version.folder) / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if name == "card.json":
        with pytest.raises(UserError, match="signed"):
            version.card()
        return
    with pytest.raises(RefusedError):
        load("forecaster", announced(version), PUBLIC)


def test_whoever_can_write_files_and_announcements_but_has_no_key_is_refused(tmp_path: Path) -> None:
    other = signing.new_key()
    version = Registry(tmp_path / "registry", PUBLIC).register(trained(tmp_path / "a"), other)
    with pytest.raises(RefusedError, match="none of the trusted keys"):
        load("forecaster", announced(version), PUBLIC)
    assert load("forecaster", announced(version), (*PUBLIC, signing.public_of(other))).sha256 == version.sha256
    with pytest.raises(RefusedError, match="no public key"):
        load("forecaster", announced(version), ())


def test_a_signed_version_is_not_taken_for_another(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry", PUBLIC)
    version = registry.register(trained(tmp_path / "a"), KEY)
    for wrong in (announced(version, version=2), announced(version, sha256="0" * 64)):
        with pytest.raises(RefusedError, match="announced was"):
            load("forecaster", wrong, PUBLIC)
    with pytest.raises(RefusedError, match="model_name"):
        load("another", announced(version), PUBLIC)
    with pytest.raises(UnavailableError):
        load("forecaster", announced(version, uri=f"{tmp_path}/nowhere/forecaster.onnx"), PUBLIC)


def test_a_worker_keeps_what_it_has_refuses_for_good_and_asks_again_for_what_is_away(tmp_path: Path) -> None:
    now = [0.0]
    registry = Registry(tmp_path / "registry", PUBLIC)
    version = registry.register(trained(tmp_path / "a", 2.0), KEY)
    base = forecaster()
    models = Models(base, "forecaster", PUBLIC, clock=lambda: now[0])
    assert models.of(None) is base
    assert models.of(Announcement(1, 0, 0, "f" * 64, CHAMPION)) is base
    good = announced(version)
    folder = Path(version.folder)
    folder.rename(folder.with_name("away"))
    assert models.of(good) is None
    folder.with_name("away").rename(folder)
    assert models.of(good) is None, "not before the next try"
    now[0] = AGAIN_S
    assert models.of(good).model_id == "test-2.0-0.3"
    assert models.of(good) is models.of(good)
    bad = announced(version, version=7)
    models._loaded.clear()
    assert models.of(bad) is None
    assert list(models.refused) == [bad]
    folder.rename(folder.with_name("away"))
    assert models.of(bad) is None


def test_the_key_is_made_once_and_read_by_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ENERGYAI_MODEL_KEY", raising=False)
    monkeypatch.delenv("ENERGYAI_MODEL_KEYS", raising=False)
    monkeypatch.setenv("ENERGYAI_HOME", str(tmp_path))
    first = keys.signing_key()
    assert keys.signing_key() == first
    assert stat.S_IMODE(keys.key_file().stat().st_mode) == 0o600
    assert [p.name for p in keys.key_file().parent.iterdir()] == [keys.FILE]
    assert keys.trusted() == (signing.public_of(first),)
    assert keys.trusted("AB" * 32) == ("ab" * 32,)
    monkeypatch.setenv("ENERGYAI_MODEL_KEYS", f"{'cd' * 32}, {'ef' * 32}")
    assert keys.trusted() == ("cd" * 32, "ef" * 32)
    with pytest.raises(UserError, match="64 hexadecimal"):
        keys.trusted("abc")
    monkeypatch.setenv("ENERGYAI_MODEL_KEY", str(tmp_path / "broken.pem"))
    (tmp_path / "broken.pem").write_text("-----BEGIN nothing")
    with pytest.raises(UserError, match="no PEM") as told:
        keys.signing_key()
    assert "BEGIN" not in str(told.value)


def test_a_signed_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = trained(tmp_path / "a")
    registry = Registry(tmp_path / "registry", PUBLIC)
    version = registry.register(path, KEY)
    content = b"no model"
    Path(version.uri).write_bytes(content)
    import hashlib

    manifest = {**version.manifest, "sha256": hashlib.sha256(content).hexdigest()}
    signed = json.dumps(manifest).encode()
    Path(version.folder, "manifest.json").write_bytes(signed)
    Path(version.folder, "manifest.sig").write_bytes(signing.sign(KEY, signed))
    with pytest.raises(RefusedError, match="not a usable ONNX model"):
        load("forecaster", announced(version, sha256=manifest["sha256"]), PUBLIC)
    with pytest.raises(ModelError):
        Forecaster.from_bytes(content)
