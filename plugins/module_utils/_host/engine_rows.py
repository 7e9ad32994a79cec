# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of one container, pod or machine, as a row of bounded text. Private to this collection.

Names and labels are written by whoever starts a container: nothing here raises on them, and nothing is longer than
its bound. Environment variables, commands and annotations have no place in a row.
"""

import json
import re
from typing import Any, Dict, Iterable, List, Optional

KEYS = (
    "engine",
    "id",
    "uid",
    "name",
    "image",
    "labels",
    "pod_uid",
    "pod_name",
    "namespace",
    "container_name",
    "compose_project",
    "compose_service",
    "name_source",
    "running",
)

_LONGEST_ID = 128
# Longer than a DNS name, which is the longest of the engines' own bounds.
_LONGEST_TEXT = 256
_LONGEST_IMAGE = 512
_LABELS = 64
_LONGEST_LABEL = 256
# A label that is longer is no name but a file: a configuration, a manifest, a certificate.
_LABEL_DROPPED = 1024
_LABELS_TEXT = 8192
_SECRET = re.compile(
    r"pass(?:word|wd|phrase)|secret|token|credential|basic-?auth|(?:api|access|private)[-_.]?key", re.I
)

# Where each fact may stand among a container's labels or annotations, the best place first.
_FACTS = {
    # kubelet's labels (pkg/kubelet/types/labels.go), then containerd's annotations (pkg/cri/annotations)
    "pod_uid": ("io.kubernetes.pod.uid", "io.kubernetes.cri.sandbox-uid"),
    "pod_name": ("io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name"),
    "namespace": ("io.kubernetes.pod.namespace", "io.kubernetes.cri.sandbox-namespace"),
    "container_name": ("io.kubernetes.container.name", "io.kubernetes.cri.container-name"),
    "compose_project": ("com.docker.compose.project", "io.podman.compose.project"),
    "compose_service": ("com.docker.compose.service", "io.podman.compose.service"),
    "name": ("nerdctl/name",),
    "image": ("io.kubernetes.cri.image-name",),
}
# The name that kubelet's container managers give: no part of it can hold an underscore. Two parts of it may be DNS
# names, so it may be longer than what is kept of it.
_LONGEST_KUBELET_NAME = 1024
_KUBELET_NAME = re.compile(
    r"k8s_(?P<container_name>[^_]+)_(?P<pod_name>[^_]+)_(?P<namespace>[^_]+)_(?P<pod_uid>[0-9a-f-]{32,36})_[0-9]{1,9}"
)

# Who starts a container of these, or builds its image, gives it any label: kubelet's too.
_LABELLED_BY_ANYBODY = ("docker", "podman")
_OF_KUBELET = ("pod_uid", "pod_name", "namespace", "container_name")

Row = Dict[str, Any]


def key(uid: Optional[int], identifier: str) -> str:
    """Where a row stands in a table: two users' containers may have the same id, or pretend to."""
    return identifier if uid is None else "{0}:{1}".format(uid, identifier)


def row(engine: Optional[str], identifier: Any, source: str, uid: Optional[int] = None, **known: Any) -> Optional[Row]:
    """A row with every key of KEYS; None without an id.

    :arg source: what becomes ``name_source``: ``engine``, ``state`` or ``journal``.
    :arg uid: the user whose engine it is, and who may have written all of this; None for the host's own engines.
    :arg known: what is known, as it was read: of any type and length. ``labels`` also fill the keys that follow
        from them where ``known`` does not; ``facts`` are annotations, which only do that.
    """
    name = text(identifier, _LONGEST_ID)
    if name is None:
        return None
    labels = known.pop("labels", None)
    facts = known.pop("facts", None)
    running = known.pop("running", None)
    made: Row = dict.fromkeys(KEYS)
    made.update(engine=engine, id=name, uid=uid, name_source=source)
    made["running"] = running if isinstance(running, bool) else None
    for fact, value in known.items():
        made[fact] = text(value, _LONGEST_IMAGE if fact == "image" else _LONGEST_TEXT)
    found = _KUBELET_NAME.fullmatch(text(known.get("name"), _LONGEST_KUBELET_NAME) or "")
    believed = [each for each in _FACTS if found or engine not in _LABELLED_BY_ANYBODY or each not in _OF_KUBELET]
    for mapping in (labels, facts):
        _learn(made, mapping, believed)
    if found:
        made.update((fact, value) for fact, value in found.groupdict().items() if made[fact] is None)
    made["labels"] = bounded(labels)
    return made


def _learn(made: Row, mapping: Any, believed: Iterable[str]) -> None:
    if not isinstance(mapping, dict):
        return
    for fact in believed:
        values = (text(mapping.get(place), _LONGEST_TEXT) for place in _FACTS[fact])
        if made[fact] is None:
            made[fact] = next((value for value in values if value is not None), None)


def text(value: Any, longest: int = _LONGEST_TEXT) -> Optional[str]:
    """A text of at most ``longest`` characters; None for anything else and for nothing."""
    return value[:longest] if isinstance(value, str) and value else None


def bare(name: Any) -> Any:
    """A container's name without the slash that Docker keeps before it."""
    return name[1:] if isinstance(name, str) and name.startswith("/") else name


def bounded(labels: Any) -> Optional[Dict[str, str]]:
    """The labels that are short enough to be one, at most 64 of them; none that is called a secret."""
    if not isinstance(labels, dict):
        return None
    kept: Dict[str, str] = {}
    left = _LABELS_TEXT
    for label, value in labels.items():
        if not isinstance(label, str) or not isinstance(value, str) or len(value) > _LABEL_DROPPED:
            continue
        left -= min(len(label), _LONGEST_LABEL) + min(len(value), _LONGEST_LABEL)
        if len(kept) == _LABELS or left < 0:
            break
        if not _SECRET.search(label[:_LONGEST_LABEL]):
            kept[label[:_LONGEST_LABEL]] = value[:_LONGEST_LABEL]
    return kept


def merge(by_id: Dict[str, Row], rows: Iterable[Optional[Row]]) -> int:
    """Add rows to the table, and to rows of the same user that are there what they lack; how many were new."""
    before = len(by_id)
    for each in rows:
        if each is None:
            continue
        there = by_id.setdefault(key(each["uid"], each["id"]), each)
        if there is not each:
            there.update((name, value) for name, value in each.items() if there[name] is None)
    return len(by_id) - before


def pods(rows: Iterable[Row]) -> List[Row]:
    """A row for each pod that containers are in, with the pod's uid as its id."""
    found: Dict[str, Row] = {}
    for each in rows:
        pod = each["pod_uid"]
        if pod is None or pod == each["id"] or each["pod_name"] is None or key(each["uid"], pod) in found:
            continue
        found[key(each["uid"], pod)] = dict(
            dict.fromkeys(KEYS),
            engine=each["engine"],
            id=pod,
            uid=each["uid"],
            name=each["pod_name"],
            pod_uid=pod,
            pod_name=each["pod_name"],
            namespace=each["namespace"],
            name_source=each["name_source"],
        )
    return list(found.values())


def parsed(data: Optional[bytes]) -> Any:
    """The JSON of a file or an answer; None where it is none."""
    if not data:
        return None
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def field(value: Any, *path: str) -> Any:
    """``value[path[0]][path[1]]...``; None where there is no such key, or nothing that has keys."""
    for part in path:
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def dicts(value: Any) -> List[Dict[str, Any]]:
    """The dicts of a list; none where there is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
