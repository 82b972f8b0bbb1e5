"""`energyai replay --verify`: is what production has what its recorded readings give?"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.commands._common import print_json
from jobs.errors import UserError
from jobs.flink_rest import ENDED, POLL_S, FlinkRest
from jobs.job_settings import JobSettings
from jobs.settings import Addresses, Settings, addresses
from jobs.submission import submit
from jobs.verify import check, recording, report, surroundings
from jobs.verify.recording import Recording

GROUPS = {job: f"energyai-{job}" for job in ("ingest", "forecast")}
"""Names of the jobs, and of their consumer groups."""
OUTPUTS = ("meter.readings.rejected", "forecasts", "models")
EVERY_S = 5.0
CAUGHT_UP_WITHIN_S = 60.0
MARGIN = timedelta(hours=1)
"""A forecast of the last hour may be due to a reading that came after the recording."""
DIFFERENT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `replay` that go with --verify."""
    group = parser.add_argument_group("verify", "replay = production: no SOURCE; the recorded topic is read again")
    group.add_argument(
        "--verify",
        action="store_true",
        help="run ingest and forecast over meter.readings as recorded, into an empty database of their own, and "
        "compare with production; exit code 0 equal, 1 different",
    )
    group.add_argument("--parallelism", type=int, default=2, metavar="N", help="subtasks of the replay (default 2)")
    group.add_argument("--against", metavar="URL", help="an empty TimescaleDB to use (default: an embedded one)")
    group.add_argument("--only", default="", metavar="PREFIX", help="compare only meters whose id begins so")
    group.add_argument("--model", metavar="FILE", help="the ONNX model that production runs (default: the shipped one)")
    group.add_argument("--model-sha256", metavar="HEX", help="its checksum")


def run(args: argparse.Namespace) -> int:
    """Replays and compares; 0 when all rows are equal, 1 when not.

    Raises:
        UserError: no stack, no room on it, a job that failed, a database that is not empty.
    """
    settings = Settings.load(data_dir=args.data_dir)
    where = addresses(settings)
    # A terminal that is closed, or a supervisor's TERM, must leave nothing behind: as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    return _Run(args, settings, where).result()


