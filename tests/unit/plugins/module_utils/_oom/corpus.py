# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the tests read a captured log, and what of an event every transport must agree on."""

import lzma
import os

from ansible_collections.oom.forensics.plugins.module_utils._oom import events

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "..", "..", "..", "..", "fixtures")


def fixture(*parts):
    return os.path.normpath(os.path.join(FIXTURES, *parts))


def read(path):
    opener = lzma.open if str(path).endswith(".xz") else open
    with opener(str(path), "rb") as stream:
        return stream.read()


def events_of(path, **context):
    return events.merge(events.parse([read(path)], events.Context(**context)))


def identity(event):
    """What must be the same in every transport that carries the whole report."""
    victims = [
        (
            victim["pid"],
            victim["comm"],
            victim["uid"],
            victim["role"],
            victim["total_vm_bytes"],
            victim["anon_rss_bytes"],
        )
        for victim in event["victims"]
    ]
    return (
        event["id"],
        event["outcome"],
        event["scope"],
        event["constraint"],
        event["limit_cgroup"],
        event["victim_cgroup"],
        event["trigger"]["comm"],
        event["trigger"]["pid"],
        event["tasks_total"],
        event["kill_lines"],
        sorted(event["cgroup_stat"].items()),
        victims,
    )
