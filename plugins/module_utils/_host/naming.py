# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names for the workloads of events: what the engines know now, and what is left of those that are gone. Private."""

from typing import Any, Callable, Dict, List, Optional, Sequence

from . import engines, run

_PARTS = ("workload", "limit_workload")
_NAMED_KINDS = ("container", "pod")


def named(
    host: run.Host, events: List[Dict[str, Any]], names: engines.Names, journal_directory: Optional[str] = None
) -> List[Dict[str, Any]]:
    """The events with names, images and labels in ``workload`` and ``limit_workload``.

    A container that no engine lists any more is looked up in the journal and the state directories. What nobody
    knows stays the id alone: ``name_source`` is null.
    """
    by_id = dict(names.by_id)
    unknown = _unknown(events, by_id)
    if unknown:
        by_id.update(engines.of_gone(host, unknown, journal_directory))
    return [dict(event, **{part: engines.fill(event[part], by_id) for part in _PARTS}) for event in events]


def namer(names: engines.Names) -> Callable[[Dict[str, Any]], Dict[str, Any]]:
    """A function that names one workload from ``names``."""
    return lambda workload: engines.fill(workload, names.by_id)


def _unknown(events: Sequence[Dict[str, Any]], by_id: Dict[str, Dict[str, Any]]) -> List[str]:
    """Keys of the events' containers that ``by_id`` does not name, those of the newest events first."""
    workloads = (event[part] for event in reversed(events) for part in _PARTS)
    named_by_id = (each for each in workloads if each["kind"] in _NAMED_KINDS and each["id"])
    unknown = (each for each in named_by_id if engines.fill(each, by_id)["name_source"] is None)
    return list(dict.fromkeys(engines.key(each) for each in unknown))
