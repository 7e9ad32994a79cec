# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The rules of C(module_utils/_policy_spec.py:POLICY_SPEC). Private to this collection."""

    DOCUMENTATION = r"""
options:
  rules:
    description:
      - The rules. The first one that matches a workload is for it.
      - They need not be given with O(state=verified) and O(state=rolled_back).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: A name of its own, which is shown as the reason of a change.
        type: str
        required: true
      match:
        description:
          - The workloads that the rule is for. All conditions that are given have to hold. Shell patterns; case counts.
          - Slices, sessions, pods and scopes that are no container are matched only by rules with O(rules[].match.unit)
            or O(rules[].match.cgroup).
        type: dict
        required: true
        suboptions:
          engine:
            description: V(docker), V(podman), V(containerd), V(cri-o), V(lxc), V(nspawn) and so on.
            type: str
          name:
            description: Name of the container or pod.
            type: str
          image:
            description:
              - The image, as the container was started with.
              - A pattern without a slash is compared with what stands behind the last slash of the image's name.
            type: str
          labels:
            description: Labels, each with a pattern for its value.
            type: dict
          compose_project:
            description: The project of Docker Compose or Podman Compose.
            type: str
          unit:
            description:
              - Name of the systemd unit that the workload is.
              - A prefix such as V(docker-.scope), which ends in C(-.) and the type and is the only condition, means a
                drop-in of systemd for all units with this prefix, also those to come.
            type: str
          slice:
            description: Name of the slice that the workload is in.
            type: str
          user:
            description: Uid or name of the user whose workload it is. V(0) is the host's own.
            type: raw
          cgroup:
            description: Path of the cgroup, as the kernel logs it.
            type: str
      exempt:
        description: Whether what the rule matches is left alone. Such a rule sets nothing.
        type: bool
        default: false
      memory_max: &memory_max
        description:
          - The most memory that the workload may use. Above it processes are killed.
          - Bytes, V(512M) (K, M, G and T are powers of 1024), V(25%) or V(25% of host), V(peak * 1.3), or V(max) for
            no limit. The peak is the most that the workload has used since it started.
          - A limit that was made from the peak stays as it is while half of its room above the peak is left, and after
            a restart of the workload.
        type: raw
      memory_high: &memory_high
        description:
          - Where the kernel begins to slow the workload down and takes memory back (cgroups v2).
          - A size as O(rules[].memory_max), or V(90%), which is V(90% of memory_max).
        type: raw
      memory_low: &memory_low
        description:
          - Memory that the kernel takes back last. V(0) for none. In cgroups v1 it is the soft limit.
          - Sizes as in O(rules[].memory_high). V(max) is all of it.
        type: raw
      memory_min: &memory_min
        description: Memory that the kernel never takes back (cgroups v2). Sizes as in O(rules[].memory_low).
        type: raw
      memory_swap_max: &memory_swap_max
        description:
          - The most swap that the workload may use, without the memory. V(0) for none.
          - Sizes as in O(rules[].memory_high).
        type: raw
      oom_group: &oom_group
        description: Whether a kill takes all processes of the workload (cgroups v2).
        type: bool
      oom_policy: &oom_policy
        description: What systemd does with a unit of which a process was killed.
        type: str
        choices: [continue, stop, kill]
      oom_score_adjust: &oom_score_adjust
        description:
          - What is added to the badness of the unit's processes (C(oom_score_adj)), from -1000, never killed, to 1000,
            killed first.
        type: int
  default:
    description:
      - Settings for the containers and services that no rule matches. It is never for slices, sessions, other scopes,
        and daemons that the host cannot do without.
    type: dict
    suboptions:
      memory_max: *memory_max
      memory_high: *memory_high
      memory_low: *memory_low
      memory_min: *memory_min
      memory_swap_max: *memory_swap_max
      oom_group: *oom_group
      oom_policy: *oom_policy
      oom_score_adjust: *oom_score_adjust
"""
