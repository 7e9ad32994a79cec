#!/usr/bin/python
# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
---
module: memory_policy
short_description: Set memory limits of containers and units by rules, and take them back
version_added: 0.1.0
author:
  - oom.forensics contributors (@oom-forensics)
description:
  - Takes an ordered list of rules, says for every running workload of the host what they would change, and why, and
    what speaks against it. Changes it through whoever keeps the setting, which is Docker, Podman or systemd, and reads
    the kernel's files to see that it holds. Never writes to a cgroup behind somebody's back.
  - Containers keep their id and their processes.
  - Plans by default. O(state=applied) writes down on the host what a workload had before it changes it, so that
    O(state=rolled_back) can give it back, also after a run that was cut off.
  - Refuses a change that is likely to kill something, unless O(force) names the risk.
  - Says of each setting whether the change outlives a restart of the workload, of its engine and of the host.
options:
  state:
    description:
      - V(planned) changes nothing and says what would be changed.
      - V(applied) makes the changes. A second run changes nothing.
      - V(verified) watches what the last run has changed for O(window) seconds, and fails if a process of it is killed
        for want of memory, waits for memory longer than O(max_pressure), or hangs at a limit in cgroups v1 where the
        OOM killer is off, as with C(docker run --oom-kill-disable). Kills count from the start of the run.
      - V(rolled_back) gives what a run has changed back what it had. What was rolled back already is not done again.
        Refused as a whole where a former limit is below what is in use now, unless O(force) has V(below_usage).
    type: str
    choices: [planned, applied, verified, rolled_back]
    default: planned
  reserve:
    description: Memory of the host that all limits together must leave free, as a size or a share of the host's memory.
    type: raw
    default: 10%
  force:
    description:
      - Risks to take.
      - V(below_usage), a limit below what is in use and cannot be taken back, in memory or in memory and swap together.
        V(below_peak), a new or lower limit below the peak. V(limits_exceed_memory), limits that add up to more than the
        memory less O(reserve).
      - V(oom_group_on_infrastructure), a kill would take the process that holds a pod together.
        V(critical_unprotected), a tighter limit for a daemon that the host cannot do without and that nothing protects.
        V(high_above_max), a memory_high that never acts. V(exempt_included), a drop-in for all units of a prefix would
        change a unit that a rule protects.
      - A drop-in for all units of a prefix has the risks of those that run now.
    type: list
    elements: str
    choices:
      [below_usage, below_peak, oom_group_on_infrastructure, critical_unprotected, high_above_max, exempt_included,
        limits_exceed_memory]
    default: []
  refused:
    description:
      - What happens where a change is refused. With V(fail) nothing at all is changed and the task fails, with V(skip)
        the other changes are made.
    type: str
    choices: [fail, skip]
    default: fail
  unsupported:
    description:
      - What happens where one of several settings cannot be set, such as O(rules[].memory_high) in cgroups v1. With
        V(fail) the change of the workload is refused, with V(skip) it is made without that setting.
    type: str
    choices: [fail, skip]
    default: fail
  lasting:
    description:
      - Whether changes of systemd units go to drop-ins below C(/etc/systemd/system), and last. Otherwise they last
        until the next start of the host.
    type: bool
    default: true
  run:
    description:
      - The recorded run that O(state=verified) and O(state=rolled_back) are about. By default the last one.
    type: str
  newer_than:
    description:
      - With O(state=rolled_back), roll the last run back only if it is another one than this, which was the last one
        before (RV(last_run)). Empty where there was none. So nothing older is undone after a task that died before it
        could say which run it had begun. A run that still goes on is waited for, also somebody else's.
    type: str
  window:
    description: Seconds that O(state=verified) watches, from 0 to 86400.
    type: int
    default: 60
  max_pressure:
    description:
      - The part of ten seconds, in percent, that some process of a workload may wait for memory.
      - In cgroups v1 the kernel measures this for the host as a whole only. V(100) is no bound.
    type: float
    default: 60.0
  state_path:
    description:
      - Directory on the host for what was changed and what was there before. The last 20 runs that changed something
        are kept, and of older ones what they have set, 5000 settings at most. It belongs to root alone.
    type: path
    default: /var/lib/oom-forensics/memory_policy
  lock_timeout:
    description: Seconds to wait for another run on the same host.
    type: int
    default: 60
  max_result_bytes:
    description:
      - Keep the JSON of the result within this size. Unchanged workloads are left out first.
    type: int
    default: 262144
extends_documentation_fragment:
  - oom.forensics._policy
  - oom.forensics._attributes
  - oom.forensics._attributes.platform
attributes:
  check_mode:
    support: full
    details:
      - O(state=verified) watches in check mode too, and needs a run that was recorded.
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - Needs root, so C(become) for most.
  - Names in the result were chosen by whatever ran on the host. Never use them as templates.
seealso:
  - module: oom.forensics.cgroup_memory_info
    description: What limits, usage and peaks are now.
  - module: oom.forensics.oom_events_info
    description: What was killed at these limits.
