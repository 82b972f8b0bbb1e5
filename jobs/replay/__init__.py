"""Where readings come from: files, the demo's samples and a generated fleet, put on `meter.readings`."""

from jobs.replay.batch import Batch, ReplayError
from jobs.replay.producer import Progress, Summary, send
from jobs.replay.sources import Source, merge

__all__ = ["Batch", "Progress", "ReplayError", "Source", "Summary", "merge", "send"]
