# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets for the tests of policies: one function that makes any, and shorthands for the usual ones."""

from ansible_collections.oom.forensics.plugins.module_utils._oom import workload
from ansible_collections.oom.forensics.plugins.module_utils._policy import model

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CID = "3193584578ea" + "ab12" * 13
LIVE = model.Ability(None, True, "docker update", model.Survives(True, True, True))
LATER = model.Ability(None, False, "a drop-in", model.Survives(True, None, True))
NOT_KEPT = model.Ability(None, True, "podman update", model.Survives(False, True, False))


def refusing(sentence):
    return model.Ability(sentence, False, None, model.Survives(None, None, None))


def usage(current=None, peak=None, reclaimable=None, kills=None, swap=None):
    return model.Usage(current, peak, reclaimable, kills, swap)


def target(path="/docker/" + CID, manager="docker", abilities=None, names=None, **more):
    """A target at `path`; `names` are added to its workload, `abilities` to those of a manager that can do all."""
    fields = {
        "manager": manager,
        "identity": path or "prefix",
        "label": "it",
        "workload": dict(workload.identify(path), **(names or {})),
        "path": path,
        "unit": None,
        "cgroup_version": 2,
        "stored": {},
        "effective": {},
        "usage": usage(),
        "abilities": dict(dict.fromkeys(model.SETTINGS, LIVE), **(abilities or {})),
        "critical": False,
        "infrastructure": False,
    }
    return model.Target(**dict(fields, **more))


def container(number=0, engine="docker", parent="", **more):
    """A container with an id of its own."""
    path = "{0}/docker/{1:064x}".format(parent, 0xABCDEF000000 + number)
    return target(path, engine, **more)


def scope(number=0, engine="docker", **more):
    """A container that is a scope of systemd."""
    unit = "{0}-{1:064x}.scope".format(engine, 0xABCDEF000000 + number)
    return target("/system.slice/" + unit, engine, **dict({"unit": unit, "label": "it"}, **more))


def service(unit="nginx.service", parent="/system.slice", **more):
    return target(parent + "/" + unit, **dict({"manager": "systemd", "unit": unit, "identity": unit}, **more))


def slice_(unit="system.slice", **more):
    return service(unit, "", **more)


def prefix(unit="docker-.scope", **more):
    """What stands for all units of a prefix, also those yet to come."""
    return target(None, "systemd", unit=unit, identity=unit, **more)
