"""The model card: trained on what, how good, and how to make it again; JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.evaluate import Score, table
from operators.features import WITH_WEATHER

CARD = "card.json"
READABLE = "MODEL_CARD.md"


def write(folder: Path, card: dict[str, Any], scores: Sequence[Score]) -> None:
    """Writes `card.json` and `MODEL_CARD.md` beside the model."""
    whole = {**card, "metrics": [asdict(score) for score in scores]}
    (folder / CARD).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / READABLE).write_text(_readable(card, scores), encoding="utf-8")


def _readable(card: dict[str, Any], scores: Sequence[Score]) -> str:
    data, training, cost = card["data"], card["training"], card["cost_us_per_forecast"]
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return f"""# Model card: {card["model_id"]}

Written by `energyai train`; `card.json` holds the same for programs.

**What it does.** Forecasts the next 24 hours of a meter from its last 168 hours: nine quantiles (0.1 to 0.9) of the
energy of each step, kWh. Hourly meters directly; quarter-hour meters by the four phases of the hour. Where the meter's
time zone is known, local hour, season and public holidays count too; a meter of unknown place is forecast without
them, as {training["hidden"]:.0%} of the training windows were. {_weather(card)}

**Trained on.** {_source(data)}. {data["meters_seen"]} of {data["meters"]} meters, before {data["train_until"]};
{data["meters"] - data["meters_seen"]} meters (drawn by seed {training["seed"]}) were kept out altogether. Other groups
of the table are judged only.

**How good.** NRMSE (percent: root mean squared error over mean absolute load, median over meters) of the baselines
and of the model's median; `ratio` is to mean(day, week); `worst 10%`: NRMSE that nine of ten meters stay below;
`better`: meters on which it beats every baseline; `wQL ratio` is to the quantiles of the persistence ensemble;
`80% cov.` is the share of hours between the 0.1 and the 0.9 quantile, and `calibrated` the same with each meter's
rolling correction (`operators/calibration.py`). Baselines fill gaps as the model does.

{table(scores)}

**What it looks at.** How much larger the quantile loss becomes when an input is exchanged between windows:
{_importance(card["importance"])}.

**Cost** (processor time of one thread, where it was trained). {cost["batch_64"]} µs a forecast (24 h × 9 quantiles,
features included) in batches of 64, {cost["batch_4096"]} µs in batches of 4096. File: {card["bytes"]} bytes, ONNX opset
{card["opset"]}.

**Checked.** The export differs from the trained model by at most {card["export_difference"]:.1e} of a meter's level;
{card["export_flips"]:.2%} of the rows compared took another branch of a tree.
SHA-256 `{card["sha256"]}`.

**Make it again** ({training["minutes"]} min where it was trained, one thread; files by name, wherever they lie):

    {training["command"]}

{training["reproducible"]}
Versions: {versions}.

**Limits.** {data.get("limits", "It knows the meters that it was trained on, and others as far as they behave alike.")}
Bands are not calibrated per meter before `operators/calibration.py` has seen some weeks. Changes of use are not known
to it until the history shows them. Net export is handled, but sun and wind are not foreseen. Quarter-hour phases do not
tell each other their newest slots.
"""


def _source(data: dict[str, Any]) -> str:
    known = [f"DOI {data['doi']}" if "doi" in data else "", f"licence {data['licence']}" if "licence" in data else ""]
    text = ", ".join(part for part in known if part)
    return f"{data['name']}{f' ({text})' if text else ''}{': ' + data['notes'] if 'notes' in data else ''}"


def _weather(card: dict[str, Any]) -> str:
    if card["feature_set"] != WITH_WEATHER:
        return "It reads no weather."
    return "It reads the weather of the meter's site, as far as it is known at the time of issue, and does without it."


def _importance(shares: dict[str, float]) -> str:
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:+.1%}" for name, share in ordered)
