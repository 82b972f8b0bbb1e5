"""A small sequence model of the N-HiTS class (Challu et al. 2023): pooling at several rates, coarse to fine.

Each stack looks at what the earlier ones left over of the week, at its own resolution, and adds a forecast of few
knots, drawn through by straight lines; here with ordered quantiles in place of a point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import torch_parts
from models.contract import NETWORK, Batch, Fit, Limits, NotTrainedError, Range
from operators.features import CONTEXT_HOURS, DAYS, HORIZON_HOURS, QUANTILES, Inputs

POOLS = (8, 4, 1)
"""Hours that a stack takes together, coarse to fine; each divides 24."""


def lines(knots: int, hours: int) -> Tensor:
    """Straight lines between knots as a matrix: [knots, hours]."""
    at = torch.linspace(0, knots - 1, hours)
    return torch.clamp(1 - (at[None, :] - torch.arange(knots)[:, None]).abs(), min=0)


class Stack(nn.Module):
    """One resolution: [m, 168] and [m, extra] to what it explains of the week, [m, 168], and its outputs."""

    back: Tensor
    ahead: Tensor

    def __init__(self, pool: int, width: int, extra: int) -> None:
        super().__init__()
        self.pool = pool
        self.past, self.knots = CONTEXT_HOURS // pool, max(HORIZON_HOURS // pool, 2)
        self.entry = nn.Linear(self.past + extra, width)
        self.hidden = nn.Linear(width, width)
        self.exit = nn.Linear(width, self.past + DAYS + len(QUANTILES) * self.knots)
        nn.init.normal_(self.exit.weight, std=0.01)
        nn.init.zeros_(self.exit.bias)
        self.register_buffer("back", lines(self.past, CONTEXT_HOURS))
        self.register_buffer("ahead", lines(self.knots, HORIZON_HOURS))

    def forward(self, rest: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """What of the week is explained, and the stack's part of the outputs, [m, torch_parts.OUTPUTS]."""
        pooled = rest.reshape(-1, self.past, self.pool).mean(dim=2)
        hidden = torch.relu(self.entry(torch.cat((pooled, extra), dim=1)))
        out = self.exit(hidden + torch.relu(self.hidden(hidden)))
        explained = out[:, : self.past] @ self.back
        weights = out[:, self.past : self.past + DAYS]
        knots = out[:, self.past + DAYS :].reshape(-1, len(QUANTILES), self.knots)
        drawn = (knots @ self.ahead).reshape(-1, len(QUANTILES) * HORIZON_HOURS)
        return explained, torch.cat((weights, drawn), dim=1)


class Nhits(nn.Module):
    """[m, 168], [m, extra] to [m, 9, 24]."""

    start: Tensor

    def __init__(self, width: int, extra: int) -> None:
        super().__init__()
        self.extra = extra
        self.stacks = nn.ModuleList(Stack(pool, width, extra) for pool in POOLS)
        start = torch.zeros(torch_parts.OUTPUTS)
        start[DAYS + HORIZON_HOURS :] = torch_parts.NARROW
        self.register_buffer("start", start)

    def forward(self, window: Tensor, extra: Tensor) -> Tensor:
        """Quantiles in units of the meter's level."""
        rest = torch_parts.clipped(window)
        out = self.start
        for stack in self.stacks:
            explained, part = stack(rest, extra)
            rest = rest - explained
            out = out + part
        return torch_parts.ordered_quantiles(out, window)


SEARCH = {"width": Range(64, 128, 32), "learning_rate": Range(5e-4, 8e-3)}


@dataclass
class NhitsArchitecture:
    """Trains `Nhits`."""

    name: str = "nhits"
    limits: Limits = NETWORK
    width: int = 128
    learning_rate: float = 2e-3
    _net: nn.Module | None = field(default=None, init=False, repr=False)

    def fit(self, batches: Iterator[Batch], how: Fit, progress: Callable[[float, float], None]) -> bool:
        """As `Architecture.fit`."""
        self._net, whole = torch_parts.trained(
            lambda extra: Nhits(self.width, extra), self.learning_rate, batches, how, progress
        )
        return whole

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """As `Architecture.predict`."""
        return torch_parts.predicted(self._trained(), inputs)

    def to_onnx(self) -> bytes:
        """As `Architecture.to_onnx`."""
        return torch_parts.exported(self._trained())

    def _trained(self) -> nn.Module:
        if self._net is None:
            raise NotTrainedError
        return self._net


def architecture() -> NhitsArchitecture:
    """Untrained."""
    return NhitsArchitecture()
