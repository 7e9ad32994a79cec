# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of the audit: the shipped ones, changed by the user's, each checked before any document is. Private."""

from __future__ import annotations

import difflib
import functools
import os
import re
from typing import Any, NamedTuple

import yaml

from . import _expressions

SEVERITIES = ("info", "low", "medium", "high", "critical")  # the worst last
FAILED = "rule-failed"  # the finding that a rule could not be evaluated on a document
SHIPPED_PATH = os.path.join(os.path.dirname(__file__), "_audit_rules.yml")
FORMATS = ("size", "percent", "time")

_KEYS = ("id", "severity", "title", "offenders", "needs", "message", "why", "what")
_OPTIONAL = ("needs", "message")
_FILE_KEYS = ("rules", "disable")
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_PLACE = re.compile(r"\{([^{}]*)\}")
_FACT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?")


class RulesError(Exception):
    """Rules that cannot be used; the message is one sentence for the user."""


class Rule(NamedTuple):
    """One rule. ``offenders`` and ``needs`` are compiled; ``expression`` is the text of the former.

    ``needs`` has pairs of an expression's text and the compiled expression: what has to be there (not null) for the
    rule to mean anything. ``message`` is a sentence with ``{fact}`` or ``{fact:format}``, or None.
    """

    id: str
    severity: str
    title: str
    expression: str
    offenders: Any
    needs: tuple[tuple[str, Any], ...]
    message: str | None
    why: str
    what: str


def rank(severity: str) -> int:
    """How bad: 0 (info) to 4 (critical)."""
    return SEVERITIES.index(severity)


def load(source: Any = None) -> list[Rule]:
    """The shipped rules as ``source`` changes them, the worst first.

    ``source`` is the path of a YAML file, or what such a file holds: a list of rules, or a mapping of ``rules`` and
    ``disable``. A rule whose id is a shipped one's changes the keys that it has; any other is a new rule.
    Raises RulesError with one sentence.
    """
    where, changes, disabled = _changes(source)
    raw = {rule["id"]: rule for rule in _shipped()}
    for number, change in enumerate(changes, 1):
        _check_keys(change, number, where)
    _check_unique(changes, where)
    for change in changes:
        raw[change["id"]] = _changed(raw.get(change["id"]), change, where)
    for name in disabled:
        if name not in raw:
            raise RulesError(f"{where}: disable names the rule {name!r}, which does not exist{_similar(name, raw)}.")
    rules = [_checked(rule, where) for name, rule in raw.items() if name not in disabled]
    return sorted(rules, key=lambda rule: -rank(rule.severity))


@functools.lru_cache(maxsize=1)
def _shipped() -> tuple[dict[str, Any], ...]:
    with open(SHIPPED_PATH, encoding="utf-8") as stream:
        return tuple(yaml.load(stream, Loader=_Loader))


# --- reading what the user gave


def _changes(source: Any) -> tuple[str, list[Any], list[str]]:
    """Where the rules are from, the rules, and the ids of those to leave out."""
    if source is None or source == "":
        return "The rules", [], []
    where = "The rules"
    if isinstance(source, str):
        where = f"The rules file {source}"
        source = _file(source)
    if isinstance(source, dict):
        unknown = sorted(str(key) for key in source if key not in _FILE_KEYS)
        if unknown:
            raise RulesError(f"{where}: the key {unknown[0]!r} is unknown; there are only {_and(_FILE_KEYS)}.")
        changes, disabled = source.get("rules"), source.get("disable")
    else:
        changes, disabled = source, None
    return where, _list(changes, "rules", where), _names(_list(disabled, "disable", where), where)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Safe YAML that refuses a key which is there twice, as its first value would go unseen."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _value in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add(name)
        seen.discard(None)
        return super().construct_mapping(node, deep)


def _file(path: str) -> Any:
    full = os.path.abspath(os.path.expanduser(path))
    try:
        with open(full, "rb") as stream:
            return yaml.load(stream, Loader=_Loader)
    except OSError as error:
        raise RulesError(f"The rules file {full} could not be read: {error.strerror}.") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise RulesError(f"The rules file {full} is not YAML{_mark(error)}.") from error
    # PyYAML's own, of a value that does not suit the tag before it (!!bool foo, !!map [a]).
    except (TypeError, LookupError, AttributeError) as error:
        raise RulesError(f"The rules file {full} has a value that does not suit its tag: {error!r}.") from error


