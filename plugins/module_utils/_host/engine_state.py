# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines keep in files: names without a daemon, on a copied tree, and of other users. Private to this collection.

Every reader takes the ids that have names already, and does not read their files again.
"""

import html
import itertools
import os
import re
from typing import Any, Callable, Container, Dict, Iterable, Iterator, List, NamedTuple, Optional, Pattern, Tuple, Union

from . import engine_homes, run
from . import engine_rows as rows

_MOST = 5000
_LARGEST = 4 * 1024 * 1024

Rows = Iterator[Optional[rows.Row]]


class Reader(NamedTuple):
    """How to read the files of the host's own engine, and the directories that prove that there are any."""

    read: Callable[[run.Host, Container[str]], Rows]
    places: Callable[[run.Host], List[str]]


def denied(host: run.Host, reader: Reader) -> Optional[str]:
    """The first directory of an engine that is there and that this user may not read."""
    for place in reader.places(host):
        try:
            os.listdir(run.below(host, place))
        except PermissionError:
            return place
        except OSError:
            continue
    return None


def _listed(host: run.Host, directory: str) -> List[str]:
    return run.names(host, directory)[:_MOST]


def _json(host: run.Host, path: str) -> Any:
    """The JSON of a regular file."""
    return rows.parsed(run.read_bytes(host, path, _LARGEST)) if os.path.isfile(run.below(host, path)) else None


class _Root(NamedTuple):
    """Files of the host's own engines, which root alone can change, with the names of ``engine_homes.Home``."""

    host: run.Host
    uid: Optional[int] = None

    def names(self, path: str) -> List[str]:
        return _listed(self.host, path)

    def json(self, path: str) -> Any:
        return _json(self.host, path)


_Tree = Union[_Root, engine_homes.Home]


# --- docker: daemon/container.go writes <data root>/containers/<id>/config.v2.json -----------------------------------

_DATA_ROOT = ("data-root", "graph")  # the second one until Docker 17.05
_DOCKER_ROOTS = ("/var/lib/docker", "/var/snap/docker/common/var-lib-docker")


def _docker_places(host: run.Host) -> List[str]:
    settings = _json(host, "/etc/docker/daemon.json")
    given = [rows.field(settings, key) for key in _DATA_ROOT]
    roots = [root for root in given if isinstance(root, str) and root.startswith("/")]
    roots += _DOCKER_ROOTS
    return _distinct(root.rstrip("/") + "/containers" for root in roots)


def _docker(host: run.Host, known: Container[str]) -> Rows:
    for place in _docker_places(host):
        yield from _docker_containers(_Root(host), place, known)


def _docker_of_home(home: engine_homes.Home, known: Container[str]) -> Rows:
    return _docker_containers(home, ".local/share/docker/containers", known)


def _docker_containers(tree: _Tree, place: str, known: Container[str]) -> Rows:
    for identifier in tree.names(place):
        if rows.key(tree.uid, identifier) in known:
            continue
        config = tree.json("{0}/{1}/config.v2.json".format(place, identifier))
        if rows.field(config, "ID") == identifier:
            yield rows.row(
                "docker",
                identifier,
                "state",
                tree.uid,
                name=rows.bare(rows.field(config, "Name")),
                image=rows.field(config, "Config", "Image"),
                labels=rows.field(config, "Config", "Labels"),
                running=rows.field(config, "State", "Running"),
            )


# --- podman and CRI-O: containers/storage writes <graph root>/<driver>-containers/containers.json --------------------

_GRAPH_ROOT = re.compile(r'(?m)^\s*(?:graphroot|runroot)\s*=\s*"(/[^"\n]{1,1024})"')
_STORAGE_SETTINGS = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
_STORES = ("containers.json", "volatile-containers.json")


