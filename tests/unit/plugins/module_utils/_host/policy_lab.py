# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for tests of the way of a policy: a copied tree as its kernel, and an engine that writes into it."""

from ansible_collections.oom.forensics.plugins.module_utils._host import (
    cgroupfs,
    policy,
    policy_kernel,
    policy_survey,
    policy_work,
    run,
)
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_calls import ManagerError, VanishedError
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_record import Store
from ansible_collections.oom.forensics.plugins.module_utils._policy import rules
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import SETTINGS, Ability, Survives, Target

MIB = 1 << 20
BOOT = "1" * 32
_FILES = {"memory_max": "memory.max", "memory_high": "memory.high", "memory_swap_max": "memory.swap.max"}
_LIVE = Ability(None, True, "`engine update`", Survives(True, True, True))
_LATER = Ability(None, False, "a file", Survives(True, None, True))


class Engine:
    """What keeps settings here: as the modules of the managers are, in memory and in the tree.

    ``broken``: by name of a container, what happens at its update, and by `finish`, behind all of them: an exception,
    or a function to be called. ``finished``: for each time that it was told that this was all, the containers of
    it. ``remarks``: what it says of containers then.
    """

    def __init__(self, lab):
        self.lab = lab
        self.calls, self.broken, self.finished, self.remarks = [], {}, [], {}

    def refusal(self, target, wanted):
        return "The engine takes no odd number." if (wanted.get("memory_max") or 0) == 13 * MIB else None

    def before(self, target, wanted):
        found = {name: target.effective.get(name) for name in wanted if name != "oom_policy"}
        return {"name": target.workload["name"], "settings": found}

    def apply(self, host, target, wanted, lasting):
        self._update(target.workload["name"], wanted)

    def undo(self, host, before):
        self._update(before["name"], before["settings"])

    def finish(self, host, identities):
        self.finished.append([name for name in self.lab.names if identity(name) in identities])
        self._break("finish")
        return {identity(name): remark for name, remark in self.remarks.items()}

    def _update(self, name, settings):
        self.calls.append(name)
        self._break(name)
        if name not in self.lab.names:
            raise VanishedError("{0} is gone.".format(name))
        for setting, value in settings.items():
            if setting in _FILES:
                self.lab.write(name, _FILES[setting], "max" if value is None else value)

    def _break(self, name):
        broken = self.broken.get(name)
        if isinstance(broken, Exception):
            raise broken
        if broken:
            broken()


class Lab:
    def __init__(self, root, monkeypatch):
        self.root = root
        self.host = run.Host(root=str(root / "host"))
        self.store = Store(run.Host(), str(root / "state"))
        self.names = []
        self.engine = Engine(self)
        self.put("/proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
        self.put("/proc/meminfo", "MemTotal: 1048576 kB\n")
        self.put("/proc/sys/kernel/random/boot_id", BOOT)
        self.put("/proc/vmstat", "oom_kill 0\n")
        self.put("/sys/fs/cgroup/cgroup.controllers", "memory\n")
        monkeypatch.setitem(policy_work.MANAGERS, "docker", self.engine)
        monkeypatch.setattr(policy_work, "_CONFIRM_SECONDS", 0.1)
        monkeypatch.setattr(policy_survey, "survey", self.survey)
        monkeypatch.setattr(policy.counters, "page_size", lambda host: 4096)

    def put(self, path, text):
        place = self.root / "host" / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def container(self, name, memory_max="max"):
        self.names.append(name)
        texts = {"memory.max": memory_max, "memory.high": "max", "memory.swap.max": "max", "memory.swap.current": 0}
        texts.update({"memory.current": MIB, "memory.peak": MIB, "memory.events": "oom_kill 0", "memory.low": 0})
        for file, text in texts.items():
            self.write(name, file, text)
        return name

    def remove(self, name):
        self.names.remove(name)
        folder = self.root / "host" / self.path(name)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    @staticmethod
    def path(name):
        return "sys/fs/cgroup/docker/" + identity(name)

    def write(self, name, file, text):
        self.put(self.path(name) + "/" + file, "{0}\n".format(text))

    def kernel(self, name, file="memory.max"):
        return (self.root / "host" / self.path(name) / file).read_text().strip()

    def survey(self, host, prefixes, lasting):
        found, _coverage = cgroupfs.read(host, with_stat=policy_kernel.RECLAIMABLE)
        cgroups = {cgroup["path"]: cgroup for cgroup in found}
        targets = [self.target(name, cgroups["/docker/" + identity(name)]) for name in self.names]
        row = {"manager": "docker", "available": True, "workloads": len(targets), "error": None, "advice": None}
        return policy_survey.Survey(targets, [row])

    @staticmethod
    def target(name, cgroup):
        abilities = dict.fromkeys(SETTINGS, _LIVE)
        abilities["oom_policy"] = _LATER
        abilities["memory_min"] = Ability("The engine has no memory_min.", False, None, Survives(None, None, None))
        return Target(
            manager="docker",
            identity=identity(name),
            label="docker " + name,
            workload=dict(cgroup["workload"], name=name),
            path=cgroup["path"],
            unit=None,
            cgroup_version=2,
            stored={"memory_max": cgroup["memory_max"]},
            effective=policy_kernel.settings(cgroup),
            usage=policy_kernel.usage(cgroup),
            abilities=abilities,
            critical=False,
            infrastructure=False,
        )

    def request(self, *given, **options):
        return policy.Request(policy=rules.check(list(given), None), store=self.store, lock_timeout=0, **options)

    def applied(self, *given, **options):
        return policy.applied(self.host, self.request(*given, **options))


def identity(name):
    return "{0:064x}".format(int.from_bytes(name.encode("ascii"), "big"))


def rule(name, **settings):
    return dict({"name": "rule of " + name, "match": {"name": name}}, **settings)


def failing(text="The engine is angry.", advice="Be nice."):
    return ManagerError(text, advice)
