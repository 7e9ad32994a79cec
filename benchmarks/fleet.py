# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of a fleet costs: one play of oom_evidence against one of ansible.builtin.ping, over the same inventory.

Every host is this machine under another name, so that all of the work is counted: the controller's and the hosts'.
Costs are processor time, which other work on the machine does not change much. What a host does for itself is measured
in a process of its own and taken off: it reads itself, and before that Python compiles the collection's files, which
Ansible leaves nowhere. Memory is that of the largest process.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COLLECTIONS = os.path.join(ROOT, ".collections")
BAR = 1.3
PLAY = {"hosts": "all", "gather_facts": False, "strategy": "free"}
READ = """
import os, sys, time
sys.path.insert(0, {path!r})
import ansible.module_utils.basic
start = time.process_time(), sum(os.times()[2:4])
from ansible_collections.oom.forensics.plugins.module_utils._evidence_spec import EVIDENCE_SPEC, evidence_arguments
from ansible_collections.oom.forensics.plugins.modules import oom_evidence
loaded = time.process_time()
params = {{key: option.get("default") for key, option in EVIDENCE_SPEC.items()}}
oom_evidence.packed(oom_evidence.document(params, evidence_arguments(params)))
print(loaded - start[0], time.process_time() - loaded + sum(os.times()[2:4]) - start[1])
"""


def cost(argv, environment):
    """Seconds of processor time and MiB of the largest process of a command and all that it started; its output."""
    child = subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = child.stdout.read().decode()
    _pid, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(output)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output


class Fleet:
    def __init__(self, folder, hosts):
        self.folder, self.hosts = folder, hosts
        variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        names = {"host%05d" % number: {} for number in range(hosts)}
        self.inventory = self.write("hosts.json", json.dumps({"all": {"vars": variables, "hosts": names}}))

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as stream:
            stream.write(text)
        return path

    def play(self, module, **options):
        """Cost of one task on every host, per host, and the memory. Nothing is left of earlier runs."""
        playbook = self.write("play.json", json.dumps([dict(PLAY, tasks=[{module: options}])]))
        argv = [os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), "-i", self.inventory, playbook]
        environment = dict(os.environ, ANSIBLE_COLLECTIONS_PATH=COLLECTIONS)
        seconds, memory, _output = cost(argv, environment)
        shutil.rmtree(os.path.join(self.folder, "oom-evidence"), ignore_errors=True)
        return seconds / self.hosts, memory


def measure(hosts, rounds):
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(folder, hosts)
        # As on a host, no compiled file is there.
        environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", PYTHONPYCACHEPREFIX=os.path.join(folder, "none"))
        rows = []
        for _round in range(rounds):
            ping, _memory = fleet.play("ansible.builtin.ping")
            evidence, memory = fleet.play("oom.forensics.oom_evidence", spool=os.path.join(folder, "oom-evidence"))
            told = cost([sys.executable, "-c", READ.format(path=COLLECTIONS)], environment)[2]
            load, read = map(float, told.split())
            rows.append(
                (ping * 1000, evidence * 1000, load * 1000, read * 1000, (evidence - load - read) / ping, memory)
            )
    medians = (hosts, *(statistics.median(column) for column in zip(*rows)))
    print("%6d %9.0f %13.0f %9.0f %9.0f %7.2f %8.0f" % medians, flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--hosts", type=int, nargs="+", default=[50, 100, 200])
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    print("CPU ms per host; ratio = (oom_evidence - loading - reading) / ping; bar: %.1f" % BAR)
    print("%6s %9s %13s %9s %9s %7s %8s" % ("hosts", "ping", "oom_evidence", "loading", "reading", "ratio", "RSS MiB"))
    for hosts in options.hosts:
        measure(hosts, options.rounds)


if __name__ == "__main__":
    main()
