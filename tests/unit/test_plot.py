"""The forecast's picture: which rows are drawn, what its figures say, and that a file comes of it."""

from __future__ import annotations

import numpy as np
import pytest

from models import plot
from models.plot import Chart, PlotError, draw, read, save

HOUR = 3_600_000
MIDNIGHT = 1_473_145_200_000  # 2016-09-06 00:00 in Los Angeles


def chart(days=3, step_s=3600, tz="America/Los_Angeles", gap=False):
    steps = 86_400 // step_s
    target = MIDNIGHT + np.arange(days * steps) * step_s * 1000
    q50 = (2 + np.sin(np.arange(days * steps) * (2 * np.pi / steps))) * step_s / 3600
    kwh = np.stack([0.8 * q50, q50, 1.2 * q50, 1.1 * q50])
    kwh[3, 5] = np.nan
    if gap:
        target, kwh = np.delete(target, slice(30, 40)), np.delete(kwh, slice(30, 40), axis=1)
    issued = MIDNIGHT + (target - MIDNIGHT) // 86_400_000 * 86_400_000
    return Chart.of("b2", tz, step_s, "some-model", issued, target, kwh)


def test_of_overlapping_forecasts_the_newer_counts_in_any_order():
    target = np.arange(4) * HOUR
    issued = np.concatenate([np.zeros(4, np.int64), np.full(2, 2 * HOUR)])
    kwh = np.array([np.arange(6), np.arange(6), np.arange(6), np.full(6, 7)], float)
    rows = (issued, np.concatenate([target, target[2:]]), kwh)
    for order in (np.arange(6), np.arange(6)[::-1], np.array([3, 5, 0, 4, 2, 1])):
        made = Chart.of("b2", "UTC", 3600, "m", rows[0][order], rows[1][order], rows[2][:, order])
        assert made.target_ms.tolist() == target.tolist()
        assert made.q50.tolist() == [0, 1, 4, 5]
        assert made.issued_ms.tolist() == [0, 0, 2 * HOUR, 2 * HOUR]


def test_energy_of_a_step_is_drawn_as_power():
    assert chart(step_s=900).q50[0] == chart(step_s=3600).q50[0] == 2


def test_figures_leave_out_what_is_not_measured():
    made = chart()
    assert made.inside() == 1
    assert made.nrmse() == pytest.approx(np.sqrt(np.mean(np.delete(0.1 * made.q50, 5) ** 2)) / np.nanmean(made.actual))
    made.actual[:] = np.nan
    assert np.isnan(made.inside())
    assert np.isnan(made.nrmse())


def test_band_holds_its_borders():
    made = chart()
    made.actual[:] = made.q90
    made.actual[0] = made.q90[0] + 1e-9
    assert made.inside() == pytest.approx(1 - 1 / len(made.actual))


@pytest.mark.parametrize("given", [{}, {"step_s": 900}, {"gap": True}, {"tz": "Asia/Kathmandu"}, {"days": 40}])
def test_picture_says_what_it_shows(given):
    made = chart(**given)
    figure = draw(made)
    (axes,) = figure.axes
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["80% band (0.1 to 0.9 quantile)", "forecast, median", "what happened"]
    assert axes.get_title("left").startswith("b2: ")
    assert axes.texts[0].get_text() == "100% in the band, NRMSE 10%; model some-model"
    assert made.tz in axes.get_xlabel()
    assert axes.get_ylabel().startswith("kW")
    low, high = axes.get_ylim()
    assert low <= 0
    assert high >= made.q90.max()


def test_days_begin_at_local_midnight():
    axes = draw(chart()).axes[0]
    labels = [axes.xaxis.get_major_formatter()(at) for at in axes.get_xticks()]
    assert labels[0] == "Tue 06 Sep"
    assert axes.get_xlim()[0] == pytest.approx(axes.get_xticks()[0])


def test_net_export_is_below_zero():
    made = chart()
    made.q10[3] = -4
    assert draw(made).axes[0].get_ylim()[0] < -4


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_same_data_give_the_same_file(tmp_path, name, begins):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(draw(chart()), tmp_path / folder / name)
    first, second = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
    assert first == second
    assert first.startswith(begins)
    assert len(first) < 200_000


def test_no_database_is_one_clear_line(no_settings, capsys):
    assert plot.main(["--meter", "b2"]) == 2
    assert "give --database-url" in capsys.readouterr().err
    with pytest.raises(PlotError, match="energyai status"):
        read("postgresql://nobody@127.0.0.1:1/none", "b2", 7)


@pytest.mark.parametrize("wrong", [["--days", "0"], ["--out", "a.pdf"]])
def test_wrong_options_are_said(wrong, capsys):
    assert plot.main(["--database-url", "postgresql://x@127.0.0.1:1/x", "--meter", "b2", *wrong]) == 2
    assert "--days is 1 or more" in capsys.readouterr().err
