# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tracing service of the role oom_trace has logged, as events. Private to this collection."""

import json
from typing import Any, Dict, List, Optional, Tuple

from .._oom import traced, traces
from .._oom.times import Context
from . import journal, run
from .coverage import Unreadable, row

SOURCE = traced.SOURCE
_JOURNAL_SECONDS = 20.0
_MOST = 10000


def of_service(host: run.Host, options: journal.Options) -> Tuple[List[Dict[str, Any]], Dict[str, Any]]:
    """Events of what the tracing service has logged, newest last, and a row about that source (see coverage.row).

    A line counts only if journald itself says that the service wrote it. Nothing raises: a journal that cannot be
    read is a row with its error.
    """
    about = row(SOURCE, options.directory or options.file or "journal")
    events: List[Dict[str, Any]] = []
    try:
        journal.require_journal(host, options)
    except Unreadable as error:
        about["error"] = error.error if error.exists else None
        return events, about
    arguments = ["-o", "json", "--reverse", "-n", str(_MOST)]
    if options.since is not None:
        arguments.append("--since=" + journal.moment(journal.microseconds(options.since)))
    arguments += journal.no_later(options) + ["_SYSTEMD_UNIT=" + traces.UNIT] + journal.of_boot(options)
    running = run.hurried(host, _JOURNAL_SECONDS).stream(journal.command(host, options, arguments))
    try:
        for line in _lines(running, about):
            event = _of_record(line)
            if event is not None:
                events.append(event)
                about["first_time"] = event["time"]
                about["last_time"] = about["last_time"] or event["time"]
    except run.OverdueError:
        about["error"] = "In {0:.0f} s the journal was not read to the end.".format(_JOURNAL_SECONDS)
    finally:
        running.end()
    about["available"] = True
    return events[::-1], about


def _lines(running: run.Running, about: Dict[str, Any]) -> List[bytes]:
    data = b"".join(running.chunks)
    lines = data.splitlines()
    about.update(records=len(lines), bytes=len(data))
    return lines


def _of_record(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        record = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("_SYSTEMD_UNIT") != traces.UNIT:
        return None
    text, boot_id = record.get("MESSAGE"), record.get("_BOOT_ID")
    kill = traces.load(text) if isinstance(text, str) else None
    if kill is None or not isinstance(boot_id, str):
        return None
    facts = Context(source=SOURCE, machine_id=_word(record, "_MACHINE_ID"), hostname=_word(record, "_HOSTNAME"))
    # The service reads the clock when it sees the kill; the kernel's own stamp is for the join.
    event = traced.event(kill._replace(boot_id=boot_id), facts)
    event["origins"][0].update(first=_word(record, "__CURSOR"), last=_word(record, "__CURSOR"))
    return event


def _word(record: Dict[str, Any], name: str) -> Optional[str]:
    value = record.get(name)
    return value if isinstance(value, str) else None
