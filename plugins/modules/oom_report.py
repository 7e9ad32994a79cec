#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
---
module: oom_report
short_description: Show the OOM evidence that was collected
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Reads the newest evidence of each host from the spool, one host at a time, prints one table, and writes one JSON
    document.
  - The table has a row per kill, the newest last, then a row per host without kills with the proof, then a row per host
    that could not be reached or read with what to do.
  - This is an action plugin. It runs on the controller and never connects, so that it reports unreachable hosts as
    well.
    Run it once per play.
  - Names of processes are shown with control characters spelled out, because a process may be called anything.
options:
  spool:
    description:
      - Directory on the controller that M(oom.forensics.oom_evidence) wrote to.
      - A relative path begins where C(ansible-playbook) was started.
    type: path
    default: oom-evidence/spool
  hosts:
    description:
      - Hosts to report, by their names in the inventory. Without it, every host in the spool.
    type: list
    elements: str
  events_path:
    description:
      - The JSON document to write, of the schema V(oom.forensics/events/1). By default C(events.json) beside the spool.
      - It is replaced atomically. A file of that name that is no such document is left alone, and the task fails.
    type: path
  max_rows:
    description:
      - Print at most this many kills, the newest ones, and as many hosts without kills. The rest is counted.
    type: int
    default: 50
extends_documentation_fragment:
  - oom.forensics._attributes
  - oom.forensics._attributes.controller
attributes:
  check_mode:
    support: full
    details:
      - Prints the table, but writes nothing.
  diff_mode:
    support: N/A
    details:
      - No host is changed.
  idempotent:
    support: full
    details:
      - No host is changed.
seealso:
  - module: oom.forensics.oom_evidence
    description: Fills the spool.
"""

EXAMPLES = r"""
- name: Show what was collected
  oom.forensics.oom_report:
    spool: /var/lib/oom/spool
    hosts: "{{ ansible_play_hosts_all }}"
  run_once: true

- name: Write the events of every host that the spool knows
  oom.forensics.oom_report:
    spool: /var/lib/oom/spool
    events_path: /srv/reports/events.json
    max_rows: 10
  run_once: true
"""

RETURN = r"""
events_path:
  description: The JSON document. Null in check mode.
  type: str
  returned: success
  sample: /var/lib/oom/events.json
spool:
  description: Where the evidence lies.
  type: str
  returned: success
  sample: /var/lib/oom/spool
hosts_total:
  description: Hosts in the report.
  type: int
  returned: success
  sample: 120
hosts_without_kills:
  description: Hosts that were read and have no kill.
  type: int
  returned: success
  sample: 117
hosts_unread:
  description: Hosts that were unreachable, failed, or have no readable evidence.
  type: int
  returned: success
  sample: 1
events_total:
  description: Kills in the report.
  type: int
  returned: success
  sample: 5
"""
