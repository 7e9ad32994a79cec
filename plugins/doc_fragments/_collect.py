# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The options of C(module_utils/_options.py:COLLECT_SPEC). Private to this collection."""

    DOCUMENTATION = r"""
options:
  sources:
    description:
      - Where to look for OOM reports.
      - V(auto) reads everything that the host has and merges what is logged more than once.
      - V(journal) is the systemd journal. Only records of the kernel transport count, so that nobody can forge a kill
        with C(logger).
      - V(kmsg) is the ring buffer of the running kernel, C(/dev/kmsg).
      - V(files) are the log files of the kernel below C(/var/log), rotated and compressed ones too.
      - A source that is missing or cannot be read never fails the task. It is a row in C(coverage.sources) with its
        error.
    type: list
    elements: str
    choices: [auto, journal, kmsg, files]
    default: [auto]
  paths:
    description:
      - Log files to read instead of O(sources), as paths or shell patterns on the host.
      - Plain text and C(.gz), C(.xz), C(.bz2) are read by Python itself, C(.zst) where the host has C(zstd).
      - Every format is recognised, C(dmesg), C(journalctl) and syslog ones among them.
    type: list
    elements: path
    default: []
  since:
    description:
      - Leave out kills before this moment.
      - ISO 8601, such as V(2026-11-22T21:50:30Z), where a time without offset is UTC.
      - Or a span before now, such as V(-2h), V(2h), V(1d12h) or V(30min ago). The units are s, min (or m), h, d and w.
    type: str
  until:
    description:
      - Leave out kills after this moment. Written as O(since).
    type: str
  boots:
    description:
      - Whether to report kills of V(all) boots that the logs remember, or of the V(current) one only.
    type: str
    choices: [all, current]
    default: all
  cursor:
    description:
      - Read the journal from this place on, which is C(coverage.journal_cursor) of an earlier run.
    type: str
  journal_directory:
    description:
      - Read the journal files of this directory of the host instead of the host's own journal.
    type: path
  max_events:
    description:
      - Return at most this many events, the newest ones. C(coverage.truncated) says whether some were left out.
    type: int
    default: 1000
  max_tasks:
    description:
      - Keep at most this many rows of the task table of each report, the largest ones.
    type: int
    default: 20
  raw:
    description:
      - Whether to return the text of each report as well.
      - It can be long, and it was written by whatever ran on the host. Do not use it in templates that are evaluated
        again.
    type: bool
    default: false
"""
