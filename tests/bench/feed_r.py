"""Puts workload R on its topic: `python -m tests.bench.feed_r week|measured METERS QUARTERS`.

In the peers' environment, told by `BENCH_…`.
"""

from __future__ import annotations

import os
import sys

from tests.bench import realistic
from tests.bench.feed import send


def main() -> int:
    """Sends the part that is named."""
    size = realistic.Size(int(sys.argv[2]), int(sys.argv[3]))
    part = realistic.week(size) if sys.argv[1] == "week" else realistic.measured(size)
    print(send(os.environ["BENCH_KAFKA"], os.environ["BENCH_SOURCE"], part))
    return 0


if __name__ == "__main__":
    sys.exit(main())