"""

EXAMPLES = r"""
- name: Say what a policy would change
  oom.forensics.memory_policy:
    rules: &rules
      - name: infrastructure
        match: {name: "keepalived*"}
        exempt: true
      - name: web
        match: {engine: docker, labels: {tier: "front*"}}
        memory_max: 512M
        memory_swap_max: 0
      - name: database
        match: {unit: postgresql@*.service}
        memory_max: 50%
        memory_high: 90% of memory_max
        oom_policy: continue
    default: &default
      memory_max: peak * 1.5
  become: true
  register: plan

- name: Show it
  ansible.builtin.debug:
    msg: "{{ item.label }} ({{ item.rule }}): {{ item.outcome }}. {{ item.message }}"
  loop: "{{ plan.changes }}"
  loop_control:
    label: "{{ item.identity }}"

- name: Apply it, and go on where a change is refused
  oom.forensics.memory_policy:
    state: applied
    rules: *rules
    default: *default
    refused: skip
  become: true

- name: Take it back if it hurts
  block:
    - name: Watch for five minutes
      oom.forensics.memory_policy:
        state: verified
        window: 300
      become: true
  rescue:
    - name: Give everything back what it had
      oom.forensics.memory_policy:
        state: rolled_back
      become: true

- name: Limit every container that Docker starts from now on, where its cgroup driver is systemd
  oom.forensics.memory_policy:
    state: applied
    rules:
      - name: every container
        match: {unit: docker-.scope}
        memory_high: 25% of host
  become: true
"""

RETURN = r"""
msg:
  description: A summary, or why the task failed.
  returned: always
  type: str
  sample: "Workloads: 12 unchanged, 2 applied, 1 exempt."
run:
  description: The recorded run that was made, watched or rolled back. Null where nothing was changed.
  returned: always
  type: str
  sample: 000017-20261122T215030Z
last_run:
  description:
    - The newest recorded run before this task, with O(state=planned) and O(state=applied). Null where there was none.
  returned: always
  type: str
  sample: 000016-20261121T080000Z
interrupted:
  description:
    - An earlier run that was cut off. Null where there is none. O(state=applied) goes on with it under its name.
  returned: always
  type: dict
  contains:
    run: {description: Its name., type: str, sample: 000017-20261122T215030Z}
    started: {description: When it began., type: str, sample: "2026-11-22T21:50:30.000000Z"}
    done: {description: Changes that it has made., type: int, sample: 3}
    open: {description: Changes that it was about to make., type: int, sample: 1}
changes:
  description:
    - One entry for each workload that a rule is for, or that the run has changed. Always the same keys.
    - Empty with O(state=verified).
  returned: always
  type: list
  elements: dict
  contains:
    label: {description: What people call the workload., type: str, sample: docker web-1}
    manager: {description: "Who keeps its settings, V(docker), V(podman), V(systemd) or V(none).",
      type: str, sample: docker}
    identity: {description: "The container's whole id, or the unit's name.", type: str, sample: 4f1c2a}
    kind: {description: "What it is, as in M(oom.forensics.cgroup_memory_info).", type: str, sample: container}
    engine: {description: The engine of a container., type: str, sample: docker}
    name: {description: The name of a container., type: str, sample: web-1}
    unit: {description: "The systemd unit that it is, if it is one.", type: str, sample: docker-4f1c2a.scope}
    path: {description: "Its cgroup. Null for a drop-in for units to come.",
      type: str, sample: /system.slice/docker-4f1c2a.scope}
    rule: {description: "The rule that is for it, V(default) for the option of this name.", type: str, sample: web}
    outcome:
      description:
        - V(unchanged), V(planned), V(applied), which is to say that the kernel has it, V(pending), the workload has it
          after its next start, V(refused), V(exempt), V(vanished), it has ended, V(failed), V(rolled_back).
      type: str
      sample: applied
    message: {description: "What is or would be changed, or why not.",
      type: str, sample: "Rule web: memory_max from no limit to 512 MiB."}
    risks:
      description: What speaks against the change.
      type: list
      elements: dict
      contains:
        name: {description: As in O(force)., type: str, sample: below_peak}
        message: {description: The risk with its numbers.,
          type: str, sample: memory_max of 64 MiB is below its peak of 80 MiB.}
        forced: {description: Whether it was taken., type: bool, sample: false}
    left_out: {description: "Settings that cannot be set, and why.", type: list, elements: str, sample: []}
    steps:
      description: One entry for each setting of the rule.
      type: list
      elements: dict
      contains:
        setting: {description: Its name., type: str, sample: memory_max}
        declared: {description: What the last run had set it to., type: raw, sample: 536870912}
        stored: {description: What the manager had. Null for no limit or not known., type: raw, sample: null}
        effective: {description: What the kernel had. Null as above., type: raw, sample: null}
        wanted: {description: What the rule says. Null for no limit. Bytes for sizes., type: raw, sample: 536870912}
        expression: {description: As it is written in the rule., type: str, sample: 512M}
        changes: {description: Whether there was something to do., type: bool, sample: true}
        drifted: {description: Whether somebody has undone what the last run had set., type: bool, sample: false}
        live: {description: "Whether the running workload has it at once.", type: bool, sample: true}
        how: {description: How it is done., type: str, sample: "`docker update`"}
        survives:
          description: Whether the change outlives this. Null where there is no such thing, or it is not known.
          type: dict
          contains:
            workload_restart: {description: A restart of the workload., type: bool, sample: true}
            engine_restart: {description: A restart of its engine., type: bool, sample: true}
            host_restart: {description: A restart of the host., type: bool, sample: true}
