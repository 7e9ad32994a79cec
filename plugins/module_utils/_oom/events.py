# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From rows of kernel text to events: which lines make up a report, and which reports are one kill.

Private to this collection. The order of a report's lines is that of dump_header() and
oom_kill_process() in mm/oom_kill.c; any of them may be missing (rate limit, level filter, overwritten
ring buffer), foreign lines may stand between them, and a kill line alone is an event.
"""

import re
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, Optional, Tuple

from . import framing, lines, skim
from .merging import merge
from .patterns import lazy
from .report import SCHEMA, Report, event
from .rows import Rows, Where, monotonic
from .times import Context, iso

__all__ = ["SCHEMA", "Context", "iso", "merge", "parse"]

_RECENT = 16  # reports kept back for lines that come late (group members, reaper)
_RECENT_BYTES = 8 * 1024 * 1024
_REPORT_BYTES = 4 * 1024 * 1024  # a table of 40,000 tasks
_PATIENCE = 512  # rows without a sign of the report after which it counts as cut off
_JOINED = 4  # records or soft-wrapped lines that one long line may have become
_GROUP_GAP_USEC = 1000000  # group members are killed in one go, in milliseconds


_NOTHING_KNOWN = Context()


def parse(chunks: Iterable[bytes], context: Context = _NOTHING_KNOWN) -> Iterator[Dict[str, Any]]:
    """Events of a byte stream in any transport and any split, in order, as plain dicts (design: type Event).

    Nothing raises on any bytes, memory is bounded, time is linear. An event that several carriers hold
    in one stream comes out once per carrier: see :func:`merge`.
    """
    assembler = _Assembler()
    for rows in framing.rows(chunks, assembler.mood):
        assembler.feed(rows)
        for report in assembler.ready():
            yield event(report, context)
    for report in assembler.finish():
        yield event(report, context)


_NO_ROWS = Rows([], [], None)


def _key_lines(texts: List[str]) -> List[int]:
    """Indices of the rows that may be key lines: every key line has one of these words, few other lines do."""
    return [
        index
        for index, text in enumerate(texts)
        if "oom" in text or "emory" in text or "process" in text or "omm: " in text or "Mem-Info" in text
    ]


class _Assembler:
    """Collects rows into reports. One open report per printk caller (one in all where the log names none)."""

    def __init__(self) -> None:
        self._open: Dict[str, Report] = {}
        self._recent: Deque[Report] = deque()
        self._carry = _NO_ROWS
        self._suppressed = 0
        self._ending = False
        self._fed = self._place = 0  # rows before this block, and the number of the row being handled

    def mood(self) -> int:
        return skim.HOT if self._open or len(self._carry) else skim.COLD

    def ready(self) -> Iterator[Report]:
        while len(self._recent) > _RECENT or sum(report.size for report in self._recent) > _RECENT_BYTES:
            yield self._recent.popleft()

    def finish(self) -> Iterator[Report]:
        self._ending = True
        self.feed(_NO_ROWS)
        for caller in list(self._open):
            self._close(caller)
        while self._recent:
            yield self._recent.popleft()

    def feed(self, rows: Rows) -> None:
        if len(self._carry):
            rows, self._carry = self._carry + rows, _NO_ROWS
        texts = rows.texts
        done = 0
        for index in _key_lines(texts):
            if index < done:
                continue
            self._extend(rows, done, index)
            self._place = self._fed + index
            taken = self._key_line(rows, index)
            if taken < 0:
                self._carry = rows.rest(index)
                self._fed += index
                return
            done = index + 1 + taken
        self._extend(rows, done, len(texts))
        self._fed += len(texts)

    def _extend(self, rows: Rows, start: int, end: int) -> None:
        """Give the plain rows between two key lines to the open reports."""
        if start >= end or not self._open:
            return
        if rows.callers is None and "" in self._open:
            self._add(self._open[""], rows.wheres[end - 1], rows.texts[start:end], "")
            return
        for index in range(start, end):
            caller = rows.caller(index)
            report = self._open.get(caller)
            if report is not None:
                self._add(report, rows.wheres[index], [rows.texts[index]], caller)

    def _add(self, report: Report, where: Where, texts: List[str], caller: str) -> None:
        report.since_key += len(texts)
        if report.size > _REPORT_BYTES:
            report.truncated = True
        else:
            report.size += sum(map(len, texts))
            report.texts.extend(texts)
            report.last = where
        if report.since_key > _PATIENCE:
            self._still_going(report, caller)

    def _still_going(self, report: Report, caller: str) -> None:
        """After many rows without a key line: go on in a long table, else close what is cut off."""
        tail = report.texts[-_PATIENCE:]
        if not report.truncated and sum(1 for text in tail[::8] if _KIN.match(text)) * 8 * 8 > len(tail):
            report.since_key = 0
            return
        if not report.truncated:
            while len(report.texts) > 1 and not _KIN.match(report.texts[-1]):
                report.texts.pop()
        self._close(caller)

    def _key_line(self, rows: Rows, index: int) -> int:
        """Handle a line that may be a key line; returns how many following rows it used, -1 to see more rows first."""
        text = rows.texts[index]
        flat = text if "\n" not in text else text.replace("\n", " ")
        for needle, handler in _HANDLERS:
            if needle in flat:
                taken = handler(self, rows, index)
                if taken is not None:
                    return taken
        report = self._open.get(rows.caller(index))
        if report is not None:
            self._add(report, rows.wheres[index], [text], rows.caller(index))
        return 0

    # --- one handler per kind of key line: None means "not mine after all", else the number of extra rows used

    def _on_trigger(self, rows: Rows, index: int) -> Optional[int]:
        where, caller, text = rows.wheres[index], rows.caller(index), rows.texts[index]
        found = lines.trigger(text)
        extra = 0
        if found and (found.gfp_mask is None or found.order is None or found.oom_score_adj is None):
            joined = self._joined(rows, index)
            if joined is None:
                return -1
            for count, longer in joined:
                again = lines.trigger(longer)
                if again and again.oom_score_adj is not None and len(again.comm) == len(found.comm):
                    found, extra, text = again, count, longer
                    break
        if not found or (isinstance(where, str) and not where and not _plausible(found.comm)):
            return None
        report = self._start(caller, where)
        report.trigger = found
        report.suppressed, self._suppressed = self._suppressed, 0
        self._take(report, where, text)
        return extra

    def _on_summary(self, rows: Rows, index: int) -> Optional[int]:
        where, caller, text = rows.wheres[index], rows.caller(index), rows.texts[index]
        begin = text.replace("\n", " ").find("oom-kill:constraint=")
        if begin > 0 and where:
            return None
        extra = 0
        if not _SUMMARY_END.search(text):
            joined = self._joined(rows, index)
            if joined is None:
                return -1
            for count, longer in joined:
                longer = longer.replace("\n", "")
                if _SUMMARY_END.search(longer):
                    text, extra = longer, count
                    break
        elif "\n" in text and not lines.summary(text):
            text = text.replace("\n", "")
        report = self._open.get(caller)
        if report is None or report.summary is not None or report.kills:
            report = self._start(caller, where)
        report.summary = text
        self._take(report, where, text)
        return extra

    def _on_kill(self, rows: Rows, index: int) -> Optional[int]:
        where, caller, text = rows.wheres[index], rows.caller(index), rows.texts[index]
        found = lines.kill(text)
        extra = 0
        if found is None and not _KILL_CUT.search(text):
            return None
        if found is None or found.total_vm_kb is None or found.oom_score_adj is None:
            joined = self._joined(rows, index)
            if joined is None:
                return -1
            for count, longer in joined:
                again = lines.kill(longer)
                if (
                    again
                    and again.whole
                    and again.total_vm_kb is not None
                    and _reads_on(found, again, longer[len(text) :])
                ):
                    found, extra, text = again, count, longer
        if found is None or not _kernel_words(where, text):
            return None
        report = self._group_of(found, where) or self._open.get(caller)
        if report is None:
            report = self._start(caller, where)
        report.kills.append((found, where))
        self._take(report, where, text)
        if report is self._open.get(caller):
            self._close(caller)
        return extra

    def _group_of(self, found: lines.Kill, where: Where) -> Optional[Report]:
        """The last report, if this is one of its group's members: same reason, at once."""
        last = self._recent[-1] if self._recent else None
        if last is None or last.group is None or self._open or not last.kills:
            return None
        if last.kills[0][0].reason != found.reason:
            return None
        then, now = monotonic(last.kills[-1][1]), monotonic(where)
        return None if then is not None and now is not None and now - then > _GROUP_GAP_USEC else last

    def _on_selection(self, rows: Rows, index: int) -> Optional[int]:
        where, caller, text = rows.wheres[index], rows.caller(index), rows.texts[index]
        found = lines.selection(text)
        if found is None:
            shared = lines.sharing(text)
            if shared is None:
                return None
            report = self._open.get(caller) or (self._recent[-1] if self._recent else None)
            if report is None:
                return 0
            report.sharing.append(shared)
            self._take(report, where, text)
            return 0
        report = self._open.get(caller)
        if report is None or report.selection is not None:
            report = self._start(caller, where)
        report.selection = found
        self._take(report, where, text)
        return 0

    def _on_group(self, rows: Rows, index: int) -> Optional[int]:
        where, text = rows.wheres[index], rows.texts[index]
        last = self._recent[-1] if self._recent else None
        if not text.startswith("Tasks in ") or last is None or not last.kills:
            return None
        last.group = text[len("Tasks in ") :].partition(" are going to be killed")[0]
        self._take(last, where, text)
        return 0

    def _on_reaper(self, rows: Rows, index: int) -> Optional[int]:
        found = lines.reaped(rows.texts[index])
        if found is None:
            return None
        for report in reversed(self._recent):
            if any(kill.pid == found[0] for kill, _where in report.kills):
                report.reaped[found[0]] = found[1]
                break
        return 0

    def _on_suppressed(self, rows: Rows, index: int) -> Optional[int]:
        count = lines.suppressed(rows.texts[index])
        if not count:
            return None
        self._suppressed += count
        return 0

    def _ends(self, rows: Rows, index: int, outcome: str) -> int:
        """A line that ends a report without a kill."""
        where, caller, text = rows.wheres[index], rows.caller(index), rows.texts[index]
        report = self._open.get(caller)
        last = self._recent[-1] if self._recent else None
        if report is None and outcome == "panic" and last is not None and last.outcome == "no_victim":
            last.outcome = outcome
            self._take(last, where, text)
            return 0
        if report is None:
            report = self._start(caller, where)
        report.outcome = outcome
        self._take(report, where, text)
        self._close(caller)
        return 0

    def _on_no_victim(self, rows: Rows, index: int) -> Optional[int]:
        text = rows.texts[index]
        if text.startswith("Out of memory and no killable"):
            return self._ends(rows, index, "no_victim")
        return self._on_panic(rows, index)

    def _on_panic(self, rows: Rows, index: int) -> Optional[int]:
        return self._ends(rows, index, "panic") if lines.panic(rows.texts[index]) else None

    def _on_exiting(self, rows: Rows, index: int) -> Optional[int]:
        text = rows.texts[index]
        if "ut of memory" not in text or not text.rstrip().endswith("Skip killing the task"):
            return None
        return self._ends(rows, index, "already_exiting")

    def _on_section(self, rows: Rows, index: int) -> Optional[int]:
        """A line from inside a report. Where none is open, its first lines are lost, or it is no OOM at all."""
        where, caller, text = rows.wheres[index], rows.caller(index), rows.texts[index]
        report = self._open.get(caller)
        if report is not None and report.key:
            self._take(report, where, text)
            return 0
        sure = bool(lines.table_header(text)) or text.startswith(
            ("Memory cgroup stats for", "Task in /", "memory: usage ")
        )
        stack = None if sure else lines.stack(text)
        if not sure and stack is None and not text.startswith("Mem-Info"):
            return None
        if report is None:
            report = self._start(caller, where)
        elif stack is not None:
            self._close(caller)
            report = self._start(caller, where)
        self._take(report, where, text, key=sure)
        return 0

    # --- reports

    def _start(self, caller: str, where: Where) -> Report:
        if caller in self._open:
            report = self._open[caller]
            if not report.key:  # a stack or memory dump of something else
                del self._open[caller]
            else:
                self._close(caller)
        report = self._open[caller] = Report(where)
        report.begin = self._place
        return report

    def _take(self, report: Report, where: Where, text: str, key: bool = True) -> None:
        report.key = report.key or key
        report.since_key = 0
        report.size += len(text)
        report.texts.append(text)
        report.last = where
        if report in self._open.values():  # behind a report rows may have been skipped
            report.checked, report.rows = where, self._place - report.begin

    def _close(self, caller: str) -> None:
        report = self._open.pop(caller)
        if report.key:
            self._recent.append(report)

    def _joined(self, rows: Rows, index: int) -> Optional[List[Tuple[int, str]]]:
        """The row joined with the next ones of its caller: (rows used, text); None to wait for more rows."""
        if index + _JOINED >= len(rows) and not self._ending:
            return None
        caller, text = rows.caller(index), rows.texts[index]
        longer = []
        for count in range(1, _JOINED):
            more = index + count
            if more >= len(rows) or rows.caller(more) != caller or not rows.texts[more]:
                break
            text += "\n" + rows.texts[more]
            longer.append((count, text))
        return longer


