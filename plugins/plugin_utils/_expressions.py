# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JMESPath for audit rules: the functions that the language lacks, and errors that say where. Private.

What is wrong with an expression is found when it is compiled, also what jmespath itself finds only when a function is
called: an unknown name, a wrong number of arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.oom.forensics.plugins.module_utils._oom.workload import label as _workload_label

_TIMES = ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ")
# What makes two cgroups parts of one workload.
_IDENTITY = ("kind", "engine", "id", "name", "pod_uid", "unit", "slice")
_DEEPEST = 100  # of a cgroup's path; what has more is no path of a kernel but an attack
# What a document may hold is only known when it is looked at: text where a number was meant, no key where there always
# is one, a number that has no text, and so on. jmespath's own errors are ValueErrors.
DATA_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class ExpressionError(Exception):
    """An expression that cannot be compiled, or not be evaluated on a document; the message is a clause."""


class MissingLibraryError(ExpressionError):
    """jmespath is not installed; the message is for the user."""


class Function(NamedTuple):
    """One function for rules: how it is called, the JMESPath types of each argument, what it gives."""

    call: Callable[..., Any]
    takes: tuple[tuple[str, ...], ...]
    usage: str
    gives: str


# --- the functions: each gets the evaluation (`document`, `audited_at`) first, and gives null for null


def _label(_about: Any, workload: dict[str, Any] | None) -> str | None:
    """Names are unique for one user only: two of them may have a container ``web``, or a unit of one name."""
    if workload is None or workload.get("kind") is None:
        return None
    name = str(_workload_label(workload))
    owner = "" if workload.get("uid") is None else f" uid {workload['uid']}"
    return name if name.endswith(owner) or workload["kind"] == "slice" else name + owner


def _document(about: Any) -> Any:
    return about.document


def _audited_at(about: Any) -> str:
    return about.audited_at


def _age_hours(about: Any, time: str | None) -> float | None:
    return _hours_between(about, time, about.document.get("collected_at"))


def _hours_between(_about: Any, earlier: str | None, later: str | None) -> float | None:
    first, last = moment(earlier), moment(later)
    return None if first is None or last is None else (last - first).total_seconds() / 3600


def moment(time: Any) -> datetime | None:
    """A time as documents have it (ISO 8601, UTC); None if it is none."""
    for pattern in _TIMES:
        try:
            return datetime.strptime(time, pattern)
        except (TypeError, ValueError):
            continue
    return None


