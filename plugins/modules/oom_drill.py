#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: oom_drill
short_description: Make one safe, real OOM kill and see whether the logs show it
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Starts a process in a cgroup of its own with a small memory limit, and lets it allocate until the kernel kills it.
  - Then looks for the kill in every log source of the host, as M(oom.forensics.oom_events_info) reads them, and says
    after how many milliseconds each source showed it.
  - So it proves that the kernel kills, that the host logs kills, and that this collection reads them.
  - Where systemd is PID 1 the cgroup is a transient scope made by C(systemd-run), elsewhere a child of the memory
    hierarchy, version 1 or 2.
  - The process is called C(oom-drill) and has an oom_score_adj of 1000. It does not start to allocate before the
    kernel's own file says that the limit holds. It leaves by itself at four times its limit, when its time is over, and
    when the module is gone.
  - The cgroup and the process are removed whatever happens, also when the module is interrupted.
extends_documentation_fragment:
  - oom.forensics._attributes
  - oom.forensics._attributes.platform
attributes:
  check_mode:
    support: none
    details:
      - A drill without a kill proves nothing. The task is skipped in check mode.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run makes a kill of its own.
options:
  limit:
    description:
      - The memory limit of the process, in bytes or as V(16M), from 16 MiB to 64 MiB.
    type: str
    default: 16M
  timeout:
    description:
      - Seconds that the process has to reach its limit, from 1 to 120.
    type: int
    default: 30
  sources:
    description:
      - Where to look for the kill. V(auto) looks everywhere.
    type: list
    elements: str
    choices: [auto, journal, kmsg, files]
    default: [auto]
notes:
  - Needs root.
  - Refuses, before anything is touched, where less than 512 MiB are available, where C(vm.panic_on_oom) is 2, where
    the OOM killer is disabled for the parent cgroup, and where no cgroup with a limit can be made.
  - The kill is counted and logged as every other one. Monitoring that watches for OOM kills will see it.
seealso:
  - module: oom.forensics.oom_events_info
"""

EXAMPLES = r"""
- name: Make a kill and see who logs it
  oom.forensics.oom_drill:
  become: true
  register: drill

- name: Fail where the kernel kills without a trace
  ansible.builtin.assert:
    that: drill.found | selectattr('found') | length > 0
    fail_msg: "{{ inventory_hostname }} loses its OOM kills"

- name: Does the journal have it, whatever the ring buffer says
  oom.forensics.oom_drill:
    limit: 32M
    sources: [journal]
  become: true
"""

RETURN = r"""
msg:
  description: One line about the drill.
  returned: always
  type: str
  sample: pid 4711 in /oom-forensics-drill-5f0c9a1e with a limit of 16777216 bytes was killed; found in kmsg after 21 ms
pid:
  description: The process that was to be killed.
  returned: success
  type: int
  sample: 4711
cgroup:
  description: Its memory cgroup, as the kernel logs it. It does not exist any more.
  returned: success
  type: str
  sample: /system.slice/oom-forensics-drill-5f0c9a1e.scope
limit_bytes:
  description: The memory limit of the cgroup.
  returned: success
  type: int
  sample: 16777216
killed:
  description:
    - Whether the kernel's OOM killer ended the process, which then died of SIGKILL while the kernel counted a kill.
  returned: success
  type: bool
  sample: true
signal:
  description: The signal that ended the process, null if it left by itself.
  returned: success
  type: int
  sample: 9
exit_status:
  description:
    - The exit status of the process, null if a signal ended it. V(3) means that it reached four times its limit, V(4)
      that its time was over.
  returned: success
  type: int
  sample: null
timed_out:
  description: Whether the module had to end the process.
  returned: success
  type: bool
  sample: false
seconds:
  description: How long the process allocated.
  returned: success
  type: float
  sample: 0.094213
counters_before:
  description: The kernel's counters before the process allocated.
  returned: success
  type: dict
  contains: &counters
    kernel_counter:
      description: C(oom_kill) of C(/proc/vmstat), every OOM kill of the host since it booted. Null before Linux 4.13.
      type: int
      sample: 11
    oom_kill:
      description:
        - C(oom_kill) of the cgroup's C(memory.oom_control) or C(memory.events). Null where systemd removed the cgroup
          together with its last process, and where the kernel does not count.
      type: int
      sample: 1
    failcnt:
      description: How often the cgroup hit its limit, C(memory.failcnt) or C(max) of C(memory.events). Null as above.
      type: int
      sample: 27
counters_after:
  description: The same counters after the process ended.
  returned: success
  type: dict
  contains: *counters
found:
  description: What each log source showed. Each was polled until it showed the kill or five seconds passed.
  returned: success
  type: list
  elements: dict
  contains:
    source:
      description: The log source.
      type: str
      sample: kmsg
    path:
      description: The file or device where the kill was read, null if the source has no path.
      type: str
      sample: /dev/kmsg
    found:
      description: Whether the kill of this very process was there.
      type: bool
      sample: true
    milliseconds:
      description: How long after the end of the process it was there, the time of reading included.
      type: int
      sample: 21
    event_id:
      description: The id of the event, the same in every source.
      type: str
      sample: 0f3a1c5e7b9d2f40
    error:
      description: Why the source could not be read, null if it could.
      type: str
      sample: null
event:
  description:
    - The kill as parsed, one event of all sources together, with the five largest rows of its task table. Null if it
      was not seen.
  returned: success
  type: dict
cleaned_up:
  description: Whether nothing of the drill is left, neither its process nor its cgroup.
  returned: success
  type: bool
  sample: true
"""

import functools

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.formatters import human_to_bytes
from ansible_collections.oom.forensics.plugins.module_utils._host import collect, drill, drill_plan, drill_search, run
from ansible_collections.oom.forensics.plugins.module_utils._options import SOURCES, utf8

RETURNED = (
    "pid",
    "cgroup",
    "killed",
    "signal",
    "exit_status",
    "timed_out",
    "seconds",
    "counters_before",
    "counters_after",
    "cleaned_up",
)


def limit_bytes(text):
    """The option limit in bytes; DrillError where it is no size."""
    try:
        return human_to_bytes(text)
    except ValueError:
        raise drill_plan.DrillError(
            "limit: {0!r} is not a size; write bytes or a size such as 16M.".format(text)
        ) from None


def run_drill(host, params):
    """Plan, kill, search. Returns the module's result."""
    limit = limit_bytes(params["limit"])
    plan = drill_plan.plan(host, limit, params["timeout"])
    outcome = drill.kill(plan)
    result = {key: outcome[key] for key in RETURNED}
    result.update(limit_bytes=limit, found=[], event=None)
    if result["killed"]:
        look = functools.partial(collect.collect_events, host)
        result.update(drill_search.search(look, result["pid"], outcome["ended"], params["sources"]))
    result["msg"] = drill_search.summary(result)
    return result


def main():
    module = AnsibleModule(
        argument_spec={
            "limit": {"type": "str", "default": "16M"},
            "timeout": {"type": "int", "default": 30},
            "sources": {
                "type": "list",
                "elements": "str",
                "choices": list(SOURCES),
                "default": ["auto"],
            },
        },
        supports_check_mode=False,
    )
    try:
        result = run_drill(run.Host(), module.params)
    except drill_plan.DrillError as error:
        module.fail_json(msg=str(error))
    if not result["cleaned_up"]:
        module.warn("The cgroup {0} of the drill could not be removed; remove it with rmdir.".format(result["cgroup"]))
    module.exit_json(changed=True, **utf8(result))


if __name__ == "__main__":
    main()