def _storage_roots(host: run.Host) -> List[str]:
    settings = [run.read_text(host, path) or "" for path in _STORAGE_SETTINGS]
    if run.live(host) and os.environ.get("CONTAINERS_STORAGE_CONF"):
        settings.insert(0, run.read_text(host, os.environ["CONTAINERS_STORAGE_CONF"]) or "")
    roots = [root for text in settings for root in _GRAPH_ROOT.findall(text)]
    roots += ["/var/lib/containers/storage", "/run/containers/storage"]
    return _distinct(roots)


def _storage(tree: _Tree, root: str, engine: str) -> Rows:
    """Containers of one engine; CRI-O's are those whose metadata names a pod."""
    # One directory per storage driver: overlay-containers, vfs-containers.
    drivers = [name for name in tree.names(root) if name.endswith("-containers")]
    for driver, name in itertools.product(drivers, _STORES):
        store = tree.json("{0}/{1}/{2}".format(root, driver, name))
        for container in rows.dicts(store)[:_MOST]:
            text = container.get("metadata")
            about = rows.parsed(text.encode("utf-8", "replace")) if isinstance(text, str) else None
            if (engine == "cri-o") == bool(rows.field(about, "pod-id")):
                yield _stored(engine, tree.uid, container, about)


def _stored(engine: str, uid: Optional[int], container: Dict[str, object], about: object) -> Optional[rows.Row]:
    names = container.get("names")
    return rows.row(
        engine,
        container.get("id"),
        "state",
        uid,
        name=names[0] if isinstance(names, list) and names else rows.field(about, "name"),
        image=rows.field(about, "image-name"),
    )


def _podman(host: run.Host, _known: Container[str]) -> Rows:
    for root in _storage_roots(host):
        yield from _storage(_Root(host), root, "podman")


def _podman_of_home(home: engine_homes.Home, _known: Container[str]) -> Rows:
    return _storage(home, ".local/share/containers/storage", "podman")


def _crio(host: run.Host, _known: Container[str]) -> Rows:
    for root in _storage_roots(host):
        yield from _storage(_Root(host), root, "cri-o")


# --- containerd: its shims run in bundles, whose config.json is the runtime specification ----------------------------

_BUNDLES = (
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/containerd/io.containerd.runtime.v1.linux",
    "/run/k3s/containerd/io.containerd.runtime.v2.task",
)
_DOCKERS = ("moby", "plugins.moby")


def _containerd(host: run.Host, known: Container[str]) -> Rows:
    for place in _BUNDLES:
        for namespace in run.names(host, place):
            if namespace not in _DOCKERS:
                yield from _bundles(host, "{0}/{1}".format(place, namespace), known)


def _bundles(host: run.Host, place: str, known: Container[str]) -> Rows:
    for identifier in _listed(host, place):
        if identifier in known:
            continue
        config = _json(host, "{0}/{1}/config.json".format(place, identifier))
        facts = rows.field(config, "annotations")
        made = rows.row("containerd", identifier, "state", facts=facts, running=True if config else None)
        if made and made["name"] is None:
            made["name"] = made["container_name"] or made["pod_name"]
        if made and made["pod_name"] and not made["container_name"]:
            made["container_name"] = "POD"  # what kubelet calls the container that holds a pod's namespaces
        yield made


# --- Kubernetes: kubelet names log files after containers and pods (pkg/kubelet/kuberuntime/legacy.go) ---------------

_LOG_NAME = re.compile(
    r"(?P<pod_name>[^_]{1,253})_(?P<namespace>[^_]{1,63})_(?P<container_name>[^_]{1,253})-(?P<id>[0-9a-f]{64})\.log"
)
_LOG_TARGET = re.compile(r"/var/log/pods/[^_/]+_[^_/]+_(?P<pod_uid>[0-9a-f-]{32,36})/")
_POD_DIRECTORY = re.compile(r"(?P<namespace>[^_]{1,63})_(?P<pod_name>[^_]{1,253})_(?P<pod_uid>[0-9a-f-]{32,36})")


