# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
name: parse_oom
short_description: Parse the OOM reports in a kernel log
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Finds every kernel OOM report in a text and returns one event per kill.
  - Recognises the formats of C(dmesg), C(journalctl), syslog, C(/dev/kmsg), serial consoles and container runtimes by
    itself,
    also mixed. A kill that the text has several times is one event.
  - A filter runs each time its expression is evaluated. For more than one use, keep the result with
    M(ansible.builtin.set_fact).
  - Names in the events were chosen by whatever ran on the host. Never use them as templates.
positional: _input
options:
  _input:
    description:
      - The log, as text, bytes, or a list of lines.
    type: raw
    required: true
  max_tasks:
    description:
      - Keep at most this many rows of the task table of each report, the largest ones. Without it, all of them.
    type: int
  raw:
    description:
      - Whether to return the text of each report as well.
    type: bool
    default: false
  reference_time:
    description:
      - No line is later than this. Syslog lines without a year get theirs from it.
      - ISO 8601, such as V(2026-11-22T21:50:30Z), or seconds since the epoch. Without it, the current time.
    type: raw
  page_size:
    description:
      - Page size of the kernel in bytes. Without it, it is derived from each report where that is possible.
    type: int
seealso:
  - module: oom.forensics.oom_events_info
    description: Reads the logs of a host itself, and documents every key of an event.
"""

EXAMPLES = r"""
- name: Show the victims in a saved log
  ansible.builtin.debug:
    msg: >-
      {{ lookup('ansible.builtin.file', 'dmesg.txt')
         | oom.forensics.parse_oom
         | map(attribute='victims') | flatten | map(attribute='comm') | list }}

- name: Parse what a command printed on the host
  ansible.builtin.command: dmesg
  register: ring_buffer
  changed_when: false

- name: Keep the events of it
  ansible.builtin.set_fact:
    oom_events: "{{ ring_buffer.stdout_lines | oom.forensics.parse_oom(max_tasks=5) }}"

- name: Parse last year's syslog
  ansible.builtin.set_fact:
    oom_events: "{{ kern_log | oom.forensics.parse_oom(reference_time='2025-12-31T23:59:59Z') }}"
"""

RETURN = r"""
_value:
  description:
    - One entry per kill, in the order of time. M(oom.forensics.oom_events_info) documents the keys of an event.
  type: list
  elements: dict
"""

import math
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from ansible.errors import AnsibleFilterError
from ansible_collections.oom.forensics.plugins.module_utils._oom import events
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError, parse_time, utf8

FQCN = "oom.forensics.parse_oom"
_PAGE_SIZES = tuple(1 << shift for shift in range(12, 19))  # 4 KiB to 256 KiB, what Linux has


def parse_oom(
    data: Any,
    max_tasks: Optional[int] = None,
    raw: bool = False,
    reference_time: Any = None,
    page_size: Optional[int] = None,
) -> List[Dict[str, Any]]:
    """The events in ``data``, merged. Raises AnsibleFilterError for arguments of the wrong type."""
    context = events.Context(
        source="text",
        max_tasks=_number("max_tasks", max_tasks),
        raw=_flag("raw", raw),
        reference=_reference(reference_time),
        page_size=_page_size(page_size),
    )
    return utf8(events.merge(events.parse(_chunks(data), context)))


def _chunks(data: Any) -> Iterator[bytes]:
    if isinstance(data, (str, bytes, bytearray)):
        return iter([_encoded(data)])
    if isinstance(data, (list, tuple)):
        for line in data:
            if not isinstance(line, (str, bytes, bytearray)):
                raise _error("a list must hold lines of text or bytes", line)
        return (line if line.endswith(b"\n") else line + b"\n" for line in map(_encoded, data))
    raise _error("the input must be text, bytes or a list of lines", data)


def _encoded(text: Any) -> bytes:
    if not isinstance(text, str):
        return bytes(text)
    try:
        return text.encode("utf-8", "surrogateescape")  # what could not be decoded comes back as it was
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _number(name: str, value: Any) -> Optional[int]:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise _error(name + " must be a whole number of at least 0", value)


def _page_size(value: Any) -> Optional[int]:
    if _number("page_size", value) is None or value in _PAGE_SIZES:
        return value
    raise AnsibleFilterError(
        f"{FQCN}: page_size {value} is no page size; it is one of {', '.join(map(str, _PAGE_SIZES))}."
    )


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _error(name + " must be true or false", value)


def _reference(value: Any) -> float:
    if value is None:
        return time.time()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if not isinstance(value, str):
        raise _error("reference_time must be ISO 8601 text or seconds since the epoch", value)
    try:
        moment = parse_time("reference_time", value, time.time())
    except OptionError as error:
        raise AnsibleFilterError(f"{FQCN}: {error}") from error
    return time.time() if moment is None else moment


# Since ansible-core 2.19 values are subclasses with names that would mean nothing to a user.
_TYPE_NAMES = (bool, int, float, str, bytes, dict, list, tuple, set)


def _error(message: str, value: Any) -> AnsibleFilterError:
    name = next((kind.__name__ for kind in _TYPE_NAMES if isinstance(value, kind)), type(value).__name__)
    return AnsibleFilterError(f"{FQCN}: {message}, not {'null' if value is None else name}.")


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"parse_oom": parse_oom}
