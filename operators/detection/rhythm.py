"""How often a meter is heard of: one that reports once a day is not missing in between."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
GAPS = 5
"""Of so many gaps between news the middle one is the meter's own: one outage changes nothing."""
PATIENCE = 1.25
NONE = -1


@dataclass(frozen=True)
class Rhythm:
    """Of m meters; never changed in place."""

    newest_ms: Ints
    """[m] the newest reading, epoch ms UTC; NONE: there was none."""
    heard_ms: Ints
    """[m] end of the window in which it came."""
    gaps_ms: Ints
    """[m, GAPS] between the last such windows, the newest first; NONE: there was none."""

    @classmethod
    def empty(cls, meters: int) -> Rhythm:
        """Nothing was heard of them."""
        never = np.full(meters, NONE, np.int64)
        return cls(never, never, np.full((meters, GAPS), NONE, np.int64))

    def grown(self, meters: int) -> Rhythm:
        """The same with new meters after the old ones."""
        fresh = Rhythm.empty(meters - len(self.heard_ms))
        return Rhythm(
            np.concatenate((self.newest_ms, fresh.newest_ms)),
            np.concatenate((self.heard_ms, fresh.heard_ms)),
            np.concatenate((self.gaps_ms, fresh.gaps_ms)),
        )

    def hear(self, newest_ms: Ints, window_end_ms: int) -> Rhythm:
        """Takes in what a window brought.

        Args:
            newest_ms: [m] the newest reading by now; what it is not after NONE is none.
            window_end_ms: its end, epoch ms UTC.
        """
        news = newest_ms > self.newest_ms
        known = news & (self.heard_ms != NONE) & (window_end_ms > self.heard_ms)
        gaps = np.roll(self.gaps_ms, 1, axis=1)
        gaps[:, 0] = window_end_ms - self.heard_ms
        return replace(
            self,
            newest_ms=np.where(news, newest_ms, self.newest_ms),
            heard_ms=np.where(news, np.maximum(window_end_ms, self.heard_ms), self.heard_ms),
            gaps_ms=np.where(known[:, None], gaps, self.gaps_ms),
        )

    def patience_ms(self, least_ms: Ints) -> Ints:
        """[m] after how long without a word a step counts as missing; never below `least_ms` [m]."""
        count = (self.gaps_ms != NONE).sum(axis=1)
        ordered = np.sort(np.where(self.gaps_ms == NONE, np.iinfo(np.int64).max, self.gaps_ms), axis=1)
        middle = ordered[np.arange(len(count)), np.maximum(count - 1, 0) // 2]
        own = (PATIENCE * np.where(count > 0, middle, 0)).astype(np.int64)
        return np.maximum(least_ms, own)
