"""Ports: told, kept or chosen; never one that is in use, never one twice."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.embedded import ports
from infra.embedded.errors import StackError


def test_a_listened_port_is_not_free_and_a_closed_one_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_told_ports_win_and_the_others_are_chosen() -> None:
    assigned = ports.assign({}, {"kafka": 9092}, ["kafka", "flink"], free=lambda _: True)
    assert assigned["kafka"] == 9092
    assert assigned["flink"] in ports.CHOICE


def test_kept_ports_are_used_again_only_when_free() -> None:
    kept = {"kafka": 21001, "flink": 21002}
    assigned = ports.assign(kept, {}, ["kafka", "flink"], free=lambda port: port != 21002)
    assert assigned["kafka"] == 21001
    assert assigned["flink"] not in (21001, 21002)


@given(
    kept=st.dictionaries(st.sampled_from(ports.NAMES), st.integers(20000, 20010)),
    busy=st.sets(st.integers(20000, 20010)),
)
def test_assigned_ports_are_free_and_distinct(kept: dict[str, int], busy: set[int]) -> None:
    assigned = ports.assign(kept, {}, ports.NAMES, free=lambda port: port not in busy)
    assert set(assigned) == set(ports.NAMES)
    assert len(set(assigned.values())) == len(assigned)
    assert not busy & set(assigned.values())


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"kafka": 20001}, "port 20001 (for kafka) is in use"),
        ({"kafka": 20002, "flink": 20002}, "given to two parts"),
        ({"kafak": 20002}, "unknown port name 'kafak'"),
    ],
)
def test_a_told_port_that_cannot_be_had_is_an_error(told: dict[str, int], words: str) -> None:
    with pytest.raises(StackError) as error:
        ports.assign({}, told, ["kafka", "flink"], free=lambda port: port != 20001)
    assert words in str(error.value)


def test_no_free_port_is_an_error() -> None:
    with pytest.raises(StackError, match="no free port"):
        ports.choose(free=lambda _: False)


def test_ports_are_kept_in_the_data_folder(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    first = ports.load_or_assign(path, {}, ["kafka", "flink"])
    assert ports.load_or_assign(path, {}, ["kafka", "flink"]) == first
    ports.load_or_assign(path, {}, ["database"])
    assert json.loads(path.read_text())["kafka"] == first["kafka"], "a part that is external for once keeps its port"


def test_a_torn_file_of_ports_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    path.write_text('{"kafka": 21')
    assert ports.load_or_assign(path, {}, ["kafka"])["kafka"] == json.loads(path.read_text())["kafka"]
