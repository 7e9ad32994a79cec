# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One evidence document and the rules in, findings out. Private to this collection.

Values come from the document only; its ``collected_at`` is "now". The one other time is that of the audit, which says
how old the evidence is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from . import _expressions, _rules

_MIB = 1024 * 1024
_LONGEST_SUBJECT = 200
_LONGEST_TEXT = 1000  # of a fact: names come from the host, and one host must not fill the report of a fleet
_MOST_MEMBERS = 20
_DEEPEST = 10
_LARGEST = 2**64  # nothing that a kernel counts is larger; it would be no JSON for other readers


class Audit(NamedTuple):
    """What the rules say of one document: findings, the worst first, and which rules said nothing, and why."""

    findings: list[dict[str, Any]]
    not_evaluated: list[dict[str, str]]


def audit(document: dict[str, Any], rules: Iterable[_rules.Rule], audited_at: str, min_severity: str = "info") -> Audit:
    """Evaluate the rules on one document. Never raises, whatever the document holds.

    A rule that cannot be evaluated on it is a finding of the rule ``rule-failed`` with that rule's severity. A rule
    whose input the document lacks is in ``not_evaluated`` (``rule``, ``missing``).
    """
    evaluation = _expressions.Evaluation(document, audited_at)
    host = host_of(document)
    findings: list[dict[str, Any]] = []
    not_evaluated: list[dict[str, str]] = []
    for rule in rules:
        if _rules.rank(rule.severity) < _rules.rank(min_severity):
            continue
        try:
            missing = _missing(rule, evaluation)
            offenders = [] if missing else evaluation.search(rule.offenders)
            missing = missing or ("what its expression looks at" if offenders is None else None)
            if missing:
                not_evaluated.append({"rule": rule.id, "missing": missing})
            else:
                findings += [_finding(rule, host, offender) for offender in _as_offenders(offenders)]
        except _expressions.ExpressionError as error:
            findings.append(_failed(rule, host, str(error)))
        except _expressions.DATA_ERRORS as error:
            findings.append(_failed(rule, host, _expressions.said(error)))
    return Audit(findings, not_evaluated)


def host_of(document: dict[str, Any]) -> str:
    """The host's name in the inventory, else its own name."""
    block = document.get("host")
    block = block if isinstance(block, dict) else {}
    names = [block.get("inventory_name"), block.get("hostname"), "?"]
    return next(name for name in names if isinstance(name, str) and name)


def _missing(rule: _rules.Rule, evaluation: _expressions.Evaluation) -> str | None:
    return next((text for text, need in rule.needs if evaluation.search(need) is None), None)


def _as_offenders(value: Any) -> list[dict[str, Any]]:
    """What an expression returned, as objects with facts: a list of objects or texts, or one object."""
    if value is False:
        return []
    listed = value if isinstance(value, list) else [value]
    for offender in listed:
        if not isinstance(offender, (dict, str)):
            raise _expressions.ExpressionError(
                f"it returned {type(offender).__name__} where an object with the key subject was expected"
            )
    return [offender if isinstance(offender, dict) else {"subject": offender} for offender in listed]


def _finding(rule: _rules.Rule, host: str, offender: dict[str, Any]) -> dict[str, Any]:
    facts = {str(key): _bounded(value) for key, value in offender.items()}
    subject = facts.pop("subject", None)
    path = facts.get("path")
    return {
        "rule": rule.id,
        "severity": rule.severity,
        "title": rule.title,
        "host": host,
        "subject": host if subject is None else str(subject)[:_LONGEST_SUBJECT],
        "path": path if isinstance(path, str) else None,
        "message": _message(rule, facts),
        "why": rule.why,
        "what": rule.what,
        "facts": facts,
    }


def _failed(rule: _rules.Rule, host: str, error: str) -> dict[str, Any]:
    """Nobody knows whether the rule would have found something, so this is as bad as if it had."""
    error = error[:_LONGEST_TEXT]
    return {
        "rule": _rules.FAILED,
        "severity": rule.severity,
        "title": "A rule could not be evaluated",
        "host": host,
        "subject": rule.id,
        "path": None,
        "message": error,
        "why": "The rule says nothing of this host, neither that it is right nor that it is wrong.",
        "what": "Mend the rule's expression; if it is a shipped one, the host's evidence is malformed.",
        "facts": {"rule": rule.id, "expression": rule.expression, "error": error},
    }


def _bounded(value: Any, depth: int = 0) -> Any:
    """A fact as JSON that any reader takes: short, shallow, and without a number that is none."""
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    if isinstance(value, (int, float)):
        return value if _is_number(value) or isinstance(value, bool) else None
    if depth >= _DEEPEST:
        return None
    if isinstance(value, list):
        return [_bounded(member, depth + 1) for member in value[:_MOST_MEMBERS]]
    if isinstance(value, dict):
        members = list(value.items())[:_MOST_MEMBERS]
        return {str(key)[:_LONGEST_TEXT]: _bounded(member, depth + 1) for key, member in members}
    return value


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return -_LARGEST < value < _LARGEST and math.isfinite(value)


# --- facts as text


def _message(rule: _rules.Rule, facts: dict[str, Any]) -> str:
    if rule.message is None:
        return ", ".join(f"{key} {_plain(value)}" for key, value in facts.items()) or rule.title
    told = {text: _FORMATS[form](facts.get(fact)) for text, fact, form in _rules.places(rule.message)}
    # In one pass: a fact may hold braces of its own.
    return re.sub(r"\{[^{}]*\}", lambda found: told[found.group()], rule.message)


def size(value: Any) -> str:
    """Bytes for people: ``8 MiB``, ``1536 MiB``, ``2 GiB``, ``15.4 GiB``."""
    if not _is_number(value):
        return "?"
    number, unit = value / _MIB, "MiB"
    if abs(number) >= 10240 or (number and not number % 1024):
        number, unit = number / 1024, "GiB"
    return f"{number:.0f} {unit}" if abs(number) >= 100 or number == int(number) else f"{number:.1f} {unit}"


def _percent(value: Any) -> str:
    return f"{value * 100:.0f} %" if _is_number(value) else "?"


def _time(value: Any) -> str:
    return value[:19].replace("T", " ") if isinstance(value, str) else "?"


def _plain(value: Any) -> str:
    if value is None:
        return "?"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list):
        return ", ".join(_plain(member) for member in value)
    return str(value)


_FORMATS = {None: _plain, "size": size, "percent": _percent, "time": _time}