def _arithmetic(operation: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def call(_about: Any, left: Any, right: Any) -> Any:
        return None if left is None or right is None else operation(left, right)

    return call


def _divided(left: Any, right: Any) -> float | None:
    return left / right if right else None


def _workloads(_about: Any, cgroups: list[Any] | None) -> list[Any] | None:
    if cgroups is None:
        return None
    within: dict[str, list[Any]] = {}
    begin = []
    known = {cgroup["path"]: _identity(cgroup) for cgroup in cgroups}
    for cgroup in cgroups:
        parent = _parent(cgroup["path"])
        inside = known.get(parent) == known[cgroup["path"]]
        (within.setdefault(parent, []) if inside else begin).append(cgroup)
    return [_innermost(cgroup, within) for cgroup in begin]


def _innermost(cgroup: dict[str, Any], within: dict[str, list[Any]]) -> dict[str, Any]:
    """The cgroup that a workload's processes are in, with the settings that stand on the way to it.

    crun puts a container's processes and limits into `container` below the scope that has the container's name.
    """
    while cgroup.get("process_count") == 0 and len(within.get(cgroup["path"], ())) == 1:
        outer, cgroup = cgroup, within[cgroup["path"]][0]
        cgroup = {key: outer.get(key) if value is None else value for key, value in cgroup.items()}
    return cgroup


def _limits_total(about: Any, cgroups: list[Any] | None) -> int | float | None:
    if cgroups is None:
        return None
    limits = {cgroup["path"]: cgroup.get("memory_max") for cgroup in about.document.get("cgroups") or ()}
    by_depth: dict[int, dict[str, Any]] = {}
    for cgroup in cgroups:
        own = [limit for limit in (cgroup.get("memory_max"), cgroup.get("memory_effective_max")) if limit is not None]
        path = cgroup["path"].rstrip("/")
        depth = path.count("/")
        if own and depth <= _DEEPEST:
            if cgroup.get("memory_effective_max") is not None:
                limits.setdefault(cgroup.get("memory_effective_max_path"), cgroup["memory_effective_max"])
            level = by_depth.setdefault(depth, {})
            level[path] = level.get(path, 0) + min(own)
    # From the innermost on, each cgroup lets its parent see no more than its own limit.
    for depth in range(max(by_depth, default=0), 0, -1):
        above = by_depth.setdefault(depth - 1, {})
        for path, wanted in by_depth.get(depth, {}).items():
            limit = limits.get(path)
            parent = path.rpartition("/")[0]
            above[parent] = above.get(parent, 0) + (wanted if limit is None else min(wanted, limit))
    return sum(by_depth.get(0, {}).values())


def _pause(_about: Any, workload: dict[str, Any] | None) -> bool | None:
    if workload is None:
        return None
    in_pod = workload.get("pod_uid") and str(workload.get("name")).endswith("-infra")
    return workload.get("container_name") == "POD" or bool(in_pod)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _identity(cgroup: dict[str, Any]) -> tuple[Any, ...]:
    workload = cgroup.get("workload") or {}
    return tuple(workload.get(key) for key in _IDENTITY)


def _groups(_about: Any, members: list[Any] | None, key: Any) -> list[dict[str, Any]] | None:
    if members is None:
        return None
    found: dict[str, list[Any]] = {}
    for member in members:
        name = _of(key, member)
        if name is not None:
            found.setdefault(str(name), []).append(member)
    return [{"key": name, "members": members} for name, members in found.items()]


def _most_within(_about: Any, times: list[Any] | None, minutes: float) -> int | None:
    if times is None:
        return None
    moments = sorted(time for time in map(moment, times) if time is not None)
    most = first = 0
    for last, time in enumerate(moments):
        while (time - moments[first]).total_seconds() > minutes * 60:
            first += 1
        most = max(most, last - first + 1)
    return most


def _among(_about: Any, members: list[Any] | None, key: Any, values: list[Any] | None) -> list[Any] | None:
    if members is None or values is None:
        return None
    wanted = {str(value) for value in values if value is not None}
    return [member for member in members if _known(_of(key, member), wanted)]


def _not_among(_about: Any, members: list[Any] | None, key: Any, values: list[Any] | None) -> list[Any] | None:
    if members is None or values is None:
        return None
    wanted = {str(value) for value in values if value is not None}
    return [member for member in members if not _known(_of(key, member), wanted)]


def _known(value: Any, wanted: set[str]) -> bool:
    return value is not None and str(value) in wanted


def _of(key: Any, member: Any) -> Any:
    """An expression reference such as ``&workload.id``, evaluated on a member."""
    return key.visit(key.expression, member)


_NUMBER = ("number", "null")
_TEXT = ("string", "null")
_ARRAY = ("array", "null")
_KEY = ("expref",)
_OBJECT = ("object", "null")

FUNCTIONS = {
    "label": Function(
        _label,
        (_OBJECT,),
        "label(workload)",
        "the readable name of a workload, such as `docker web`, with the uid of a user's own; null if nothing is known",
    ),
    "workloads": Function(
        _workloads,
        (_ARRAY,),
        "workloads(cgroups)",
        "one cgroup for each workload, without the ones that a container or unit makes inside its own",
    ),
    "limits_total": Function(
        _limits_total,
        (_ARRAY,),
        "limits_total(cgroups)",
        "the sum of what their limits allow; what several share by an ancestor's limit counts once",
    ),
    "pause": Function(_pause, (_OBJECT,), "pause(workload)", "whether a container only holds the namespaces of a pod"),
    "document": Function(
        _document, (), "document()", "the whole document, also inside of a filter: `document().host.memory_total_bytes`"
    ),
    "age_hours": Function(
        _age_hours, (_TEXT,), "age_hours(time)", "the hours from a time to the document's `collected_at`"
    ),
    "audited_at": Function(_audited_at, (), "audited_at()", "the time of the audit"),
    "hours_between": Function(_hours_between, (_TEXT, _TEXT), "hours_between(earlier, later)", "the hours from a to b"),
    "groups": Function(
        _groups,
        (_ARRAY, _KEY),
        "groups(array, &key)",
        "one `{key, members}` for each value of the key, in the order of first appearance; no key, no group",
    ),
    "most_within": Function(
        _most_within,
        (_ARRAY, ("number",)),
        "most_within(times, minutes)",
        "how many of the times lie within any span of so many minutes, at most",
    ),
    "among": Function(
        _among, (_ARRAY, _KEY, _ARRAY), "among(array, &key, values)", "the elements whose key is one of the values"
    ),
    "not_among": Function(
        _not_among, (_ARRAY, _KEY, _ARRAY), "not_among(array, &key, values)", "the elements whose key is none of them"
    ),
    "add": Function(_arithmetic(lambda left, right: left + right), (_NUMBER, _NUMBER), "add(a, b)", "a + b"),
    "subtract": Function(_arithmetic(lambda left, right: left - right), (_NUMBER, _NUMBER), "subtract(a, b)", "a - b"),
    "multiply": Function(_arithmetic(lambda left, right: left * right), (_NUMBER, _NUMBER), "multiply(a, b)", "a * b"),
    "divide": Function(_arithmetic(_divided), (_NUMBER, _NUMBER), "divide(a, b)", "a / b; null where b is 0"),
}


# --- compiling


class Evaluation:
    """What the expressions of one document share."""

    def __init__(self, document: dict[str, Any], audited_at: str) -> None:
        jmespath = _library()
        functions = _class_of_functions()()
        functions.document, functions.audited_at = document, audited_at
        self._document = document
        self._options = jmespath.Options(custom_functions=functions)

    def search(self, compiled: Any) -> Any:
        """The value of a compiled expression. Raises ExpressionError if the document does not suit it."""
        try:
            return compiled.search(self._document, options=self._options)
        except DATA_ERRORS as error:
            raise ExpressionError(said(error)) from error


def said(error: Exception) -> str:
    """An error of ``DATA_ERRORS`` as one line: its type, and its text where it has one (that may hold the value)."""
    try:
        return " ".join(f"{type(error).__name__}: {error}".split())
    except DATA_ERRORS:
        return type(error).__name__


def compiled(expression: str) -> Any:
    """A compiled expression. Raises ExpressionError that says what is wrong, and at which character."""
    jmespath = _library()
    try:
        found = jmespath.compile(expression)
    except jmespath.exceptions.EmptyExpressionError as error:
        raise ExpressionError("is empty") from error
    except jmespath.exceptions.LexerError as error:
        raise ExpressionError(_at(expression, error.lexer_position, error.message)) from error
    except jmespath.exceptions.IncompleteExpressionError as error:
        raise ExpressionError(_at(expression, len(expression), "it ends too early")) from error
    except jmespath.exceptions.ParseError as error:
        what = f"{error.token_value!r} is not expected there"
        raise ExpressionError(_at(expression, error.lex_position, what)) from error
    except RecursionError as error:
        raise ExpressionError("is nested too deeply") from error
    _check_functions(expression, found.parsed)
    return found


def _at(expression: str, position: int, what: str) -> str:
    place = f"character {position + 1} of {len(expression)}" if position < len(expression) else "its end"
    return f"is wrong at {place}: {what.rstrip('.')}"


def _check_functions(expression: str, tree: dict[str, Any]) -> None:
    table = _class_of_functions().FUNCTION_TABLE
    for name, given in _calls(tree):
        if name not in table:
            what = f"there is no function {name}(); {_known_functions(table)}"
            raise ExpressionError(_at(expression, _place_of(expression, name), what))
        signature = table[name]["signature"]
        what = _wrong_number(signature, given) or _wrong_kind(signature, given)
        if what:
            raise ExpressionError(_at(expression, _place_of(expression, name), f"{name}() takes {what}"))


def _wrong_number(signature: Sequence[dict[str, Any]], given: Sequence[Any]) -> str | None:
    variadic = bool(signature) and bool(signature[-1].get("variadic"))
    if len(given) == len(signature) or (variadic and len(given) > len(signature)):
        return None
    least = "at least " if variadic else ""
    return f"{least}{len(signature)} {_plural(len(signature), 'argument')}, not {len(given)}"


def _wrong_kind(signature: Sequence[dict[str, Any]], given: Sequence[dict[str, Any]]) -> str | None:
    """What is known of an argument without a document: whether it is a reference (``&key``), and a literal's type."""
    for number, (wanted, argument) in enumerate(zip(signature, given), 1):
        types = [kind.partition("-")[0] for kind in wanted["types"]]
        if types == ["expref"] and argument["type"] != "expref":
            return f"an expression reference (&key) as argument {number}"
        kind = _STATIC_TYPES[type(argument["value"])] if argument["type"] == "literal" else argument["type"]
        if argument["type"] in ("literal", "expref") and types and kind not in types:
            return f"{' or '.join(types)} as argument {number}, not {kind}"
    return None


# How jmespath calls the types of JSON.
_STATIC_TYPES = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def keys(found: Any) -> set[str] | None:
    """The keys that the objects from a compiled expression have, where it spells them out: ``[].{a: b}`` has a."""
    return _keys(found.parsed)


def _keys(node: Any) -> set[str] | None:
    if node["type"] == "multi_select_dict":
        return {child["value"] for child in node["children"]}
    place = _RESULT_OF.get(node["type"])
    if place is None or not node["children"]:
        return None
    result = node["children"][place]
    if result["type"] == "identity" and node["type"] in _PROJECTIONS:
        result = node["children"][0]
    if node["type"] == "multi_select_list" and len(node["children"]) > 1:
        return None
    return _keys(result)


_PROJECTIONS = ("projection", "filter_projection", "value_projection")
# Which child of a node says what it gives.
_RESULT_OF = {
    **dict.fromkeys(_PROJECTIONS, 1),
    "subexpression": -1,
    "pipe": -1,
    "and_expression": -1,
    "flatten": 0,
    "multi_select_list": 0,
}


def _plural(number: int, thing: str) -> str:
    return thing if number == 1 else thing + "s"


def _known_functions(table: Iterable[str]) -> str:
    return "the functions are " + ", ".join(sorted(table))


def _calls(tree: Any) -> Iterator[tuple[str, list[Any]]]:
    """Each function called, and with which arguments; the innermost of nested ones comes last."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if not isinstance(node, dict):  # a slice has numbers for children
            continue
        if node["type"] == "function_expression":
            yield node["value"], node["children"]
        pending += reversed(node["children"])


def _place_of(expression: str, name: str) -> int:
    """Where a function is called first; the syntax tree does not keep it."""
    tokens = list(_library().lexer.Lexer().tokenize(expression))
    for token, following in zip(tokens, tokens[1:]):
        if token["value"] == name and following["type"] == "lparen":
            return int(token["start"])
    return 0


# --- jmespath, which is only needed where rules are


def _library() -> Any:
    try:
        import jmespath
        import jmespath.exceptions
        import jmespath.functions
        import jmespath.lexer
    except ImportError as error:
        raise MissingLibraryError(
            missing_required_lib("jmespath", reason="for audit rules", url="https://jmespath.org/")
        ) from error
    return jmespath


_CLASSES: list[Any] = []


def _class_of_functions() -> Any:
    """jmespath's own functions and the ones above, as jmespath wants them: methods with a signature."""
    if not _CLASSES:
        base = _library().functions.Functions
        made: Any = type("AuditFunctions", (base,), {})
        made.FUNCTION_TABLE = {**base.FUNCTION_TABLE, **{name: _entry(one) for name, one in FUNCTIONS.items()}}
        _CLASSES.append(made)
    return _CLASSES[0]


def _entry(function: Function) -> dict[str, Any]:
    return {"function": function.call, "signature": tuple({"types": list(types)} for types in function.takes)}
