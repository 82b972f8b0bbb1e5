"""The model card: trained on what, how good, and how to make it again; JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.evaluate import Score, table

CARD = "card.json"
READABLE = "MODEL_CARD.md"


def write(folder: Path, card: dict[str, Any], scores: list[Score]) -> None:
    """Writes `card.json` and `MODEL_CARD.md` beside the model."""
    whole = {**card, "metrics": [asdict(score) for score in scores]}
    (folder / CARD).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / READABLE).write_text(_readable(card, scores), encoding="utf-8")


def _readable(card: dict[str, Any], scores: list[Score]) -> str:
    data, training, cost = card["data"], card["training"], card["cost_us_per_forecast"]
    unseen = data["meters"] - data["meters_seen"]
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return f"""# Model card: {card["model_id"]}

Written by `models/train.py`; `card.json` holds the same for programs.

**What it does.** Forecasts the next 24 hours of a meter from its last 168 hours: nine quantiles (0.1 to 0.9) of the
energy of each step, kWh. Hourly meters directly; quarter-hour meters by the four phases of the hour. It reads no
weather, no holidays and no hour of the day; the day of the week enters as a smooth phase.

**Trained on.** {data["name"]} (DOI {data["doi"]}, licence {data["licence"]}): {data["notes"]}.
{data["meters_seen"]} of {data["meters"]} meters, before {data["train_until"]}; the other {unseen} meters (drawn by seed
{training["seed"]}) were kept out altogether. Other groups of the table are judged only.

**How good.** NRMSE (percent: root mean squared error over mean absolute load, median over meters) of the baselines
and of the model's median; `ratio` is to mean(day, week); `wQL ratio` to the quantiles of the persistence ensemble;
`80% cov.` is the share of hours between the 0.1 and the 0.9 quantile. Baselines fill gaps as the model does.

{table(scores)}

**Cost** (processor time of one thread, where it was trained). {cost["batch_64"]} µs a forecast (24 h × 9 quantiles,
features included) in batches of 64, {cost["batch_4096"]} µs in batches of 4096. File: {card["bytes"]} bytes, ONNX opset
{card["opset"]}.

**Checked.** The export differs from the trained network by at most {card["export_difference"]:.1e} of a meter's level.
SHA-256 `{card["sha256"]}`.

**Make it again** ({training["minutes"]} min where it was trained, one thread; folders by name, wherever they lie):

    {training["command"]}

{training["reproducible"]}
Versions: {versions}.

**Limits.** Trained on university buildings of one English town; the year judged, if 2020 or 2021, holds the
pandemic. Bands are not calibrated per meter. Public holidays and changes of use are not known to it until the
history shows them. Net export is handled, but sun and wind are not foreseen. Quarter-hour phases do not tell each
other their newest slots.
"""