counts:
  description: How many changes have each outcome, and how many workloads no rule is for (C(unmatched)).
  returned: always
  type: dict
  sample: {unchanged: 12, planned: 0, applied: 2, pending: 0, refused: 0, exempt: 1, vanished: 0, failed: 0,
    rolled_back: 0, unmatched: 4}
idle_rules:
  description: Rules that are for no workload of this host.
  returned: always
  type: list
  elements: str
  sample: [database]
managers:
  description: One entry for each manager that was asked. Empty with O(state=verified) and O(state=rolled_back).
  returned: always
  type: list
  elements: dict
  contains:
    manager: {description: Its name., type: str, sample: docker}
    available: {description: Whether it gave an answer., type: bool, sample: true}
    workloads: {description: How many workloads it keeps., type: int, sample: 3}
    error: {description: Why it gave none., type: str, sample: null}
    advice: {description: What to do., type: str, sample: null}
limits:
  description: What the topmost limits of the host add up to. Null with O(state=verified) and O(state=rolled_back).
  returned: always
  type: dict
  contains:
    before_bytes: {description: Before the run., type: int, sample: 1073741824}
    after_bytes: {description: After all of the plan., type: int, sample: 1610612736}
    memory_total_bytes: {description: The memory of the host., type: int, sample: 4108603392}
    reserve_bytes: {description: O(reserve) in bytes., type: int, sample: 410860339}
kills:
  description: Kills since the run began. Null without O(state=verified), and where the kernel does not count.
  returned: always
  type: dict
  contains:
    counted: {description: What the kernel counted on the host., type: int, sample: 0}
    in_changed: {description: Of them in workloads that the run has changed., type: int, sample: 0}
    elsewhere: {description: Of them elsewhere., type: int, sample: 0}
    unattributed: {description: Of them those of which no log says where they were., type: int, sample: 0}
pressure:
  description: The highest pressure that was seen with O(state=verified).
  returned: always
  type: dict
  contains:
    source: {description: "V(cgroup), or V(host) in cgroups v1. Null where nobody measures it.",
      type: str, sample: cgroup}
    highest: {description: "C(label path percent) of the workloads with the most, at most 20.",
      type: list, elements: dict}
violations:
  description: What hurts, with O(state=verified).
  returned: always
  type: list
  elements: dict
  contains:
    manager: {description: As in RV(changes). Null for the host as a whole., type: str, sample: docker}
    identity: {description: As above., type: str, sample: 4f1c2a}
    label: {description: As above., type: str, sample: docker web-1}
    path: {description: As above., type: str, sample: /system.slice/docker-4f1c2a.scope}
    kind: {description: "V(kill), V(pressure) or V(hang).", type: str, sample: kill}
    message: {description: A sentence., type: str,
      sample: 1 process of docker web-1 was killed for want of memory since the run began.}
ended: {description: Labels of workloads that have ended since the run.,
  returned: always, type: list, elements: str, sample: []}
seconds: {description: How long O(state=verified) has watched., returned: always, type: float, sample: 60.0}
truncated:
  description: Whether entries of RV(changes) were left out to keep the result within O(max_result_bytes).
  returned: always
  type: bool
  sample: false
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.oom.forensics.plugins.module_utils._host import policy, policy_rollback, run
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_record import RecordError
from ansible_collections.oom.forensics.plugins.module_utils._host.policy_work import Answer, PolicyFailure
from ansible_collections.oom.forensics.plugins.module_utils._options import OptionError
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import PolicyError
from ansible_collections.oom.forensics.plugins.module_utils._policy_result import shape
from ansible_collections.oom.forensics.plugins.module_utils._policy_spec import POLICY_SPEC, request


def act(host, params, check_mode):
    """Do what the options say. Raises what main turns into a failure."""
    asked = request(params, check_mode)
    if params["state"] == "planned":
        return policy.planned(host, asked)
    if params["state"] == "applied":
        return policy.applied(host, asked)
    if params["state"] == "verified":
        return policy.verified(host, asked.store, params["run"], params["window"], params["max_pressure"])
    wanted = policy_rollback.Wanted(params["run"], params["newer_than"], asked.force)
    return policy_rollback.rolled_back(host, asked.store, wanted, asked.lock_timeout, asked.check)


def main():
    module = AnsibleModule(
        argument_spec=POLICY_SPEC, mutually_exclusive=[("run", "newer_than")], supports_check_mode=True
    )
    params = module.params
    try:
        answer = act(run.Host(), params, module.check_mode)
    except (OptionError, PolicyError, PolicyFailure, RecordError) as error:
        answer = Answer([], changed=False, failure=str(error))
    result = shape(answer, params["state"], module._diff, params["max_result_bytes"])
    if answer.failure:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
