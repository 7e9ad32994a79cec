# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The findings of a fleet as a terminal table, findings.json and JUnit XML. Private to this collection.

One host at a time is in memory; of the others only the rows that will be printed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from . import _audit, _evidence, _rules, _terminal
from ._terminal import visible, wrapped

SCHEMA = "oom.forensics/findings/1"
LEAST_WIDTH = 74
_TITLES = ("SEVERITY", "HOST", "SUBJECT", "RULE", "FINDING")
_LEAST = (0, 6, 10, 12, 28)
_WHOLE = (1, 3)  # cut hosts look alike, and so do cut rules: then the finding goes below its row
_NARROW_TITLES = ("SEVERITY", "HOST", "RULE")
_NARROW_LEAST = (0, 40, 20)
_MOST_ALIKE = 5  # rows of one rule on one host
_JSON_HEAD = b'{"schema":"' + SCHEMA.encode("ascii")
_JUNIT_NAME = "oom.forensics.audit_memory"
_JUNIT_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="{_JUNIT_NAME}"'.encode("ascii")
_PIECE = 1 << 16


class Asked(NamedTuple):
    """What is audited, by which rules, when, and how bad a finding has to be to be told."""

    spool: str
    hosts: Sequence[str]
    rules: Sequence[_rules.Rule]
    audited_at: str
    min_severity: str


def entries(asked: Asked) -> Iterator[dict[str, Any]]:
    """The findings of each host from its newest document, one host at a time."""
    for host in asked.hosts:
        document = _document(asked.spool, host)
        found = _audit.audit(document, asked.rules, asked.audited_at, asked.min_severity)
        yield {
            "inventory_name": host,
            "status": document["status"],
            "collected_at": document["collected_at"],
            "findings": found.findings,
            "not_evaluated": found.not_evaluated,
        }


def _document(spool: str, host: str) -> dict[str, Any]:
    """The newest document, or one that says why there is none that can be read."""
    try:
        paths = _evidence.documents(spool, host)
        if paths:
            document = _evidence.read(paths[0])
            document["host"]["inventory_name"] = host
            return document
    except _evidence.SpoolError as failure:
        return _evidence.not_read(host, "unreadable", str(failure), None)
    return _evidence.not_read(host, "missing", f"There is no evidence of this host in {spool}.", None)


# --- files


