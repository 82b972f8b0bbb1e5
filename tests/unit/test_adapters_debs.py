"""The plugs of the DEBS 2014 challenge: both layouts."""

from __future__ import annotations

from tests.unit.adapter_support import read, sample


def test_the_challenges_csv() -> None:
    got = read("debs", sample("debs.csv"))
    assert got.refused == 0
    assert len(got.rows) == 10
    assert got.rows[0] == ("12-0-1", "1-0:1.8.0", 1379879533000, "register", 82.042)
    assert got.rows[1] == ("12-0-1", "1-0:16.7.0", 1379879533000, "instant", 0.105303)
    assert {row[0] for row in got.rows} == {"12-0-1", "12-0-2", "12-0-3", "12-1-3", "12-2-3"}


def test_blanks_and_no_id() -> None:
    got = read("debs", "1377986401 68.451     0    11     0     3\n1377986401 19.927     1    11     0     3\n")
    assert [(row[0], row[4]) for row in got.rows] == [("3-0-11", 68.451), ("3-0-11", 0.019927)]


def test_lines_that_are_cut() -> None:
    got = read("debs", sample("debs.csv") + b"2967740703,13798\n1,1379879536,0,2,3,2,12\n1,1379879536,x,0,3,2,12\n")
    assert len(got.rows) == 10
    assert [place for place, _ in got.unreadable] == ["line 11", "line 12", "line 13"]