def _kubernetes(host: run.Host, known: Container[str]) -> Rows:
    for name in _listed(host, "/var/log/containers"):
        found = _LOG_NAME.fullmatch(name)
        if found is None or found.group("id") in known:
            continue
        about = found.groupdict()
        target = _LOG_TARGET.search(_link(host, "/var/log/containers/" + name))
        about.update(target.groupdict() if target else {})
        yield rows.row(None, about.pop("id"), "state", None, name=about["container_name"], **about)
    for name in _listed(host, "/var/log/pods"):
        found = _POD_DIRECTORY.fullmatch(name)
        if found and found.group("pod_uid") not in known:
            yield rows.row(
                "kubernetes", found.group("pod_uid"), "state", None, name=found.group("pod_name"), **found.groupdict()
            )


def _link(host: run.Host, path: str) -> str:
    try:
        return os.readlink(run.below(host, path))
    except OSError:
        return ""


# --- LXC, LXD, Incus: a directory per container; its cgroup has the name ---------------------------------------------

_LXC = (
    "/var/lib/lxc",
    "/var/lib/lxd/containers",
    "/var/snap/lxd/common/lxd/containers",
    "/var/lib/incus/containers",
)
# metadata.yaml of an image, which LXD and Incus keep beside the root file system: properties.description
_DESCRIPTION = re.compile(r"(?m)^[ ]{2,8}description: (.{1,512})$")


def _lxc(host: run.Host, _known: Container[str]) -> Rows:
    for place in _LXC:
        for name in _listed(host, place):
            about = run.read_text(host, "{0}/{1}/metadata.yaml".format(place, name)) or ""
            found = _DESCRIPTION.search(about)
            image = found.group(1).strip("'\" ") if found else None
            made = rows.row("lxc", "lxc:" + name, "state", name=name, image=image)
            if made and os.path.isdir(run.below(host, "{0}/{1}".format(place, name))):
                yield made


# --- libvirt: a status file per running machine ----------------------------------------------------------------------

_LIBVIRT = ("/run/libvirt/qemu", "/run/libvirt/lxc")
_MACHINE: Tuple[Pattern[str], ...] = (
    re.compile(r"<domain type='[^']*' id='(?P<id>[0-9]{1,20})'"),
    re.compile(r"<name>(?P<name>[^<]{1,256})</name>"),
)


def _libvirt(host: run.Host, _known: Container[str]) -> Rows:
    for place in _LIBVIRT:
        for name in _listed(host, place):
            text = run.read_text(host, "{0}/{1}".format(place, name)) if name.endswith(".xml") else None
            # The first of each: devices below have names too.
            matches = [pattern.search(text or "") for pattern in _MACHINE]
            if all(matches):
                identifier, title = (match.group(1) for match in matches if match)
                yield rows.row("libvirt", "libvirt:" + identifier, "state", name=html.unescape(title), running=True)


def _distinct(paths: Iterable[str]) -> List[str]:
    return list(dict.fromkeys(paths))


READERS = {
    "docker": Reader(_docker, _docker_places),
    "podman": Reader(_podman, _storage_roots),
    "containerd": Reader(_containerd, lambda host: list(_BUNDLES)),
    "cri-o": Reader(_crio, lambda host: []),  # Podman's directories, which Podman's row complains of
    "kubernetes": Reader(_kubernetes, lambda host: ["/var/log/containers", "/var/log/pods"]),
    "lxc": Reader(_lxc, lambda host: list(_LXC)),
    "libvirt": Reader(_libvirt, lambda host: list(_LIBVIRT)),
}

READERS_OF_HOMES: Dict[str, Callable[[engine_homes.Home, Container[str]], Rows]] = {
    "docker": _docker_of_home,
    "podman": _podman_of_home,
}


def of_home(home: engine_homes.Home, engine: str, known: Container[str]) -> List[Optional[rows.Row]]:
    """Containers of a user's own engine, which is one of READERS_OF_HOMES."""
    found = READERS_OF_HOMES[engine](home, known)
    with home.reading():
        listed = list(itertools.islice(found, engine_homes.CONTAINERS + 1))
    if len(listed) > engine_homes.CONTAINERS:
        home.cut()
    return listed[: engine_homes.CONTAINERS]
