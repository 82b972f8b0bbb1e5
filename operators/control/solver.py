"""Linear programs as arrays, solved by HiGHS.

One instance of HiGHS is kept, with one thread: instances of one process share a pool of threads, and one that wants
another number than the first one's does not solve at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIP_GAP = 0.005
MIP_NODES = 400
"""A bound in nodes, not in seconds: the same input gives the same plan on a slow machine."""


class SolverError(RuntimeError):
    """No solution: the reason is HiGHS's status."""


@dataclass(frozen=True)
class Solution:
    """What a program's columns are."""

    values: Floats
    objective: float
    integral: bool
    """False: the relaxation of a program whose whole numbers were not found in time."""


class Program:
    """A minimisation, built column block by column block and row block by row block."""

    def __init__(self) -> None:
        self.columns = 0
        self.rows = 0
        self._cost: list[Floats] = []
        self._low: list[Floats] = []
        self._high: list[Floats] = []
        self._whole: list[NDArray[np.bool_]] = []
        self._row_low: list[Floats] = []
        self._row_high: list[Floats] = []
        self._entries: list[tuple[Ints, Ints, Floats]] = []

    def add_columns(self, count: int, cost: Any = 0.0, low: Any = 0.0, high: Any = np.inf, whole: bool = False) -> Ints:
        """Adds variables; `cost`, `low`, `high` are [count] or one for all. Returns their numbers."""
        for store, value in ((self._cost, cost), (self._low, low), (self._high, high)):
            store.append(np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)))
        self._whole.append(np.full(count, whole))
        self.columns += count
        return np.arange(self.columns - count, self.columns)

    def add_rows(self, low: Any, high: Any, count: int | None = None) -> Ints:
        """Adds constraints; `low`, `high` are [n] or one for all (both: of `count`). Returns their numbers."""
        size = np.broadcast(low, high).size if count is None else count
        self._row_low.append(np.broadcast_to(np.asarray(low, dtype=np.float64), (size,)))
        self._row_high.append(np.broadcast_to(np.asarray(high, dtype=np.float64), (size,)))
        self.rows += size
        return np.arange(self.rows - size, self.rows)

    def put(self, rows: Any, columns: Any, values: Any) -> None:
        """Sets coefficients; the arguments are broadcast against each other. No entry may be set twice."""
        row, column, value = np.broadcast_arrays(
            np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64), np.asarray(values, dtype=np.float64)
        )
        self._entries.append((row.ravel(), column.ravel(), value.ravel()))

    def matrix(self) -> tuple[Ints, Ints, Floats]:
        """By column: where each begins, row numbers, values."""
        row, column, value = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        order = np.lexsort((row, column))
        starts = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=self.columns))])
        return starts, row[order], value[order]

    def model(self) -> Any:
        """As HiGHS takes it."""
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = self.columns, self.rows
        lp.col_cost_, lp.col_lower_, lp.col_upper_ = map(np.concatenate, (self._cost, self._low, self._high))
        lp.row_lower_, lp.row_upper_ = np.concatenate(self._row_low), np.concatenate(self._row_high)
        starts, index, value = self.matrix()
        lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = starts, index, value
        whole = np.concatenate(self._whole)
        if whole.any():
            kinds = {True: highspy.HighsVarType.kInteger, False: highspy.HighsVarType.kContinuous}
            lp.integrality_ = [kinds[bool(one)] for one in whole]
        return lp


class _Quiet(highspy.Highs):
    """Without callbacks: enabling them prints a banner on standard output before it can be turned off."""

    def __init__(self) -> None:
        super(highspy.Highs, self).__init__()


class Solver:
    """Solves programs one after the other.

    Args:
        gap: of whole numbers, relative.
        warm: a program shaped as the last one starts from its basis. Where several optima are equal, which one is found
            then depends on the program before; False: on nothing but the program.
    """

    def __init__(self, gap: float = MIP_GAP, *, warm: bool = True) -> None:
        self._warm = warm
        self._highs: Any = _Quiet()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),
            ("mip_rel_gap", gap),
            ("mip_max_nodes", MIP_NODES),
            # Programs within the program and a second beginning take half the time, for plans that cost the same to
            # 3e-5 (tests/bench/planner.py).
            ("mip_allow_restart", False),
            ("mip_heuristic_run_rins", False),
            ("mip_heuristic_run_rens", False),
            ("mip_heuristic_run_root_reduced_cost", False),
        ):
            self._highs.setOptionValue(name, value)
        self._shape: tuple[int, int] | None = None
        self._basis: Any = None

    def solve(self, program: Program, limit_s: float = 10.0) -> Solution:
        """The optimum.

        Args:
            program: what to minimise.
            limit_s: seconds after which it is given up; a guard against the unforeseen, not a way to stop early.

        Raises:
            SolverError: infeasible, unbounded, out of time or not numbers.
        """
        model = program.model()
        whole = len(model.integrality_) > 0
        highs = self._highs
        if not self._warm:
            highs.clearSolver()
        highs.setOptionValue("time_limit", highs.getRunTime() + limit_s)
        self._pass(model)
        if self._warm and not whole and self._shape == (program.columns, program.rows):
            highs.setBasis(self._basis)
        highs.run()
        status = highs.getModelStatus()
        if whole and status != highspy.HighsModelStatus.kOptimal:
            if np.isfinite(highs.getInfo().objective_function_value) and highs.getSolution().value_valid:
                return self._found(True)
            model.integrality_ = []
            return self._relaxed(model)
        if status != highspy.HighsModelStatus.kOptimal:
            self._shape = None
            raise SolverError(f"no plan: the solver says {highs.modelStatusToString(status)}")
        if not whole:
            self._shape, self._basis = (program.columns, program.rows), highs.getBasis()
        return self._found(True)

    def _relaxed(self, model: Any) -> Solution:
        self._pass(model)
        self._highs.run()
        status = self._highs.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            raise SolverError(f"no plan: the solver says {self._highs.modelStatusToString(status)}")
        return self._found(False)

    def _pass(self, model: Any) -> None:
        if self._highs.passModel(model) == highspy.HighsStatus.kError:
            raise SolverError("no plan: the solver refuses the numbers")

    def _found(self, integral: bool) -> Solution:
        values = np.array(self._highs.getSolution().col_value)
        if not np.isfinite(values).all():
            raise SolverError("no plan: the solver's answer is not finite")
        return Solution(values, float(self._highs.getInfo().objective_function_value), integral)