@dataclass
class _Run:
    """One verification."""

    args: argparse.Namespace
    settings: Settings
    where: Addresses

    def result(self) -> int:
        """Everything, in order; what it started is gone at the end."""
        begun = time.monotonic()
        self.flink = FlinkRest(self.where.flink_url)
        self._check_room()
        for name in surroundings.remove_leftovers(self.settings, self.where):
            self._say(f"removed what {name} left behind")
        job = JobSettings.parse(["--kafka", self.where.kafka, "--database-url", self.where.database_url], "")
        taken = recording.take(
            self.where.kafka, job.topic_prefix + "meter.readings", job.watermark_delay_s, job.future_tolerance_s
        )
        self._tell(taken)
        name = surroundings.run_name()
        with ExitStack() as stack:
            if self.args.against:
                url = surroundings.given_database(self.args.against)
            else:
                self._say("starting an empty database …")
                url = stack.enter_context(surroundings.empty_database(self.settings, self.where, name))
            surroundings.copy_configuration(self.where.database_url, url)
            topics = [f"{name}.{job.topic_prefix}{output}" for output in OUTPUTS]
            stack.enter_context(recording.temporary_topics(self.where.kafka, topics))
            stack.callback(surroundings.cancel_jobs, self.where.flink_url, name)
            self._replay(taken, url, name)
            behind = self._behind(taken)
            since = self._since(taken)
            found = check.compare(
                self.where.database_url, url, taken.topic, dict(taken.ends), since, self.args.only, self._progress()
            )
        outcome = report.outcome(taken, found, behind, since, self.args.parallelism, time.monotonic() - begun)
        if self.args.json:
            print_json(outcome)
        else:
            report.show(outcome)
        return 0 if outcome["equal"] else DIFFERENT

    def _say(self, text: str) -> None:
        if not self.args.json:
            print(text, file=sys.stderr, flush=True)

    def _tell(self, taken: Recording) -> None:
        self._say(f"{taken.topic}: {taken.records:,} records, offsets by partition:")
        for partition, end in sorted(taken.ends.items()):
            self._say(f"  {partition}: {taken.begins[partition]:,} to {end:,}")
        if taken.deleted:
            self._say(
                f"  {taken.deleted:,} older records are kept no longer: what production made of them is missing here"
            )
        if not taken.records:
            raise UserError(f"{taken.topic} is empty: there is nothing to replay")

    def _check_room(self) -> None:
        wanted = self.args.parallelism * len(GROUPS)
        if self.args.parallelism < 1:
            raise UserError(f"--parallelism {self.args.parallelism}: out of range", 2)
        free = int(self.flink.call("/overview")["slots-available"])
        if free < wanted:
            raise UserError(
                f"the replay needs {wanted} task slots, and the cluster has {free} free: a smaller --parallelism, or "
                "more slots (`energyai up --slots N`)"
            )

    def _replay(self, taken: Recording, url: str, name: str) -> None:
        """Both jobs, to the end of the recording."""
        options = ["--until-complete", "--until-offsets", taken.until_offsets(), "--output-prefix", f"{name}."]
        options += ["--parallelism", str(self.args.parallelism)]
        for option in ("model", "model_sha256"):
            if getattr(self.args, option):
                options += [f"--{option.replace('_', '-')}", getattr(self.args, option)]
        self._say(f"replaying with parallelism {self.args.parallelism} …")
        target = Addresses(self.where.kafka, url, self.where.flink_url)
        left = submit(self.settings, target, tuple(GROUPS), options)
        due = time.monotonic() + EVERY_S
        while left:
            for job, job_id in list(left.items()):
                state = self.flink.state(job_id)
                if state in ENDED:
                    if state != "FINISHED":
                        raise UserError(f"the replay's {job} {state.lower()}: {self.flink.cause(job_id)}")
                    del left[job]
                    self._say(f"  {job} has read all of it")
            if time.monotonic() > due:
                due = time.monotonic() + EVERY_S
                with suppress(UserError):  # a broker too busy for a figure is no reason to end
                    self._say("  " + ", ".join(self._how_far(taken, job, name) for job in left))
            time.sleep(POLL_S)

    def _how_far(self, taken: Recording, job: str, name: str) -> str:
        left = taken.left(recording.committed(self.where.kafka, f"{name}.{GROUPS[job]}", taken.topic))
        return f"{job}: {1 - left / taken.records:.0%} at its last checkpoint"

    def _behind(self, taken: Recording) -> dict[str, int | None]:
        """How many of the recorded records production's jobs have still to read; None for a job that does not run."""
        running = {job["name"] for job in self.flink.running()}
        live = [job for job, name in GROUPS.items() if name in running]
        deadline = time.monotonic() + CAUGHT_UP_WITHIN_S
        while True:
            left = {job: taken.left(recording.committed(self.where.kafka, GROUPS[job], taken.topic)) for job in live}
            if not any(left.values()) or time.monotonic() > deadline:
                return {job: left.get(job) for job in GROUPS}
            self._say("production is behind the recording; waiting for its next checkpoint …")
            time.sleep(EVERY_S)

    def _since(self, taken: Recording) -> check.Since:
        """What production may know beside the recording."""
        grown = recording.ends(self.where.kafka, taken.topic) != dict(taken.ends)
        live = any(job["name"] == GROUPS["forecast"] for job in self.flink.running())
        return check.Since(
            # A row's arrival is in whole seconds.
            arrived=_time(taken.arrived_ms // 1000 * 1000) if grown else None,
            settled=_time(taken.settled_ms) - MARGIN if grown or live else None,
        )

    def _progress(self) -> Any:
        due = 0.0

        def show(table: str, done: int, total: int) -> None:
            nonlocal due
            if time.monotonic() > due:
                due = time.monotonic() + EVERY_S
                self._say(f"comparing {table}: {done:,} of {total:,} meters")

        return show


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