def write(findings_path: str, junit_path: str, asked: Asked, found: Iterator[dict[str, Any]], table: Table) -> None:
    """Write both files in one pass over the hosts. Raises SpoolError if one cannot be, or is some other file."""
    for path, head in ((findings_path, _JSON_HEAD), (junit_path, _JUNIT_HEAD)):
        _check_ours(path, head)
    try:
        for path in (findings_path, junit_path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with tempfile.TemporaryFile() as suites:
            _evidence.atomically(findings_path, _as_json(asked, _copied(found, asked, suites), table))
            suites.seek(0)
            _evidence.atomically(junit_path, _as_junit(suites))
    except OSError as error:
        raise _evidence.SpoolError(
            f"{findings_path} and {junit_path} could not be written: {error.strerror}."
        ) from error


def _check_ours(path: str, head: bytes) -> None:
    try:
        with open(path, "rb") as stream:
            if stream.read(len(head)) == head:
                return
    except FileNotFoundError:
        return
    except OSError as error:
        raise _evidence.SpoolError(f"{path} could not be read: {error.strerror}.") from error
    raise _evidence.SpoolError(f"{path} exists and is no output of an audit; move it away, or choose another path.")


def _as_json(asked: Asked, found: Iterator[dict[str, Any]], table: Table) -> Iterator[bytes]:
    """findings.json: one line per host, so that a reader need not hold all of it either."""
    head: dict[str, Any] = {"schema": SCHEMA, "generated_at": asked.audited_at, "min_severity": asked.min_severity}
    head["rules"] = [
        {"id": rule.id, "severity": rule.severity, "title": rule.title, "why": rule.why, "what": rule.what}
        for rule in asked.rules
    ]
    yield _json(head)[:-1] + b',"hosts":['
    for index, entry in enumerate(found):
        yield (b",\n" if index else b"\n") + _json(entry)
    yield b'\n],"summary":' + _json(table.counts()) + b"}\n"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _copied(found: Iterator[dict[str, Any]], asked: Asked, suites: Any) -> Iterator[dict[str, Any]]:
    for entry in found:
        suites.write(suite(entry, asked).encode("utf-8"))
        yield entry


def _as_junit(suites: Any) -> Iterator[bytes]:
    yield _JUNIT_HEAD + b">\n"
    while True:
        piece = suites.read(_PIECE)
        if not piece:
            break
        yield piece
    yield b"</testsuites>\n"


def suite(entry: dict[str, Any], asked: Asked) -> str:
    """A host as a JUnit test suite: a test case per rule.

    Findings are the case's failure, of severity info its output. A rule that failed is an error, one that was not
    evaluated is skipped. Control characters are spelled out, as XML has no way to write most of them.
    """
    missing = {one["rule"]: one["missing"] for one in entry["not_evaluated"]}
    failed = {one["subject"]: one for one in entry["findings"] if one["rule"] == _rules.FAILED}
    host = quoteattr(visible(entry["inventory_name"]))
    told: Counter[str] = Counter()
    cases = []
    for rule in asked.rules:
        if _rules.rank(rule.severity) < _rules.rank(asked.min_severity):
            continue
        findings = [one for one in entry["findings"] if one["rule"] == rule.id]
        kind, body = _case(rule, findings, failed.get(rule.id), missing.get(rule.id))
        told["tests"] += 1
        told[kind] += 1
        cases.append(f"    <testcase classname={host} name={quoteattr(rule.id)}>{body}</testcase>\n")
    counts = " ".join(f'{key}="{told[key]}"' for key in ("tests", "failures", "errors", "skipped"))
    time = entry["collected_at"]
    stamp = f" timestamp={quoteattr(visible(time)[:19])}" if time else ""
    return f"  <testsuite name={host} {counts}{stamp}>\n{''.join(cases)}  </testsuite>\n"


def _case(
    rule: _rules.Rule, findings: list[dict[str, Any]], failed: dict[str, Any] | None, missing: str | None
) -> tuple[str, str]:
    """How a test case is counted, and what it holds."""
    if failed:
        return "errors", _element("error", rule.severity, "The rule could not be evaluated", failed["message"])
    if missing:
        return "skipped", f"<skipped message={quoteattr(visible('The evidence lacks ' + missing))}/>"
    if not findings:
        return "passed", ""
    lines = [f"{visible(one['subject'])}: {visible(one['message'])}" for one in findings]
    text = "\n".join([*lines, "", f"Why: {visible(rule.why)}", f"What to do: {visible(rule.what)}"])
    if rule.severity == "info":
        return "passed", f"<system-out>{escape(text)}</system-out>"
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return "failures", _element("failure", rule.severity, f"{rule.title}: {lines[0]}{more}", text)


def _element(name: str, kind: str, message: str, text: str) -> str:
    body = "\n".join(visible(line) for line in text.split("\n"))
    return f"<{name} type={quoteattr(kind)} message={quoteattr(visible(message))}>{escape(body)}</{name}>"


# --- the table


class Table:
    """Takes entries one by one and keeps counts and the rows to print: the worst findings."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.hosts = self.with_findings = self.unread = 0
        self.skipped = 0  # hosts that were left out, as check mode wrote no evidence of them
        self.severities = dict.fromkeys(reversed(_rules.SEVERITIES), 0)
        self.not_evaluated: dict[str, int] = {}
        self._missing: dict[str, tuple[set[str], Counter[str]]] = {}
        self._rows: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    @property
    def findings(self) -> int:
        return sum(self.severities.values())

    def at_least(self, severity: str) -> int:
        """How many findings are of this severity or a worse one."""
        return sum(count for name, count in self.severities.items() if _rules.rank(name) >= _rules.rank(severity))

    def counts(self) -> dict[str, Any]:
        return {
            "hosts_total": self.hosts,
            "hosts_with_findings": self.with_findings,
            "hosts_unread": self.unread,
            "hosts_skipped": self.skipped,
            "findings_total": self.findings,
            "severities": self.severities,
            "not_evaluated": self.not_evaluated,
        }

    def watch(self, found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass entries on and keep what the table needs of them."""
        for entry in found:
            self.add(entry)
            yield entry

    def add(self, entry: dict[str, Any]) -> None:
        self.hosts += 1
        self.unread += entry["status"] != "ok"
        self.with_findings += bool(entry["findings"])
        for finding in entry["findings"]:
            self.severities[finding["severity"]] += 1
        self._keep(entry)
        for one in entry["not_evaluated"]:
            self.not_evaluated[one["rule"]] = self.not_evaluated.get(one["rule"], 0) + 1
        if entry["status"] != "ok":  # that nothing more is known of it is its finding
            return
        for missing in {one["missing"] for one in entry["not_evaluated"]}:
            rules, hosts = self._missing.setdefault(missing, (set(), Counter()))
            hosts["hosts"] += 1
            rules.update(one["rule"] for one in entry["not_evaluated"] if one["missing"] == missing)

    def _keep(self, entry: dict[str, Any]) -> None:
        """The rows of one host; of findings of one rule the first ones, and how many more there are."""
        old = entry["status"] != "ok" and entry["collected_at"]
        note = f" (as of {entry['collected_at'][:16].replace('T', ' ')})" if old else ""
        told: Counter[str] = Counter()
        alike = Counter(finding["rule"] for finding in entry["findings"])
        for finding in sorted(entry["findings"], key=_sort_key):
            told[finding["rule"]] += 1
            if told[finding["rule"]] > _MOST_ALIKE:
                continue
            more = alike[finding["rule"]] - _MOST_ALIKE
            folded = f" (and {more} more of this rule)" if told[finding["rule"]] == _MOST_ALIKE and more > 0 else ""
            kept = {part: finding[part] for part in ("severity", "host", "subject", "rule", "what")}
            self._rows.append((_sort_key(finding), dict(kept, message=finding["message"] + note + folded)))
        if len(self._rows) >= 4 * self.max_rows:
            self._rows = self._worst()

    def _worst(self) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return sorted(self._rows, key=lambda row: row[0])[: self.max_rows]

    def lines(self, width: int) -> list[str]:
        """The table for a terminal of ``width`` columns, what to do and the summary below it."""
        rows = [finding for _key, finding in self._worst()]
        lines = _rows(rows, width) if rows else []
        if self.findings > len(rows):
            lines.append(
                f"({_count(self.findings - len(rows), 'more finding')} not shown; findings.json has all of them)"
            )
        if rows:
            todo = {visible(row["rule"]): visible(row["what"]) for row in rows}
            lines += ["", "What to do", *_terminal.notices(list(todo.items()), width)]
        unknown = [
            f"{_count(hosts['hosts'], 'host')}: {', '.join(sorted(rules))}, as the evidence lacks {visible(missing)}."
            for missing, (rules, hosts) in sorted(self._missing.items())
        ]
        if unknown:
            lines += ["", *_terminal.notices([("Not evaluated", text) for text in unknown], width)]
        return lines + ["", *wrapped(self.summary(), width)]

    def summary(self) -> str:
        skipped = f"{_count(self.skipped, 'host')} not audited: check mode wrote no evidence of this run"
        if self.skipped and not self.hosts:
            return skipped + "."
        parts = [f"{_count(self.findings, 'finding')} on {self.with_findings} of {_count(self.hosts, 'host')}"]
        told = ", ".join(f"{count} {severity}" for severity, count in self.severities.items() if count)
        if told:
            parts[0] += f": {told}"
        if self.unread:
            parts.append(f"{_count(self.unread, 'host')} not read")
        if self.skipped:
            parts.append(skipped)
        unknown = set().union(*(rules for rules, _hosts in self._missing.values()))
        if unknown:
            parts.append(f"{_count(len(unknown), 'rule')} not evaluated everywhere")
        return "; ".join(parts) + "."


def _sort_key(finding: dict[str, Any]) -> tuple[Any, ...]:
    return (-_rules.rank(finding["severity"]), *(finding[part] for part in ("host", "rule", "subject", "message")))


def _rows(rows: list[dict[str, Any]], width: int) -> list[str]:
    cells = [[visible(row[part]) for part in ("severity", "host", "subject", "rule", "message")] for row in rows]
    if not _terminal.cuts([_TITLES, *cells], _LEAST, width, _WHOLE):
        return _terminal.grid(_TITLES, cells, _LEAST, width)
    heads = [(severity, host, rule) for severity, host, _subject, rule, _message in cells]
    below = [f"{subject}: {message}" for _severity, _host, subject, _rule, message in cells]
    return _terminal.grid(_NARROW_TITLES, heads, _NARROW_LEAST, width, below=below)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
