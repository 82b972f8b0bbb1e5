"""`energyai models …`: versions of the forecaster, which of them serves, and why."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.commands._series import add_series, load_series, moment
from jobs.errors import UserError
from jobs.settings import Addresses, Settings, addresses

if TYPE_CHECKING:
    from jobs.models.registry import Version
    from models.gate import Verdict
    from operators.serving.plan import Announcement

NAME = "models"
HELP = "list, promote and roll back model versions"
STOPPED = 4
"""Exit code of a promotion that the gate stopped."""
PROMOTE_LEAD_MS = 3_600_000
ROLLBACK_LEAD_MS = 900_000
EPILOG = """\
A promotion is judged first, on past energy (SOURCE, or the database): the version must be better than the champion and
all baselines, on meters that its training saw and on others. What serves from when on is announced to the running jobs.

  energyai models register my-model/forecaster.onnx
  energyai models promote 2 data.parquet --tz Europe/London
  energyai models promote 3 --alias challenger
  energyai models rollback"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `models`."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="versions, and which of them serves")
    show = actions.add_parser("show", help="one version: card, lineage, what the gate said")
    register = actions.add_parser("register", help="add a trained model as the next version")
    promote = actions.add_parser("promote", help="judge a version, and let it serve if it is better")
    rollback = actions.add_parser("rollback", help="back to the champion before, or to --to")
    withdraw = actions.add_parser("withdraw", help="no challenger any more")
    announce = actions.add_parser("announce", help="send what was announced again")
    keys = actions.add_parser("keys", help="the public key of this installation, for --model-keys")
    show.add_argument("version", type=int, metavar="VERSION")
    register.add_argument("model", type=Path, metavar="FILE", help="forecaster.onnx of `energyai train`")
    promote.add_argument("version", type=int, metavar="VERSION")
    promote.add_argument("--alias", choices=("champion", "challenger"), default="champion",
                         help="champion serves; challenger is scored beside it, without a judgement")  # fmt: skip
    promote.add_argument(
        "--from", dest="start", type=moment, metavar="TIME", help="judge forecasts from (default: the end of training)"
    )
    promote.add_argument(
        "--stride-h", type=int, default=25, metavar="H", help="hours between judged forecasts of a meter"
    )
    add_series(promote)
    rollback.add_argument("--to", type=int, metavar="VERSION", help="0: the model that the job brings along")
    for action in (promote, rollback, withdraw):
        action.add_argument("--effective-from", type=moment, metavar="TIME",
                            help="event time (default: a little after the newest forecast)")  # fmt: skip
    for action in (listed, show, register, promote, rollback, withdraw, announce, keys):
        action.add_argument("--name", default="forecaster", help="of the model (default: forecaster)")
        action.add_argument("--topic-prefix", default="", help=argparse.SUPPRESS)
        if action not in (keys, promote):
            add_data_dir(action)
        add_json(action)


def run(args: argparse.Namespace) -> int:
    """Exit code 0; 4 when the gate stopped a promotion.

    Raises:
        UserError, ModelError: one line for the user.
    """
    return {
        "list": _list,
        "show": _show,
        "register": _register,
        "promote": _promote,
        "rollback": _rollback,
        "withdraw": _withdraw,
        "announce": _announce,
        "keys": _keys,
    }[args.action](args)


def _where(args: argparse.Namespace) -> Addresses:
    return addresses(Settings.load(data_dir=args.data_dir))


def _known(args: argparse.Namespace) -> list[Announcement]:
    """What was announced; nothing where no stack runs."""
    from jobs.models.announce import stored

    with suppress(UserError):
        return stored(_where(args).database_url, args.name)
    return []


