#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
---
module: oom_evidence
short_description: Collect a host's OOM evidence into a file on the controller
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Reads the OOM kills that the host's logs remember, what those logs cover, the memory settings and use of every
    cgroup, what its container engines call their workloads, and what kind of host it is, in one round trip.
  - The controller merges that with the host's newest evidence and writes one gzip JSON document, so that the newest
    document of a host is everything that is known about it. Of the journal only what is new is read again.
  - The document goes to C(<spool>/<host>/<UTC time>.json.gz), written atomically and readable by its owner only.
  - The result has counts and the path, never the events, so that it stays small on ten thousand hosts.
  - A host that cannot be reached or read gets a document too, with its status, an error, and everything that was
    known before.
    The task fails nevertheless.
  - This is an action plugin. The part that reads the host is a module which the action runs there.
options:
  spool:
    description:
      - Directory on the controller. A relative path begins where C(ansible-playbook) was started.
      - It is made with mode 0700 if it is not there.
    type: path
    default: oom-evidence/spool
  keep:
    description:
      - How many documents of the host to keep, the newest ones.
    type: int
    default: 10
  cgroups:
    description:
      - Whether to read the memory settings and the use of every cgroup, as M(oom.forensics.cgroup_memory_info) does.
    type: bool
    default: true
  max_cgroups:
    description:
      - How many cgroups to keep. Parents come before their children; what is cut is counted in the coverage.
    type: int
    default: 20000
  cursor_machine_id:
    description:
      - Set by the action. The machine that O(cursor) belongs to. On another machine the cursor is not used.
    type: str
  inventory_name:
    description:
      - Set by the action. The name of the host in the inventory.
    type: str
extends_documentation_fragment:
  - oom.forensics._collect
  - oom.forensics._attributes
  - oom.forensics._attributes.platform
attributes:
  check_mode:
    support: full
    details:
      - Reads the host as always, but writes nothing on the controller.
  diff_mode:
    support: N/A
    details:
      - The host is never changed.
  idempotent:
    support: full
    details:
      - A second run writes another document with the same events. The host is never changed.
seealso:
  - module: oom.forensics.oom_events_info
    description: The events of one host as a result.
  - module: oom.forensics.cgroup_memory_info
    description: The cgroups of one host as a result.
  - module: oom.forensics.oom_report
    description: Shows what the spool has.
"""

EXAMPLES = r"""
- name: Collect evidence from every host
  hosts: all
  gather_facts: false
  tasks:
    - name: Collect OOM evidence
      oom.forensics.oom_evidence:
        spool: /var/lib/oom/spool
        since: 30d
      register: evidence

    - name: Name the hosts where kills went unlogged
      ansible.builtin.debug:
        msg: "{{ evidence.kills_unlogged }} kills left no line in any log; see {{ evidence.path }}"
      when: (evidence.kills_unlogged or 0) > 0
"""

RETURN = r"""
path:
  description: The document on the controller. Null in check mode.
  type: str
  returned: always
  sample: /var/lib/oom/spool/web01/20261122T215030.898260Z.json.gz
status:
  description: One of V(ok), V(unreachable), V(failed).
  type: str
  returned: always
  sample: ok
events_total:
  description: Kills that are known of this host, those of earlier runs among them.
  type: int
  returned: always
  sample: 3
events_new:
  description: Kills that were not known before this run.
  type: int
  returned: always
  sample: 1
kernel_counter:
  description: Kills since boot that the kernel counted.
  type: int
  returned: always
  sample: 4
kills_parsed:
  description: Kills since boot that were found in the logs, in this run or earlier.
  type: int
  returned: always
  sample: 3
kills_unlogged:
  description: The difference.
  type: int
  returned: always
  sample: 1
cgroups_total:
  description: Cgroups of the host. Null where they were not read.
  type: int
  returned: always
  sample: 117
workloads_named:
  description: Containers, pods and machines whose names are known, those of earlier runs among them.
  type: int
  returned: always
  sample: 12
truncated:
  description: Whether events were left out.
  type: bool
  returned: always
  sample: false
advice:
  description: What to do where something could not be read.
  type: list
  elements: str
  returned: always
  sample: []
"""

import base64
import json
import time
import zlib

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.oom.forensics.plugins.module_utils._cgroup_options import STAT
from ansible_collections.oom.forensics.plugins.module_utils._evidence_spec import EVIDENCE_SPEC, evidence_arguments
from ansible_collections.oom.forensics.plugins.module_utils._host import cgroupfs, engines, naming
from ansible_collections.oom.forensics.plugins.module_utils._host.collect import collect_events
from ansible_collections.oom.forensics.plugins.module_utils._host.facts import host_block
from ansible_collections.oom.forensics.plugins.module_utils._host.run import Host
from ansible_collections.oom.forensics.plugins.module_utils._oom.events import iso
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError, utf8

SCHEMA = "oom.forensics/evidence/1"


def document(params, arguments):
    """The evidence of this host (schema C(oom.forensics/evidence/1)) as far as the host knows it, in pieces of JSON."""
    host = Host()
    block = dict(host_block(host), inventory_name=params["inventory_name"])
    if params["cursor_machine_id"] not in (None, block["machine_id"]):
        arguments["cursor"] = None
    collected_at = iso(time.time())
    names = engines.read(host)
    found = collect_events(host, names=names, **arguments)
    coverage = dict(found["coverage"], engines=names.sources, cgroups=None)
    yield b"{"
    if params["cgroups"]:
        yield b'"cgroups":['
        cgroups, coverage["cgroups"] = cgroupfs.read(host, with_stat=STAT, with_pressure=True, name=naming.namer(names))
        for index, cgroup in enumerate(cgroups):
            if index < params["max_cgroups"]:
                yield (b"," if index else b"") + as_json(cgroup)
        coverage["cgroups"]["cgroups_returned"] = min(coverage["cgroups"]["cgroups_returned"], params["max_cgroups"])
        yield b"],"
    else:
        yield b'"cgroups":null,'
    rest = {
        "schema": SCHEMA,
        "status": "ok",
        "error": None,
        "collected_at": collected_at,
        "host": block,
        "cursor_used": arguments["cursor"] is not None,
        "coverage": coverage,
        "events": found["events"],
        "names": [dict(row, key=key, last_seen=collected_at) for key, row in sorted(names.by_id.items())],
    }
    yield as_json(rest)[1:]


def as_json(value):
    return json.dumps(utf8(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def packed(pieces):
    """Pieces of JSON as gzip in base64: a task table shrinks to a tenth on its way through ssh."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    data = [packer.compress(piece) for piece in pieces]
    return base64.b64encode(b"".join(data) + packer.flush()).decode("ascii")


def main():
    module = AnsibleModule(argument_spec=EVIDENCE_SPEC, supports_check_mode=True)
    try:
        arguments = evidence_arguments(module.params)
    except OptionError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, document=packed(document(module.params, arguments)))


if __name__ == "__main__":
    main()
