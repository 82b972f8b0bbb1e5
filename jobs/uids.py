"""Fixed uids for a job's operators, by which a savepoint finds them again in a later version of the job.

Flink's SQL planner numbers its operators with a counter of the JVM, so that neither a second job planned by the same
process nor one with an operator more would find its state. Here an operator is called after what its state belongs to:
its kind, and the table that it reads or writes, or the columns that its state is kept by (docs/decisions/011).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

_KIND = re.compile(r"(?:\[\d+\]:)?\s*([^\[(]+)")
_TABLE = re.compile(r"table=\[+(?:[^],]*[.,]\s*)?(?:[^],]*[.,]\s*)?([^],]+)")
_KEYS = re.compile(r"\b(?:groupBy|partitionBy|key)=\[([^]]*)\]")


def uid_of(description: str) -> str:
    """What an operator's state belongs to, out of its description in the plan; equal where nothing tells two apart.

    >>> uid_of("[12]:GlobalWindowAggregate(groupBy=[shard, series], window=[...], select=[...])")
    'GlobalWindowAggregate:shard,series'
    >>> uid_of("[31]:Sink(table=[default_catalog.default_database.forecasts], fields=[record_key, record_value])")
    'Sink:forecasts'
    >>> uid_of("[3]:Calc(select=[payload])")
    'Calc'
    """
    found = _KIND.match(description)
    kind = found.group(1).strip().replace(" ", "-") if found else "operator"
    owner = _TABLE.search(description) or _KEYS.search(description)
    return f"{kind}:{owner.group(1).replace(' ', '')}" if owner else kind


def distinct(uids: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """The same uids, the second and later of equal ones with their number."""
    seen = Counter(taken)
    out = []
    for uid in uids:
        seen[uid] += 1
        out.append(uid if seen[uid] == 1 else f"{uid}#{seen[uid]}")
    return out


def fix(j_environment: Any) -> None:
    """Gives each operator of a Java StreamExecutionEnvironment that has no uid one that stays the same.

    Call it when the whole job is in the environment.
    """
    all_of_them = list(operators(j_environment))
    unnamed = [operator for operator in all_of_them if operator.getUid() is None]
    taken = [uid for operator in all_of_them if (uid := operator.getUid()) is not None]
    for operator, uid in zip(unnamed, distinct([_uid(operator) for operator in unnamed], taken), strict=True):
        operator.setUid(uid)


def _uid(operator: Any) -> str:
    return uid_of(operator.getDescription() or operator.getName())


def operators(j_environment: Any) -> Iterator[Any]:
    """The environment's operators, each after its inputs: an order that the plan alone decides."""
    from pyflink.util.java_utils import get_field_value, is_instance_of

    physical = "org.apache.flink.streaming.api.transformations.PhysicalTransformation"
    seen: set[int] = set()
    todo = [
        (transformation, False) for transformation in reversed(list(get_field_value(j_environment, "transformations")))
    ]
    while todo:
        transformation, entered = todo.pop()
        if entered:
            if is_instance_of(transformation, physical):
                yield transformation
        elif transformation.getId() not in seen:
            seen.add(transformation.getId())
            todo.append((transformation, True))
            todo += [(each, False) for each in reversed(list(transformation.getInputs()))]
