"""What the torch architectures share: ordered quantiles, their loss, the training loop, and the export."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.contract import Batch, Fit
from operators.features import CLIP, CONTEXT_HOURS, DAY_CHANGE, DAYS, HORIZON_HOURS, QUANTILES, Inputs

OPSET = 20
SIDE = len(QUANTILES) // 2
OUTPUTS = DAYS + len(QUANTILES) * HORIZON_HOURS
"""Numbers that a network gives for a window: weights of the seven days, a correction of their mean, and eight steps."""

AVERAGE = 0.999
"""Of the moving average of the weights, which is what is exported."""

NARROW = -3.0
"""Where the quantiles' steps begin: a narrow band, which training widens."""


def start_narrow(exit_layer: nn.Linear) -> None:
    """A last layer that begins as the mean of the seven days with a narrow band."""
    nn.init.normal_(exit_layer.weight, std=0.01)
    with torch.no_grad():
        exit_layer.bias.zero_()
        exit_layer.bias[DAYS + HORIZON_HOURS :] = NARROW


def clipped(window: Tensor) -> Tensor:
    """The window as a network's layers see it: around zero, and without spikes."""
    return torch.clamp(window, -CLIP, CLIP) - 1.0


def ordered_quantiles(out: Tensor, window: Tensor) -> Tensor:
    """Nine quantiles that cannot cross, in units of the meter's level.

    The median is a learned mean of the same hour on the last seven days plus a correction; the other quantiles are
    steps of positive height up and down from it (squareplus, (x + √(x² + 1)) / 2: cheaper than softplus).

    Args:
        out: [m, OUTPUTS].
        window: [m, 168].

    Returns:
        [m, 9, 24].
    """
    weight = torch.softmax(out[:, :DAYS], dim=1)
    base = (weight.unsqueeze(2) * window.reshape(-1, DAYS, HORIZON_HOURS)).sum(dim=1)
    median = base + out[:, DAYS : DAYS + HORIZON_HOURS]
    raw = out[:, DAYS + HORIZON_HOURS :]
    # Flat pieces, joined once: indexing a third axis exports as copies.
    steps = torch.split(0.5 * (raw + torch.sqrt(raw * raw + 1.0)), HORIZON_HOURS, dim=1)
    rows = [median]
    for i in range(SIDE):
        rows.append(rows[-1] + steps[SIDE + i])
    for i in range(SIDE):
        rows.insert(0, rows[0] - steps[SIDE - 1 - i])
    return torch.cat(rows, dim=1).reshape(-1, len(QUANTILES), HORIZON_HOURS)


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


def trained(
    make: Callable[[int], nn.Module],
    learning_rate: float,
    batches: Iterator[Batch],
    how: Fit,
    progress: Callable[[float, float], None],
) -> tuple[nn.Module, bool]:
    """Adam, a cosine schedule, and a moving average of the weights.

    Args:
        make: a network for so many columns of `extra`, which it keeps as its `extra`.
        learning_rate: the highest.
        batches: what it is trained on.
        how: how long.
        progress: as in `Architecture.fit`.

    Returns:
        The averaged network, on the processor and ready to predict; and whether all of the training ran. The same seed,
        batches, torch version and kind of processor give the same weights.
    """
    torch.manual_seed(how.seed)
    torch.set_num_threads(1)
    first = next(batches)
    columns = first.inputs["extra"].shape[1]
    batches = chain([first], batches)
    net = make(columns).to(how.device)
    mean = make(columns).to(how.device)
    mean.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=1e-4)
    started = time.monotonic()
    share, whole = 0.0, True
    for step in range(how.steps):
        share = step / how.steps
        if how.limit_s is not None:
            share = max(share, (time.monotonic() - started) / how.limit_s)
            if share >= 1:
                whole = False
                break
        optimiser.param_groups[0]["lr"] = learning_rate * min(1.0, 50 * share + 0.02) * _cosine(share)
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
            decay = min(AVERAGE, (1 + step) / (10 + step))
            for kept, new in zip(mean.parameters(), net.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        if step % 20 == 0:
            progress(share, float(loss.detach()))
    progress(1.0, float(loss.detach()))
    return mean.cpu().eval(), whole


def predicted(net: nn.Module, inputs: Inputs) -> NDArray[np.float32]:
    """The network's quantiles, [m, 9, 24]."""
    with torch.no_grad():
        out = net(torch.from_numpy(inputs["window"]), torch.from_numpy(inputs["extra"]))
    return cast(NDArray[np.float32], out.numpy())


def exported(net: nn.Module) -> bytes:
    """The network as an ONNX file for any number of rows."""
    example = (torch.zeros(2, CONTEXT_HOURS), torch.zeros(2, cast(int, net.extra)))
    rows = torch.export.Dim("rows", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself and about torchvision, which is not used
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            net,
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


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def _weighted(loss: Tensor, extra: Tensor) -> Tensor:
    """Divides a row's loss by how much its meter changes from day to day, or restless meters would decide alone."""
    day_change = torch.exp(extra[:, DAY_CHANGE])
    return (loss / (0.05 + day_change)).mean()
