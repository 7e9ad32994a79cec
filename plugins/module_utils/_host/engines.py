# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of workloads: which container, pod or machine an id of a cgroup path is. Private to this collection.

The kernel knows only ids. Docker, Podman, containerd and CRI-O are asked through their own commands, where they run;
the files that they, kubelet, LXC and libvirt keep tell the rest, and everything on a copied tree; of containers that
are gone, the journal may. A systemd unit needs none of it: its path has its name.
"""

from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from . import engine_cli, engine_homes, engine_journal, engine_rows, engine_state, run

KEYS = engine_rows.KEYS

_SHORTEST_ID = 12
_ADVICE_DENIED = "Read as root (become: true); without it only containers of this user have names."
# What a row fills into a workload; the rest of a workload is its path's.
_FILLED = (
    "image",
    "labels",
    "compose_project",
    "compose_service",
    "pod_uid",
    "pod_name",
    "namespace",
    "container_name",
)
_OF_POD = ("pod_name", "namespace")

_ASKED: Dict[str, Callable[[run.Host], Optional[List[engine_rows.Row]]]] = {
    "docker": engine_cli.docker,
    "podman": engine_cli.podman,
    "containerd": engine_cli.containerd,
    "cri-o": engine_cli.crio,
}


class Names(NamedTuple):
    """Rows by id (``engine_rows.KEYS``), and what each engine gave: ``engine available workloads error advice``.

    The id is the engine's whole one; a pod's is its uid. LXC and libvirt have no id in a path that anybody else
    uses: theirs are ``lxc:<name>`` and ``libvirt:<number>``. ``uid`` is null for the host's own engines, which root
    runs. What a user runs without being root has his uid, and stands in the table as ``<uid>:<id>``: he can write
    any id into his files, and the names that he gives are good for his own cgroups only.
    """

    by_id: Dict[str, Dict[str, Any]]
    sources: List[Dict[str, Any]]


def read(host: run.Host, among: Iterable[str] = tuple(engine_state.READERS)) -> Names:
    """Every workload that an engine of this host, one of ``among``, knows, running or not.

    Commands are run only on the running machine itself, and only if their engine already runs; nothing is started or
    changed. Never raises: what could not be read is an ``error`` in its source.
    """
    by_id: Dict[str, Dict[str, Any]] = {}
    homes = engine_homes.homes(host)
    sources = [_source(host, engine, by_id, homes) for engine in among]
    engine_rows.merge(by_id, engine_rows.pods(list(by_id.values())))
    return Names(by_id, sources)


def _source(
    host: run.Host, engine: str, by_id: Dict[str, Dict[str, Any]], homes: List[engine_homes.Home]
) -> Dict[str, Any]:
    """Read one engine into the table; its row of the coverage."""
    reader = engine_state.READERS[engine]
    answer, error, advice = _answer(host, engine)
    found = engine_rows.merge(by_id, answer or [])
    found += engine_rows.merge(by_id, reader.read(host, set(by_id)))
    for home in homes if engine in engine_state.READERS_OF_HOMES else ():
        found += engine_rows.merge(by_id, engine_state.of_home(home, engine, set(by_id)))
        error = error or home.error
    available = answer is not None or found > 0
    place = None if available or error else engine_state.denied(host, reader)
    if place:
        error, advice = "{0} could not be read: permission denied.".format(place), _ADVICE_DENIED
    return {"engine": engine, "available": available, "workloads": found, "error": error, "advice": advice}


def _answer(host: run.Host, engine: str) -> Tuple[Optional[List[engine_rows.Row]], Optional[str], Optional[str]]:
    """What the engine's command told, if there is one to ask; else why not, and what to do."""
    ask = _ASKED.get(engine)
    try:
        return (ask(host) if ask and run.live(host) else None), None, None
    except engine_cli.RefusedError as error:
        return None, str(error), error.advice


def key(workload: Dict[str, Any]) -> str:
    """Where the row of a workload that has an id would stand in the table, if its whole id were known."""
    return engine_rows.key(workload.get("uid"), workload["id"])


def of_gone(host: run.Host, keys: Iterable[str], directory: Optional[str] = None) -> Dict[str, Dict[str, Any]]:
    """Rows, as of ``read``, of containers that no engine knows any more, from what the journal still tells of them.

    :arg keys: the ``key`` of workloads that ``read`` did not find, the most interesting ones first: only some dozens
        are looked for, those of the host's own engines first.
    :arg directory: where the journal's files are, if not in their usual place.

    Never raises; a key of which nothing is known is not in the result. What is known of a user's container is what
    processes of this user logged.
    """
    return engine_journal.look(host, keys, directory)


def fill(workload: Dict[str, Any], by_id: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """The workload (of ``workload.identify``) with the names that the table knows, as a new dict.

    ``name_source`` says where they are from; it stays null where the table knows nothing. Kind, unit and slice are
    never changed. An id of at least 12 digits stands for the one that begins with it.

    Below a user's own systemd (``uid`` in the workload) anybody's id may be the name of a cgroup: there only what
    this user's engines tell counts, and nothing of it anywhere else.
    """
    filled = dict(workload)
    found = _found(workload, by_id)
    if found is not None:
        filled.update((key, found[key]) for key in _FILLED if filled.get(key) is None)
        filled["engine"] = filled.get("engine") or found["engine"]
        filled["name"] = found["name"] or filled.get("name")
        filled["name_source"] = found["name_source"]
    pod = _at(workload, filled.get("pod_uid"), by_id)
    if pod is not None and pod is not found:
        filled.update((key, pod[key]) for key in _OF_POD if filled.get(key) is None)
        filled["name_source"] = filled.get("name_source") or pod["name_source"]
    return filled


def _found(workload: Dict[str, Any], by_id: Dict[str, Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    identifier = workload.get("id")
    engine = workload.get("engine")
    keys = (
        identifier,
        "{0}:{1}".format(engine, identifier),
        "{0}:{1}".format(engine, workload.get("name")),
        workload.get("pod_uid") if workload.get("kind") == "pod" else None,
    )
    rows = (_at(workload, each, by_id) for each in keys)
    found = next((each for each in rows if each is not None), None)
    if found is None and identifier and _SHORTEST_ID <= len(identifier) < 64:
        beginning = key(workload)
        whole = (_at(workload, each["id"], by_id) for at, each in by_id.items() if at.startswith(beginning))
        found = next((each for each in whole if each is not None), None)
    return found


def _at(workload: Dict[str, Any], identifier: Optional[str], by_id: Dict[str, Dict[str, Any]]) -> Any:
    """The row of an id, if it is of the user whose cgroup the workload is."""
    row = by_id.get(engine_rows.key(workload.get("uid"), identifier)) if identifier else None
    return row if row is not None and row["uid"] == workload.get("uid") else None
