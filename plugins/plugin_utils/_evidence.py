# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spool: one directory per host, one gzip JSON document per run. Private to this collection.

A document (schema ``oom.forensics/evidence/1``) holds everything that is known of a host when it is written, so
that a reader needs the newest one only. Documents are never changed; a new one replaces them by being newer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import tempfile
import time
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible_collections.oom.forensics.plugins.module_utils._host.engines import fill
from ansible_collections.oom.forensics.plugins.module_utils._oom.events import iso, merge

from ._shape import wrong

SCHEMA = "oom.forensics/evidence/1"
MAX_BYTES = 256 * 1024 * 1024  # of one document's JSON; what is larger is no evidence but an attack or an accident
HOST_KEYS = (
    "inventory_name",
    "hostname",
    "machine_id",
    "boot_id",
    "boot_time",
    "kernel",
    "arch",
    "page_size_bytes",
    "memory_total_bytes",
    "memory_available_bytes",
    "swap_total_bytes",
    "swap_free_bytes",
    "swaps",
    "zram",
    "zswap",
    "commit_limit_bytes",
    "committed_bytes",
    "cgroup_mode",
    "systemd_version",
    "sysctls",
    "journald",
    "userspace_oom_killers",
    "critical_processes",
)
MAX_DEPTH = 32  # of lists and dicts in one another, twice of what evidence has
MAX_NAMES = 5000  # workloads that a host's documents remember, so that a kill keeps its name when the container is gone
# What decides whether a journal cursor of an earlier run may be used: only if that run asked for no less.
REQUEST_KEYS = ("sources", "paths", "since", "until", "boots", "journal_directory", "max_events", "max_tasks", "raw")
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_SUFFIX = ".json.gz"
_NAME = re.compile(r"[12]\d{7}T\d{6}\.\d{6}Z\.json\.gz")
_TEMPORARY = ".tmp-"
_STALE_SECONDS = 3600.0


class SpoolError(Exception):
    """The spool cannot be used; the message is one sentence for the user."""


def spool_path(spool: str) -> str:
    """Absolute path of a spool option; a relative one begins in the current directory, not beside the playbook."""
    return os.path.abspath(os.path.expanduser(spool))