_Handler = Callable[[_Assembler, Rows, int], Optional[int]]
_HANDLERS: Tuple[Tuple[str, _Handler], ...] = (
    ("invoked oom-killer:", _Assembler._on_trigger),
    ("oom-kill:constraint=", _Assembler._on_summary),
    ("Killed process", _Assembler._on_kill),
    ("ill process ", _Assembler._on_selection),
    ("no killable processes", _Assembler._on_no_victim),
    ("Kernel panic - not syncing: ", _Assembler._on_panic),
    ("already exiting", _Assembler._on_exiting),
    ("oom.group set", _Assembler._on_group),
    ("oom_reaper: ", _Assembler._on_reaper),
    ("callbacks suppressed", _Assembler._on_suppressed),
    ("omm: ", _Assembler._on_section),
    ("Mem-Info", _Assembler._on_section),
    ("emory", _Assembler._on_section),
    ("[ pid", _Assembler._on_section),
    ("[  pid", _Assembler._on_section),
)

_SUMMARY_END = lazy(r",pid=\s*\d+(?:,\s*uid=?\s*-?\d+)?\s*$")
_KIN = lazy(
    r"\[ *\d+\] +\d+ +\d+|\s|[A-Z][A-Z0-9]{1,2}: |Node \d|active_anon|\w+ \d+$|\S+: \d+|\d+ pages|"
    r"lowmem_reserve|(?:DMA|Normal|HighMem|Movable)|Hardware name|Code:|Call [tT]race|\[<|\S+ +\d+KB +\d+KB$|Swap|"
    r"Free swap|Total swap|.*\+0x"
)
_KILL_CUT = lazy(r"Killed process(?:\s+\d+)?\s*$")
_ECHO = lazy(r"[\"'=]\s*$")


def _plausible(comm: str) -> bool:
    """Whether words before `invoked oom-killer` can be a task name behind an unknown prefix, not prose or an echo."""
    return len(comm) < 200 and not _ECHO.search(comm)


def _kernel_words(where: Where, text: str) -> bool:
    """Whether a kill line is the kernel's, not another program's quotation of it."""
    before = text.partition("Killed process")[0]
    for reason in ("Memory cgroup out of memory: ", "Out of memory: ", "Out of memory (oom_kill_allocating_task): "):
        if before.endswith(reason):
            before = before[: -len(reason)]
    if where:
        return len(before) < 80 and before.count("\n") == 0
    return not before or (len(before) < 200 and bool(re.search(r"[\]:;>|] ?$", before)))


def _reads_on(found: Optional[lines.Kill], longer: lines.Kill, rest: str) -> bool:
    """Whether a joined line only completes what its first part says."""
    if found is None:
        return bool(re.match(r"\s*(?:\d+\s|\()", rest))
    if found.total_vm_kb is None:
        return longer.pid == found.pid or str(longer.pid).startswith(str(found.pid))
    return longer[1:6] == found[1:6]
