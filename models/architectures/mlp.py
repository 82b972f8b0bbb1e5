"""A residual perceptron on the week: the shipped architecture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import torch_parts
from models.contract import NETWORK, Batch, Fit, Limits, NotTrainedError, Range
from operators.features import CONTEXT_HOURS, Inputs


class WeekMlp(nn.Module):
    """[m, 168], [m, extra] to [m, 9, 24]: blocks of one layer each, added to what came before."""

    def __init__(self, width: int, blocks: int, extra: int) -> None:
        super().__init__()
        self.extra = extra
        self.entry = nn.Linear(CONTEXT_HOURS + extra, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.exit = nn.Linear(width, torch_parts.OUTPUTS)
        torch_parts.start_narrow(self.exit)

    def forward(self, window: Tensor, extra: Tensor) -> Tensor:
        """Quantiles in units of the meter's level."""
        hidden = torch.relu(self.entry(torch.cat((torch_parts.clipped(window), extra), dim=1)))
        for block in self.blocks:
            hidden = hidden + torch.relu(block(hidden))
        return torch_parts.ordered_quantiles(self.exit(hidden), window)


SEARCH = {"width": Range(128, 208, 16), "blocks": Range(2, 3, 1), "learning_rate": Range(1e-3, 8e-3)}
"""No wider than what a forecast may cost."""


@dataclass
class MlpArchitecture:
    """Trains `WeekMlp`."""

    name: str = "mlp"
    limits: Limits = NETWORK
    width: int = 208
    blocks: int = 3
    learning_rate: float = 4e-3
    _net: nn.Module | None = field(default=None, init=False, repr=False)

    def fit(self, batches: Iterator[Batch], how: Fit, progress: Callable[[float, float], None]) -> bool:
        """As `Architecture.fit`."""
        self._net, whole = torch_parts.trained(
            lambda extra: WeekMlp(self.width, self.blocks, extra), self.learning_rate, batches, how, progress
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


def architecture() -> MlpArchitecture:
    """The shipped one, untrained."""
    return MlpArchitecture()
