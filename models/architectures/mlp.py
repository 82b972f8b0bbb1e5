"""A residual perceptron on the week: the shipped architecture."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.contract import Batch, Fit
from operators.features import CLIP, CONTEXT_HOURS, DAYS, EXTRA, HORIZON_HOURS, QUANTILES, Inputs

OPSET = 20
_SIDE = len(QUANTILES) // 2


class WeekMlp(nn.Module):
    """Nine ordered quantiles of the next 24 hours, in units of the meter's level.

    The median is a learned mean of the same hour on the last seven days plus a correction; the other quantiles are
    steps of positive height up and down from it (squareplus, (x + √(x² + 1)) / 2: cheaper than softplus), so they
    cannot cross.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.entry = nn.Linear(CONTEXT_HOURS + EXTRA, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.exit = nn.Linear(width, DAYS + len(QUANTILES) * HORIZON_HOURS)
        nn.init.normal_(self.exit.weight, std=0.01)
        with torch.no_grad():
            self.exit.bias.zero_()
            self.exit.bias[DAYS + HORIZON_HOURS :] = -3.0

    def forward(self, window: Tensor, extra: Tensor) -> Tensor:
        """[m, 168], [m, EXTRA] to [m, 9, 24]."""
        seen = torch.clamp(window, -CLIP, CLIP)
        hidden = torch.relu(self.entry(torch.cat((seen - 1.0, extra), dim=1)))
        for block in self.blocks:
            hidden = hidden + torch.relu(block(hidden))
        out = self.exit(hidden)
        weight = torch.softmax(out[:, :DAYS], dim=1)
        base = (weight.unsqueeze(2) * window.reshape(-1, DAYS, HORIZON_HOURS)).sum(dim=1)
        median = base + out[:, DAYS : DAYS + HORIZON_HOURS]
        raw = out[:, DAYS + HORIZON_HOURS :]
        steps = (0.5 * (raw + torch.sqrt(raw * raw + 1.0))).reshape(-1, 2 * _SIDE, HORIZON_HOURS)
        rows = [median]
        for i in range(_SIDE):
            rows.append(rows[-1] + steps[:, _SIDE + i])
        for i in range(_SIDE):
            rows.insert(0, rows[0] - steps[:, _SIDE - 1 - i])
        return torch.stack(rows, dim=1)


def pinball(forecast: Tensor, target: Tensor) -> Tensor:
    """Mean quantile loss of each row over its known hours (Koenker and Bassett 1978).

    Args:
        forecast: [m, 9, 24].
        target: [m, 24], NaN = missing.

    Returns:
        [m].
    """
    levels = torch.tensor(QUANTILES, device=forecast.device).reshape(1, -1, 1)
    known = torch.isfinite(target)
    error = torch.where(known, target, 0.0).unsqueeze(1) - forecast
    loss = torch.maximum(levels * error, (levels - 1) * error) * known.unsqueeze(1)
    return loss.sum(dim=(1, 2)) / (known.sum(dim=1).clamp(min=1) * len(QUANTILES))


@dataclass
class MlpArchitecture:
    """Trains `WeekMlp` with Adam, a cosine schedule, and a moving average of the weights."""

    name: str = "mlp"
    width: int = 224
    blocks: int = 3
    learning_rate: float = 4e-3
    average: float = 0.999

    def __post_init__(self) -> None:
        self._net: WeekMlp | None = None

    def fit(self, batches: Iterator[Batch], how: Fit, progress: Callable[[float, float], None]) -> bool:
        """As `Architecture.fit`; the same seed, batches, torch version and kind of processor give the same weights."""
        torch.manual_seed(how.seed)
        torch.set_num_threads(1)
        net = WeekMlp(self.width, self.blocks).to(how.device)
        mean = WeekMlp(self.width, self.blocks).to(how.device)
        mean.load_state_dict(net.state_dict())
        optimiser = torch.optim.AdamW(net.parameters(), lr=self.learning_rate, weight_decay=1e-4)
        started = time.monotonic()
        share, whole = 0.0, True
        for step in range(how.steps):
            share = step / how.steps
            if how.limit_s is not None:
                share = max(share, (time.monotonic() - started) / how.limit_s)
                if share >= 1:
                    whole = False
                    break
            optimiser.param_groups[0]["lr"] = self.learning_rate * min(1.0, 50 * share + 0.02) * _cosine(share)
            batch = next(batches)
            window, extra, target = (
                torch.from_numpy(array).to(how.device)
                for array in (batch.inputs["window"], batch.inputs["extra"], batch.target)
            )
            loss = _weighted(pinball(net(window, extra), target), extra)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            with torch.no_grad():
                decay = min(self.average, (1 + step) / (10 + step))
                for kept, new in zip(mean.parameters(), net.parameters(), strict=True):
                    kept.lerp_(new, 1 - decay)
            if step % 20 == 0:
                progress(share, float(loss.detach()))
        self._net = mean.cpu().eval()
        progress(1.0, float(loss.detach()))
        return whole

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """As `Architecture.predict`."""
        with torch.no_grad():
            out = self._trained()(torch.from_numpy(inputs["window"]), torch.from_numpy(inputs["extra"]))
        return cast(NDArray[np.float32], out.numpy())

    def to_onnx(self) -> bytes:
        """As `Architecture.to_onnx`."""
        example = (torch.zeros(2, CONTEXT_HOURS), torch.zeros(2, EXTRA))
        rows = torch.export.Dim("rows", min=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself and about torchvision, which is not used
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                self._trained(),
                example,
                input_names=["window", "extra"],
                output_names=["quantiles"],
                opset_version=OPSET,
                dynamic_shapes={"window": {0: rows}, "extra": {0: rows}},
                dynamo=True,
                optimize=True,
                verbose=False,
            )
        if program is None:
            raise RuntimeError("torch exported nothing")
        content: bytes = program.model_proto.SerializeToString()
        return content

    def _trained(self) -> WeekMlp:
        if self._net is None:
            raise RuntimeError("the model is not trained: call fit first")
        return self._net


def architecture() -> MlpArchitecture:
    """The shipped one, untrained."""
    return MlpArchitecture()


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _weighted(loss: Tensor, extra: Tensor) -> Tensor:
    """Divides a row's loss by how much its meter changes from day to day, or restless meters would decide alone."""
    day_change = torch.exp(extra[:, -2])
    return (loss / (0.05 + day_change)).mean()