def _mark(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    return f" at line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else f": {problem}"


def _list(value: Any, name: str, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise RulesError(f"{where}: {name} must be a list, not {_type(value)}.")
    return value


def _names(values: list[Any], where: str) -> list[str]:
    for value in values:
        if not isinstance(value, str):
            raise RulesError(f"{where}: disable must be a list of rule ids, and {value!r} is none.")
    return values


def _check_keys(rule: Any, number: int, where: str) -> None:
    if not isinstance(rule, dict):
        raise RulesError(f"{where}: rule number {number} must be a mapping, not {_type(rule)}.")
    name = rule.get("id")
    if name is None:
        raise RulesError(f"{where}: rule number {number} has no id.")
    if not isinstance(name, str) or not _ID.fullmatch(name) or name == FAILED:
        raise RulesError(
            f"{where}: rule number {number} has the id {name!r}; an id has lowercase letters, digits and hyphens, "
            f"at most 64, and is not {FAILED}."
        )
    unknown = sorted(str(key) for key in rule if key not in _KEYS)
    if unknown:
        raise RulesError(f"{where}: rule {name} has the unknown key {unknown[0]!r}; a rule has {_and(_KEYS)}.")


def _check_unique(rules: list[dict[str, Any]], where: str) -> None:
    seen = set()
    for rule in rules:
        if rule["id"] in seen:
            raise RulesError(f"{where}: the rule {rule['id']} is there twice.")
        seen.add(rule["id"])


def _changed(shipped: dict[str, Any] | None, change: dict[str, Any], where: str) -> dict[str, Any]:
    if shipped is not None:
        return {**shipped, **change}
    missing = [key for key in _KEYS if key not in _OPTIONAL and change.get(key) is None]
    if missing:
        raise RulesError(f"{where}: rule {change['id']} is no shipped rule, so it must have {_and(missing)} as well.")
    return change


# --- checking one rule


def _checked(rule: dict[str, Any], where: str) -> Rule:
    name = rule["id"]
    for key in ("severity", "title", "offenders", "why", "what"):
        if not isinstance(rule[key], str) or not rule[key].strip():
            raise RulesError(f"{where}: rule {name} has a {key} that is no text but {_type(rule[key])}.")
    if rule["severity"] not in SEVERITIES:
        raise RulesError(
            f"{where}: rule {name} has the severity {rule['severity']!r}, which is none of {_and(SEVERITIES)}."
        )
    needs = _list(rule.get("needs"), f"needs of rule {name}", where)
    offenders = _compiled(rule["offenders"], name, "offenders", where)
    return Rule(
        id=name,
        severity=rule["severity"],
        title=rule["title"],
        expression=rule["offenders"],
        offenders=offenders,
        needs=tuple((str(need), _compiled(need, name, "needs", where)) for need in needs),
        message=_message(rule.get("message"), name, _expressions.keys(offenders), where),
        why=rule["why"],
        what=rule["what"],
    )


def _compiled(expression: Any, name: str, key: str, where: str) -> Any:
    if not isinstance(expression, str):
        raise RulesError(f"{where}: rule {name} has {key} with {_type(expression)} where an expression should be.")
    try:
        return _expressions.compiled(expression)
    except _expressions.MissingLibraryError as error:
        raise RulesError(str(error)) from error
    except _expressions.ExpressionError as error:
        raise RulesError(f"{where}: rule {name}: the expression {expression!r} in {key} {error}.") from error


def _message(message: Any, name: str, facts: set[str] | None, where: str) -> str | None:
    if message is None:
        return None
    if not isinstance(message, str):
        raise RulesError(f"{where}: rule {name} has a message that is no text but {_type(message)}.")
    for place in _PLACE.findall(message):
        fact = _FACT.fullmatch(place)
        if fact is None or fact.group(2) not in (None, *FORMATS):
            raise RulesError(
                f"{where}: rule {name} has {{{place}}} in its message; "
                f"write {{fact}} or {{fact:format}} with a format of {_and(FORMATS)}."
            )
        if facts is not None and fact.group(1) not in facts - {"subject"}:
            raise RulesError(
                f"{where}: rule {name} has {{{place}}} in its message, which is no fact of its offenders"
                f"{_similar(fact.group(1), facts)}."
            )
    return message


def places(message: str) -> list[tuple[str, str, str | None]]:
    """The ``{fact:format}`` of a checked message: the text as it stands, the fact, the format or None."""
    found = [(f"{{{place}}}", _FACT.fullmatch(place)) for place in _PLACE.findall(message)]
    return [(text, fact.group(1), fact.group(2)) for text, fact in found if fact]


def _and(words: Any) -> str:
    listed = [str(word) for word in words]
    return listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + " and " + listed[-1]


def _similar(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


_TYPES = ((bool, "a boolean"), ((int, float), "a number"), (str, "text"), (list, "a list"), (dict, "a mapping"))


def _type(value: Any) -> str:
    if value is None:
        return "nothing"
    if value == "":
        return "empty text"
    return next((name for kind, name in _TYPES if isinstance(value, kind)), type(value).__name__)