def _list(args: argparse.Namespace) -> int:
    from jobs.models.registering import registry
    from operators.serving.plan import utc

    found, known = registry(), _known(args)
    roles = {alias: max((e for e in known if e.alias == alias), default=None) for alias in ("champion", "challenger")}
    rows = []
    for number in found.numbers(args.name):
        version = found.get(args.name, number)
        role = next((a for a, e in roles.items() if e and e.version == number and not e.withdrawn), None)
        since = roles[role] if role else None
        rows.append(
            {
                "version": number,
                "alias": role,
                "effective_from": utc(since.effective_ms) if since else None,
                "model_id": version.manifest["model_id"],
                "sha256": version.sha256,
                "registered_at": version.manifest["registered_at"],
                "uri": version.uri,
            }
        )
    if args.json:
        print_json({"model_name": args.name, "versions": rows, "announcements": [e.fields() for e in known]})
        return 0
    if not rows:
        print(f"no version of {args.name} yet: `energyai models register FILE` adds one; the shipped model serves")
    for row in rows:
        role = f"{row['alias']} from {row['effective_from']}" if row["alias"] else ""
        print(
            f"{row['version']:>4}  {row['model_id']:<32} {row['sha256'][:12]}  {row['registered_at']}  {role}".rstrip()
        )
    champion = roles["champion"]
    if champion is not None and champion.version == 0:
        print(f"the model that the job brings along serves from {utc(champion.effective_ms)}: {champion.reason}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from jobs.models.registering import registry

    version = registry().get(args.name, args.version)
    card, said = version.card(), [e.fields() for e in _known(args) if e.version == args.version]
    if args.json:
        print_json({"manifest": dict(version.manifest), "card": card, "announcements": said, "uri": version.uri})
        return 0
    manifest = version.manifest
    print(
        f"{args.name} version {args.version}: {manifest['model_id']}\n{version.uri}\nSHA-256 {version.sha256}, signed"
    )
    print(
        f"registered {manifest['registered_at']}; data: {manifest['lineage'].get('data')}, "
        f"to {manifest['data_range'][1]}"
    )
    print(f"made by: {manifest['lineage'].get('command')}")
    for group in card.get("metrics") or []:
        print(f"  {group['group']}: NRMSE {group['nrmse']['model']:.2f}%, {group['ratio']:.3f} of mean(day, week)")
    for each in said:
        print(f"{each['alias']} from {each['effective_from']}: {each['reason']}")
    return 0


def _register(args: argparse.Namespace) -> int:
    from jobs.models.registering import register

    version = register(args.model, args.name, Settings.load(data_dir=args.data_dir))
    _tell(args, {"version": version.version, "uri": version.uri, "sha256": version.sha256},
          f"{args.name} version {version.version}: {version.uri}")  # fmt: skip
    return 0


def _promote(args: argparse.Namespace) -> int:
    from jobs.models import announce
    from jobs.models.registering import metrics_of, registry

    where = _where(args)
    version = registry().get(args.name, args.version)
    reason = "challenger"
    if args.alias == "champion":
        verdict, against = _judged(args, where, version)
        announce.store_version(where.database_url, version, metrics_of(version))
        announce.store_verdict(
            where.database_url, args.name, args.version, against, verdict.passed, verdict.as_json()
        )  # fmt: skip
        if not verdict.passed:
            if args.json:
                print_json({"promoted": False, **verdict.as_json()})
            else:
                print(f"stopped: version {args.version} is not promoted", file=sys.stderr)
                print("\n".join(verdict.reasons), file=sys.stderr)
            return STOPPED
        reason = f"passed the gate: {len(verdict.comparisons)} comparisons"
    else:
        version.model()  # loads, or says why not
        announce.store_version(where.database_url, version, metrics_of(version))
    _say(args, where, announce.of_version(version, args.alias, _effective(args, where, PROMOTE_LEAD_MS), reason))
    return 0


def _judged(args: argparse.Namespace, where: Addresses, version: Version) -> tuple[Verdict, str]:
    """The verdict, and the champion's checksum."""
    from rich.console import Console
    from rich.progress import Progress

    from jobs.models.judge import judge, judged_span
    from jobs.models.promotion import champion_of

    champion, card = champion_of(where.database_url, args.name)
    mine = version.card()
    if champion.sha256 == version.sha256:
        raise UserError(f"version {args.version} is the champion already: nothing to promote")
    span = judged_span((mine, card), args.start, args.stride_h)
    unseen = frozenset(map(str, mine.get("data", {}).get("unseen") or ()))
    sets = load_series(args)
    console = Console(stderr=True)
    with Progress(console=console, disable=args.json or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(f"judging against {champion.model_id}", total=1.0)
        verdict = judge(
            version.model(), champion, sets, unseen, span, lambda share: bar.update(task, completed=share)
        )  # fmt: skip
    return verdict, champion.sha256


def _rollback(args: argparse.Namespace) -> int:
    from jobs.models import announce
    from jobs.models.registering import registry
    from operators.forecaster import shipped_sha256
    from operators.serving.plan import CHAMPION, ROLLBACK, Announcement

    where = _where(args)
    present, previous = announce.before(announce.stored(where.database_url, args.name))
    number = args.to if args.to is not None else (previous.version if previous else 0)
    if number == present.version:
        raise UserError(f"version {number} is the champion already: name another with --to")
    effective = _effective(args, where, ROLLBACK_LEAD_MS)
    reason = f"{ROLLBACK} from version {present.version}, by hand"
    if number:
        version = registry().get(args.name, number)
        version.model()
        announced = announce.of_version(version, CHAMPION, effective, reason)
    else:
        announced = Announcement(0, effective, 0, shipped_sha256(), CHAMPION, "", reason)
    _say(args, where, announced)
    return 0


def _withdraw(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from jobs.models import announce
    from operators.serving.plan import CHALLENGER

    where = _where(args)
    named = max((e for e in announce.stored(where.database_url, args.name) if e.alias == CHALLENGER), default=None)
    if named is None or named.withdrawn:
        raise UserError("there is no challenger")
    effective = _effective(args, where, ROLLBACK_LEAD_MS)
    _say(args, where, replace(named, announced_ms=0, effective_ms=effective, reason="withdrawn", withdrawn=True))
    return 0


def _announce(args: argparse.Namespace) -> int:
    from jobs.models.announce import send

    count = send(_where(args), args.name, args.topic_prefix)
    _tell(args, {"announcements": count}, f"{count} announcements of {args.name} sent")
    return 0


def _keys(args: argparse.Namespace) -> int:
    from jobs.models import keys

    public = keys.trusted()
    _tell(args, {"public_keys": list(public)}, ",".join(public))
    return 0


def _effective(args: argparse.Namespace, where: Addresses, lead_ms: int) -> int:
    from jobs.models.announce import effective_from

    found = effective_from(where.database_url, lead_ms)
    if args.effective_from is None:
        return found
    if args.effective_from <= found - lead_ms:
        print("forecasts were issued after --effective-from: it counts from each shard's next one", file=sys.stderr)
    return int(args.effective_from)


def _say(args: argparse.Namespace, where: Addresses, announced: Announcement) -> None:
    from jobs.models.announce import announce
    from operators.serving.plan import utc

    said = announce(where, args.name, announced, args.topic_prefix)
    role = f"no {said.alias}" if said.withdrawn else f"{said.alias} is version {said.version}"
    since = "the first forecast" if said.effective_ms == 0 else utc(said.effective_ms)
    _tell(args, {"promoted": True, **said.fields()} if args.action == "promote" else said.fields(),
          f"announced: {role} from {since} (event time)")  # fmt: skip


def _tell(args: argparse.Namespace, fields: dict[str, Any], text: str) -> None:
    print_json(fields) if args.json else print(text)