def directory_name(host: str) -> str:
    """A file name for an inventory name: itself where possible, ``%XX`` for what a path could misunderstand.

    Different names give different results, none is empty, begins with a dot or has more than 240 bytes.
    """
    name = re.sub(
        rb"[^A-Za-z0-9._-]", lambda found: b"%%%02X" % found.group()[0], host.encode("utf-8", "surrogatepass")
    )
    text = name.decode("ascii")
    if text.startswith(".") or not text:
        text = "%2E" + text[1:] if text else "%"
    if len(text) > 240:
        text = text[:200] + "%" + hashlib.sha256(host.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return text


def host_name(directory: str) -> str:
    """The inventory name that a directory of the spool stands for (a shortened one stays as it is)."""
    raw = re.sub(
        rb"%([0-9A-F]{2})", lambda found: bytes([int(found.group(1), 16)]), directory.encode("ascii", "replace")
    )
    return raw.decode("utf-8", "replace")


def hosts(spool: str) -> list[str]:
    """Inventory names that the spool has documents of, sorted."""
    try:
        with os.scandir(spool) as entries:
            return sorted(
                host_name(entry.name) for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            )
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SpoolError(f"The spool {spool} could not be listed: {error.strerror}.") from error


def documents(spool: str, host: str) -> list[str]:
    """Paths of a host's documents, newest first."""
    directory = os.path.join(spool, directory_name(host))
    try:
        names = [name for name in os.listdir(directory) if _written(name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SpoolError(f"The evidence of {host} in {directory} could not be listed: {error.strerror}.") from error
    return [os.path.join(directory, name) for name in sorted(names, reverse=True)]


def _written(name: str) -> datetime | None:
    """When the document of this name was written; None for the name of anything else."""
    if not _NAME.fullmatch(name):
        return None
    try:
        return datetime.strptime(name[: -len(_SUFFIX)], _STAMP).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


def unpack(data: bytes, what: str) -> dict[str, Any]:
    """The document in gzip ``data``. Raises SpoolError, which names ``what``, if it is none or too large."""
    inflate = zlib.decompressobj(wbits=31)
    try:
        text = inflate.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise SpoolError(f"{what} is not gzip data: {error}.") from error
    if len(text) > MAX_BYTES:
        raise SpoolError(f"{what} has more than {MAX_BYTES} bytes, which no evidence has.")
    if not inflate.eof:
        raise SpoolError(f"{what} is cut off.")
    try:
        value = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise SpoolError(f"{what} is not JSON: {error}.") from error
    if _deeper(value, MAX_DEPTH):
        raise SpoolError(f"{what} is nested more than {MAX_DEPTH} times, which no evidence is.")
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise SpoolError(f"{what} is not a document of the schema {SCHEMA}.")
    place = wrong(value) or ("coverage" if value["status"] == "ok" and value["coverage"] is None else None)
    if place:
        raise SpoolError(f"{what} has no valid {place}.")
    return value


def _number(text: str) -> float:
    """A number that JSON can hold and arithmetic can bear: Infinity, NaN and what overflows are refused."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number of evidence")
    return value


def _whole(text: str) -> int:
    if len(text) > 20:
        raise ValueError(f"{text[:20]}… is no number of evidence")
    return int(text)


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(each, levels - 1) for each in inner if isinstance(each, (dict, list)))


def read(path: str) -> dict[str, Any]:
    """The document at ``path``. Raises SpoolError with one sentence if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpoolError(f"{path} could not be read: {error.strerror}.") from error
    return unpack(data, path)


def known(spool: str, host: str) -> Iterator[dict[str, Any]]:
    """The readable documents of a host, newest first; one that cannot be read is passed over for an older one."""
    for path in documents(spool, host):
        try:
            yield read(path)
        except SpoolError:
            continue


def of_machine(spool: str, host: str, machine_id: str | None) -> dict[str, Any] | None:
    """The newest document of the host that is of this machine: a reinstalled host begins anew.

    A machine ID that one side does not know excludes nothing.
    """
    for document in known(spool, host):
        if machine_id is None or document["host"].get("machine_id") in (None, machine_id):
            return document
    return None


def usable_cursor(previous: dict[str, Any] | None, request: dict[str, Any]) -> str | None:
    """The journal cursor to read on from, or None where the earlier run read less than this one asks for."""
    if previous is None or not previous.get("coverage"):
        return None
    asked = previous.get("request") or {}
    same = all(asked.get(key) == request[key] for key in ("sources", "paths", "boots", "journal_directory"))
    enough = same and asked.get("until") is None and _reaches_back(asked, request) and _at_least(asked, request)
    cut_off = previous["coverage"].get("truncated") and (asked.get("max_events") or 0) < request["max_events"]
    return None if cut_off or not enough else previous["coverage"].get("journal_cursor")


def _reaches_back(asked: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether the earlier run's `since` is no later. A span before now only moves on as time does."""
    return asked.get("since") is None or asked.get("since") == request["since"]


def _at_least(asked: dict[str, Any], request: dict[str, Any]) -> bool:
    tasks = asked.get("max_tasks")
    return tasks is not None and tasks >= request["max_tasks"] and (asked.get("raw") or not request["raw"])


def merged(fresh: dict[str, Any], previous: dict[str, Any] | None) -> tuple[dict[str, Any], int]:
    """The fresh document with everything that the previous one knew, and how many kills are new."""
    document = {key: value for key, value in fresh.items() if key != "cursor_used"}
    old = previous["events"] if previous else []
    document["names"] = _names(fresh, previous)
    document["events"] = _named(merge(old + fresh["events"]) if old else fresh["events"], document["names"])
    document["coverage"] = _coverage(fresh, previous, document["events"])
    return document, max(0, len(document["events"]) - len(old))


def _names(fresh: dict[str, Any], previous: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What the host's engines call their workloads, now and in earlier runs; the latest seen are kept."""
    table = {row["key"]: row for row in (previous or {}).get("names", [])}
    table.update((row["key"], row) for row in fresh["names"])
    return sorted(table.values(), key=lambda row: (row["last_seen"], row["key"]))[-MAX_NAMES:]


def _named(events: list[dict[str, Any]], names: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events with the names that an earlier run learnt, where the host itself does not know them any more."""
    by_id = {row["key"]: dict(row, name_source="cache") for row in names}
    return [
        dict(event, **{part: _named_workload(event[part], by_id) for part in ("workload", "limit_workload")})
        for event in events
    ]


def _named_workload(workload: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return workload if workload["name_source"] or not by_id else fill(workload, by_id)


def _coverage(fresh: dict[str, Any], previous: dict[str, Any] | None, events: list[dict[str, Any]]) -> dict[str, Any]:
    coverage = dict(fresh["coverage"])
    if previous and previous.get("coverage"):
        coverage["sources"] = _sources(fresh, previous)
        if coverage["journal_cursor"] is None and fresh["cursor_used"]:
            coverage["journal_cursor"] = previous["coverage"].get("journal_cursor")
        if fresh["cursor_used"]:
            coverage["truncated"] = bool(coverage["truncated"] or previous["coverage"].get("truncated"))
    complete = _boot_is_complete(fresh, previous)
    coverage["kills_parsed"] = _kills_parsed(coverage, events)
    coverage["kills_unlogged"] = _unlogged(coverage) if complete else None
    coverage["events_total"] = max(len(events), coverage["events_total"] or 0)
    coverage["events_returned"] = len(events)
    return coverage


def _kills_parsed(coverage: dict[str, Any], events: list[dict[str, Any]]) -> int | None:
    """Kill records of the running boot. The host may know better than the events: it saw what was cut off."""
    boot = _plain(coverage["boot_id"])
    if boot is None:
        return coverage["kills_parsed"]
    counted = sum(event["kill_lines"] for event in events if _plain(event["boot_id"]) == boot)
    return max(counted, coverage["kills_parsed"] or 0)


def _boot_is_complete(fresh: dict[str, Any], previous: dict[str, Any] | None) -> bool:
    """Whether this run and the ones before it have read all that the logs have of the running boot.

    The host knows of its own run; read on from a cursor, that is as good as the run which ended there.
    """
    if fresh["coverage"]["kills_unlogged"] is not None:
        return True
    before = (previous or {}).get("coverage")
    if not before or not _gapless(fresh):
        return False
    another_boot = _plain(before["boot_id"]) != _plain(fresh["coverage"]["boot_id"])
    return another_boot or before["kills_unlogged"] is not None


def _gapless(fresh: dict[str, Any]) -> bool:
    """Whether the journal was read on from where the earlier run stopped; `since` passes over what lies between."""
    return fresh["cursor_used"] and fresh["request"]["since"] is None and fresh["request"]["until"] is None


def _unlogged(coverage: dict[str, Any]) -> int | None:
    if coverage["kernel_counter"] is None or coverage["kills_parsed"] is None:
        return None
    return max(0, coverage["kernel_counter"] - coverage["kills_parsed"])


def _plain(identifier: str | None) -> str | None:
    return identifier.replace("-", "").lower() if identifier else None


def _sources(fresh: dict[str, Any], previous: dict[str, Any]) -> list[dict[str, Any]]:
    """The fresh sources, with their first time set back to the earlier run's where nothing lies between the two."""
    before = {(source["source"], source["path"]): source for source in previous["coverage"]["sources"]}
    gapless = _gapless(fresh)
    return [
        _joined(source, before.get((source["source"], source["path"])), gapless and source["source"] == "journal")
        for source in fresh["coverage"]["sources"]
    ]


def _joined(source: dict[str, Any], before: dict[str, Any] | None, read_on: bool) -> dict[str, Any]:
    if before is None or before["first_time"] is None or not source["available"]:
        return source
    if source["first_time"] is None:
        return dict(source, first_time=before["first_time"], last_time=before["last_time"]) if read_on else source
    if read_on or (before["last_time"] or "") >= source["first_time"]:
        return dict(source, first_time=min(before["first_time"], source["first_time"]))
    return source


def not_read(host: str, status: str, error: str, previous: dict[str, Any] | None) -> dict[str, Any]:
    """The document of a host that was not read in this run: its status and why, and what was known before."""
    known_before = previous or {}
    block = dict.fromkeys(HOST_KEYS)
    block.update(known_before.get("host") or {}, inventory_name=host)
    return {
        "schema": SCHEMA,
        "status": status,
        "error": error,
        "collected_at": known_before.get("collected_at"),
        "host": block,
        "request": known_before.get("request"),
        "coverage": known_before.get("coverage"),
        "events": known_before.get("events", []),
        "names": known_before.get("names", []),
        "cgroups": known_before.get("cgroups"),
    }


def write(spool: str, host: str, document: dict[str, Any], keep: int) -> str:
    """Write the host's newest document, keep the newest ``keep``, and return the path.

    Atomic: a reader, or a run after a power failure, sees the whole document or none of it.
    Raises SpoolError with one sentence if it cannot be written.
    """
    directory = os.path.join(spool, directory_name(host))
    try:
        os.makedirs(spool, mode=0o700, exist_ok=True)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = os.path.join(directory, _next_name(documents(spool, host)))
        atomically(path, _encoded(document))
        for old in documents(spool, host)[keep:]:
            os.unlink(old)
        _sweep(directory)
    except OSError as error:
        raise SpoolError(
            f"The evidence of {host} could not be written to {directory}: {error.strerror}. "
            "Make the directory writable, or choose another spool."
        ) from error
    return path


def atomically(path: str, pieces: Iterator[bytes]) -> None:
    """Write ``pieces`` to a file for its owner only, which appears under ``path`` when complete. Raises OSError."""
    directory = os.path.dirname(path)
    handle, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=directory)  # mkstemp makes it with mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):  # it has its name now, unless something failed
            os.unlink(temporary)
    entry = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def _next_name(existing: list[str]) -> str:
    """A name that sorts after every other one, also when the clock was set back."""
    moment = datetime.now(timezone.utc)
    newest = _written(os.path.basename(existing[0])) if existing else None
    if newest:
        moment = max(moment, newest + timedelta(microseconds=1))
    return moment.strftime(_STAMP) + _SUFFIX


def _encoded(document: dict[str, Any]) -> Iterator[bytes]:
    events = [_compact(event) for event in document["events"]]
    room = MAX_BYTES - len(_compact(dict(document, events=[]))) - 64
    size = sum(map(len, events)) + len(events)
    dropped = 0
    while size > room and dropped < len(events):  # the oldest first, as everywhere
        size -= len(events[dropped]) + 1
        dropped += 1
    if dropped:
        document = dict(
            document, coverage=dict(document["coverage"], truncated=True, events_returned=len(events) - dropped)
        )
    head = _compact({key: value for key, value in document.items() if key != "events"})
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    yield packer.compress(head[:-1] + b',"events":[')
    for index, event in enumerate(events[dropped:]):
        yield packer.compress((b"," if index else b"") + event)
    yield packer.compress(b"]}") + packer.flush()


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def _sweep(directory: str) -> None:
    """Remove what a killed run left behind."""
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if name.startswith(_TEMPORARY) and time.time() - os.stat(path).st_mtime > _STALE_SECONDS:
            os.unlink(path)


def now() -> str:
    """The current time as every document writes it."""
    text = iso(time.time())
    if text is None:  # iso() is None for None only
        raise SpoolError("The clock has no time.")
    return text
