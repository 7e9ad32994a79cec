# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: what would be done to which target and why, what is refused, and what is said of it."""

import os
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._policy import model, plan, risks, rules

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import policy_targets as make  # noqa: E402

MIB, GIB = make.MIB, make.GIB
HOST = plan.HostFacts(memory_total=16 * GIB, page_size=4096, reserve=GIB)
TIME = "2026-11-22T21:50:30Z"


def planned(settings, *targets, **options):
    """The plan of one rule for everything."""
    policy = rules.check([dict({"name": "web", "match": {"cgroup": "*"}}, **settings)], None)
    return plan.plan(policy, list(targets), options.pop("host", HOST), **options)


def change(settings, target, **options):
    return planned(settings, target, **options).changes[0]


def step(settings, target, **options):
    (found,) = change(settings, target, **options).steps
    return found


def risky(settings, target, **options):
    """The names of the risks; the change is refused because of them, and not where each of them is forced."""
    found = change(settings, target, **options)
    assert found.outcome == ("refused" if found.risks else "planned")
    names = [risk.name for risk in found.risks]
    forced = change(settings, target, force=frozenset(names), **options)
    assert forced.outcome == "planned"
    assert [(risk.name, risk.forced) for risk in forced.risks] == [(name, True) for name in names]
    return names


# --- one setting


def test_a_change_says_everything():
    target = make.container(stored={"memory_max": None}, effective={"memory_max": None})
    found = change({"memory_max": "512M"}, target)
    assert (found.target, found.rule, found.outcome, found.risks, found.left_out) == (target, "web", "planned", (), ())
    (one,) = found.steps
    assert one == (
        "memory_max",
        None,
        False,
        None,
        None,
        512 * MIB,
        "512M",
        True,
        False,
        make.LIVE,
    )
    assert found.message == "Rule web: memory_max from no limit to 512 MiB."


@pytest.mark.parametrize(
    "ability, stored, effective, changes, outcome",
    [
        (make.LIVE, MIB, MIB, False, "unchanged"),
        (make.LIVE, 2 * MIB, MIB, True, "planned"),
        (make.LIVE, MIB, 2 * MIB, True, "planned"),
        (make.LIVE, "unknown", MIB, False, "unchanged"),
        (make.LIVE, MIB, "unknown", False, "unchanged"),
        (make.LIVE, "unknown", 2 * MIB, True, "planned"),
        (make.LIVE, "unknown", "unknown", True, "planned"),
        (make.LIVE, None, MIB, True, "planned"),
        (make.LATER, MIB, MIB, False, "unchanged"),
        (make.LATER, MIB, 2 * MIB, False, "pending"),
        (make.LATER, 2 * MIB, MIB, True, "planned"),
        (make.LATER, MIB, "unknown", False, "unchanged"),
        (make.LATER, "unknown", MIB, False, "unchanged"),
        (make.LATER, "unknown", 2 * MIB, True, "planned"),
        (make.LATER, "unknown", "unknown", True, "planned"),
        # What a manager goes on telling of a container that it made otherwise.
        (make.NOT_KEPT, 2 * MIB, MIB, False, "unchanged"),
        (make.NOT_KEPT, MIB, 2 * MIB, True, "planned"),
        (make.NOT_KEPT, MIB, "unknown", False, "unchanged"),
        # What cannot be changed does not matter where there is nothing to change.
        (make.refusing("no"), MIB, MIB, False, "unchanged"),
        (make.refusing("no"), MIB, 2 * MIB, True, "refused"),
        (make.refusing("no"), 2 * MIB, MIB, True, "refused"),
        (make.refusing("no"), "unknown", "unknown", True, "refused"),
    ],
)
def test_what_has_to_be_done(ability, stored, effective, changes, outcome):
    known = {"stored": stored, "effective": effective}
    facts = {place: {"memory_swap_max": value} for place, value in known.items() if value != "unknown"}
    target = make.container(engine="systemd", abilities={"memory_swap_max": ability}, **facts)
    found = change({"memory_swap_max": "1M"}, target)
    assert (found.steps[0].changes, found.outcome) == (changes, outcome)


def test_sizes_are_the_same_where_they_are_in_pages():
    stored = {"memory_max": 1000000, "memory_low": 0}
    target = make.container(stored=stored, effective={"memory_max": 999424})
    assert change({"memory_max": 1000000}, target).outcome == "unchanged"
    assert change({"memory_max": 999424}, target).outcome == "unchanged"
    assert change({"memory_max": 1003520}, target).outcome == "planned"


def test_settings_come_in_one_order():
    settings = {"oom_score_adjust": 5, "memory_low": "1M", "memory_max": "1G", "oom_group": True, "memory_high": "1G"}
    order = ["memory_max", "memory_high", "memory_low", "oom_group", "oom_score_adjust"]
    assert [each.setting for each in change(settings, make.container()).steps] == order


@pytest.mark.parametrize(
    "setting, effective, wanted, said",
    [
        ("memory_max", 100 * MIB, "max", "memory_max from 100 MiB to no limit"),
        ("memory_max", 104853504, "100M", "memory_max from 104853504 bytes to 104857600 bytes"),
        ("memory_min", 0, "max", "memory_min from 0 to all of it"),
        ("oom_group", False, True, "oom_group from off to on"),
        ("oom_policy", "stop", "continue", "oom_policy from stop to continue"),
        ("oom_score_adjust", 0, -500, "oom_score_adjust from 0 to -500"),
    ],
)
def test_the_message_says_from_what_to_what(setting, effective, wanted, said):
    target = make.service(effective={setting: effective})
    assert change({setting: wanted}, target).message == "Rule web: {0}.".format(said)


def test_the_message_of_what_is_not_known_and_comes_later():
    target = make.service(effective={"oom_policy": "stop"}, abilities={"oom_policy": make.LATER})
    found = change({"oom_policy": "kill", "memory_max": "1M"}, target)
    assert found.message == (
        "Rule web: memory_max from an unknown value to 1 MiB, oom_policy from stop to kill with its next start."
    )


def test_the_message_where_only_the_manager_has_another_value():
    target = make.service(effective={"memory_max": MIB}, stored={"memory_max": None})
    assert change({"memory_max": "1M"}, target).message == "Rule web: memory_max from no limit to 1 MiB, as stored."


def test_the_message_of_the_default():
    policy = rules.check(None, {"memory_max": "1M"})
    found = plan.plan(policy, [make.container(effective={"memory_max": MIB})], HOST).changes[0]
    assert (found.rule, found.message) == ("default", "The default: everything is as wanted.")


def test_the_message_of_what_waits_for_a_start():
    target = make.service(
        stored={"oom_policy": "kill"}, effective={"oom_policy": "stop"}, abilities={"oom_policy": make.LATER}
    )
    found = change({"oom_policy": "kill"}, target)
    assert (
        found.message == "Rule web: oom_policy kill is stored, and holds from its next start on; until then it is stop."
    )


# --- sizes


def test_shares_are_of_what_the_same_rule_sets():
    found = change({"memory_max": "25%", "memory_high": "90%"}, make.container(effective={"memory_max": MIB}))
    assert [each.wanted for each in found.steps] == [4 * GIB, 3865468928]


@pytest.mark.parametrize(
    "facts, wanted",
    [
        ({"effective": {"memory_max": 8 * MIB}, "stored": {"memory_max": 4 * MIB}}, 4 * MIB),
        ({"stored": {"memory_max": 4 * MIB}}, 2 * MIB),
    ],
)
def test_shares_are_else_of_what_the_target_has(facts, wanted):
    assert step({"memory_high": "50%"}, make.container(**facts)).wanted == wanted


def test_shares_of_a_memory_max_that_cannot_be_set_are_of_what_the_target_has():
    target = make.container(effective={"memory_max": 8 * MIB}, abilities={"memory_max": make.refusing("No.")})
    found = change({"memory_max": "1G", "memory_high": "50%"}, target, unsupported="skip")
    assert [(each.setting, each.wanted) for each in found.steps] == [("memory_high", 4 * MIB)]


def test_the_peak():
    assert step({"memory_max": "peak * 2"}, make.container(usage=make.usage(peak=4 * MIB))).wanted == 8 * MIB


def test_a_size_that_cannot_be_told_refuses_the_change():
    found = change({"memory_max": "peak * 2", "memory_min": "1M"}, make.container())
    assert (found.outcome, found.left_out) == ("refused", ())
    assert [each.setting for each in found.steps] == ["memory_min"]
    assert found.message == (
        "Rule web: memory_min from an unknown value to 1 MiB. Refused, and nothing of it is done. memory_max: "
        "peak * 2 needs the peak, which the kernel does not tell here (with cgroup v2 it does since 5.19); "
        "write bytes or a share."
    )


# --- what cannot be set

TARGET = make.container(abilities={"oom_score_adjust": make.refusing("Docker takes it at creation only; recreate it")})
SETTINGS = {"memory_max": "1G", "oom_score_adjust": 5}


def test_what_cannot_be_set_refuses_the_whole_change():
    found = change(SETTINGS, TARGET)
    assert (found.outcome, found.left_out, len(found.steps)) == ("refused", (), 2)
    assert found.message.endswith(
        "Refused, and nothing of it is done. oom_score_adjust: Docker takes it at creation only; recreate it."
    )


def test_what_cannot_be_set_is_left_out_where_that_is_asked_for():
    found = change(SETTINGS, TARGET, unsupported="skip")
    assert (found.outcome, [each.setting for each in found.steps]) == ("planned", ["memory_max"])
    assert found.left_out == ("oom_score_adjust: Docker takes it at creation only; recreate it.",)
    assert found.message == (
        "Rule web: memory_max from an unknown value to 1 GiB. "
        "Left out: oom_score_adjust: Docker takes it at creation only; recreate it."
    )


def test_one_reason_for_several_settings_is_told_once():
    target = make.container(engine="none", abilities=dict.fromkeys(SETTINGS, make.refusing("Change the manifest.")))
    assert change(SETTINGS, target).message.endswith(" memory_max and oom_score_adjust: Change the manifest.")
    left_out = change(SETTINGS, target, unsupported="skip").left_out
    assert left_out == ("memory_max and oom_score_adjust: Change the manifest.",)


def test_nothing_is_left_to_do_where_all_is_left_out():
    found = change({"oom_score_adjust": 5}, TARGET, unsupported="skip")
    assert (found.outcome, found.steps) == ("unchanged", ())
    assert found.message.startswith("Rule web: there is nothing else to do. Left out: oom_score_adjust: Docker")


@pytest.mark.parametrize("manager", ["docker", "podman"])
@pytest.mark.parametrize(
    "settings, stored, refused, said",
    [
        ({"memory_low": "2M"}, {"memory_max": MIB}, True, "takes no memory_low above memory_max"),
        ({"memory_low": "max"}, {"memory_max": MIB}, True, "takes no memory_low above memory_max"),
        ({"memory_low": "2M"}, {"memory_max": None}, False, ""),
        ({"memory_low": "1M"}, {"memory_max": MIB}, False, ""),
        ({"memory_max": "1M"}, {"memory_low": 2 * MIB}, True, "takes no memory_low above memory_max"),
        ({"memory_max": "1M", "memory_low": 0}, {"memory_low": 2 * MIB}, False, ""),
        ({"memory_max": "max"}, {"memory_low": 2 * MIB}, False, ""),
    ],
)
def test_what_an_engine_does_not_take_together(manager, settings, stored, refused, said):
    found = change(settings, make.container(engine=manager, stored=stored))
    assert (found.outcome == "refused") is refused
    assert said in found.message


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("manager", ["docker", "podman"])
@pytest.mark.parametrize(
    "settings, stored, together",
    [
        ({"memory_swap_max": "1M"}, {"memory_max": None}, True),
        ({"memory_swap_max": "1M", "memory_max": "max"}, {"memory_max": MIB}, True),
        ({"memory_swap_max": "1M", "memory_max": "1M"}, {"memory_max": None}, False),
        ({"memory_swap_max": "1M"}, {"memory_max": MIB}, False),
        ({"memory_swap_max": "1M"}, {}, False),
        ({"memory_swap_max": "max"}, {"memory_max": None}, False),
    ],
)
def test_swap_alone_has_no_limit_where_one_number_is_for_both(version, manager, settings, stored, together):
    found = change(settings, make.container(engine=manager, stored=stored, cgroup_version=version))
    refused = together and version == 1
    assert (found.outcome == "refused") is refused
    assert ("has one number for memory and swap together" in found.message) is refused


def test_what_an_engine_was_told_counts_and_not_what_the_kernel_has():
    target = make.container(stored={"memory_max": 4 * MIB}, effective={"memory_max": MIB, "memory_low": 0})
    assert change({"memory_low": "2M"}, target).outcome == "planned"


def test_what_an_engine_would_not_take_now_is_no_matter_of_another_setting():
    target = make.container(stored={"memory_max": MIB, "memory_low": 2 * MIB})
    assert change({"memory_high": "1M"}, target).outcome == "planned"


def test_systemd_takes_each_of_them_alone():
    assert change({"memory_swap_max": "1M"}, make.service(stored={"memory_max": None})).outcome == "planned"
    assert change({"memory_low": "2M"}, make.service(stored={"memory_max": MIB})).outcome == "planned"


def test_the_limit_of_swap_goes_with_that_of_memory_where_one_number_is_for_both():
    facts = {"memory_max": MIB, "memory_swap_max": MIB}
    found = change({"memory_max": "max"}, make.container(stored=facts, effective=facts, cgroup_version=1))
    assert [(each.setting, each.wanted, each.expression) for each in found.steps] == [
        ("memory_max", None, "max"),
        ("memory_swap_max", None, "max, with memory_max"),
    ]
    assert len(change({"memory_max": "max"}, make.container(stored=facts, effective=facts)).steps) == 1
    gone = {"memory_max": None, "memory_swap_max": None}
    unlimited = make.container(stored=gone, effective=gone, cgroup_version=1)
    assert change({"memory_max": "max"}, unlimited).outcome == "unchanged"
    assert len(change({"memory_max": "max"}, make.service(stored=facts, cgroup_version=1)).steps) == 1
    unaccounted = {"memory_swap_max": make.refusing("Swap is not accounted.")}
    cannot = make.container(stored=facts, abilities=unaccounted, cgroup_version=1)
    assert len(change({"memory_max": "max"}, cannot).steps) == 1


@pytest.mark.parametrize(
    "settings, version, refused",
    [
        ({"memory_low": "max"}, 1, True),
        ({"memory_low": "1M"}, 1, True),
        ({"memory_low": "1M", "memory_max": "2M"}, 1, False),
        ({"memory_low": 0}, 1, False),
        ({"memory_max": "1M"}, 1, False),
        ({"memory_low": "max"}, 2, False),
        ({"memory_low": "1M"}, 2, False),
    ],
)
def test_a_soft_limit_is_below_the_limit(settings, version, refused):
    found = change(settings, make.service(cgroup_version=version, stored={"memory_max": MIB}))
    assert (found.outcome == "refused") is refused
    assert ("on cgroup v1 memory_low is a soft limit, which only acts below memory_max" in found.message) is refused


# --- drift


def declared(target, value, setting="memory_max", expression="1M"):
    return {(target.manager, target.identity, setting): model.Declared(value, TIME, expression)}


@pytest.mark.parametrize(
    "stored, effective, value, drifted",
    [
        (2 * MIB, 2 * MIB, MIB, True),
        (MIB, 2 * MIB, MIB, True),
        (2 * MIB, MIB, MIB, True),
        (MIB, MIB, MIB, False),
        (2 * MIB, 2 * MIB, 2 * MIB, False),  # the rule has changed
        (2 * MIB, 2 * MIB, None, False),
    ],
)
def test_drift(stored, effective, value, drifted):
    target = make.container(stored={"memory_max": stored}, effective={"memory_max": effective})
    found = step({"memory_max": "1M"}, target, declared=declared(target, value))
    assert (found.has_declared, found.declared, found.drifted) == (True, value, drifted)


def test_what_waits_for_a_start_has_not_drifted():
    target = make.service(
        stored={"memory_max": MIB}, effective={"memory_max": None}, abilities={"memory_max": make.LATER}
    )
    found = change({"memory_max": "1M"}, target, declared=declared(target, MIB))
    assert (found.outcome, found.steps[0].drifted) == ("pending", False)


@pytest.mark.parametrize(
    "ability, said",
    [
        (make.LIVE, "somebody has since changed it to 2 MiB."),
        (make.NOT_KEPT, "it is 2 MiB now: it was lost with a restart, or somebody has changed it."),
    ],
)
def test_drift_is_told(ability, said):
    target = make.container(effective={"memory_max": 2 * MIB}, abilities={"memory_max": ability})
    found = change({"memory_max": "1M"}, target, declared=declared(target, MIB))
    assert found.message == (
        "Rule web: memory_max from 2 MiB to 1 MiB. memory_max was set to 1 MiB by the run of {0}, and {1}".format(
            TIME, said
        )
    )


# --- a limit from the peak rests


@pytest.mark.parametrize(
    "peak, wanted",
    [
        (1000 * 4096, 1500 * 4096),
        (1200 * 4096, 1500 * 4096),  # a quarter above 1200 is 1500
        (1204 * 4096, 1806 * 4096),
        (2 * 4096, 1500 * 4096),  # it was started again
    ],
)
def test_a_limit_from_the_peak_rests_while_half_of_its_room_is_left(peak, wanted):
    target = make.container(effective={"memory_max": 1500 * 4096}, usage=make.usage(peak=peak))
    found = step({"memory_max": "peak * 1.5"}, target, declared=declared(target, 1500 * 4096, expression="peak * 1.5"))
    assert found.wanted == wanted
    assert found.changes == (wanted != 1500 * 4096)


@pytest.mark.parametrize("expression", ["peak * 1.6", "1500 * 4096"])
def test_a_limit_of_another_rule_is_told_anew(expression):
    target = make.container(effective={"memory_max": 1500 * 4096}, usage=make.usage(peak=1000 * 4096))
    found = step({"memory_max": "peak * 2"}, target, declared=declared(target, 1500 * 4096, expression=expression))
    assert found.wanted == 2000 * 4096


# --- risks of one change


@pytest.mark.parametrize(
    "settings, usage, effective, names",
    [
        ({"memory_max": "64M"}, make.usage(100 * MIB, None, 20 * MIB), {}, ["below_usage"]),
        ({"memory_max": "64M"}, make.usage(100 * MIB, None, 36 * MIB), {}, []),
        ({"memory_max": "64M"}, make.usage(100 * MIB, None, None), {"memory_max": None}, ["below_usage"]),
        ({"memory_max": "64M"}, make.usage(100 * MIB, None, None), {"memory_max": 128 * MIB}, ["below_usage"]),
        ({"memory_max": "64M"}, make.usage(100 * MIB, None, None), {"memory_max": 32 * MIB}, []),
        ({"memory_high": "64M"}, make.usage(100 * MIB, None, None), {}, ["below_usage"]),
        ({"memory_min": "64M"}, make.usage(100 * MIB, 200 * MIB, None), {}, []),
        ({"memory_max": "64M"}, make.usage(), {}, []),
        ({"memory_max": "64M"}, make.usage(MIB, 65 * MIB, None), {}, ["below_peak"]),
        ({"memory_max": "64M"}, make.usage(MIB, 64 * MIB, None), {}, []),
        ({"memory_max": "64M"}, make.usage(MIB, 65 * MIB, None), {"memory_max": 32 * MIB}, []),  # it is raised
        ({"memory_max": "64M"}, make.usage(MIB, 65 * MIB, None), {"memory_max": GIB}, ["below_peak"]),
        ({"memory_high": "64M"}, make.usage(MIB, 65 * MIB, None), {}, []),
        ({"memory_max": "64M"}, make.usage(100 * MIB, 120 * MIB, None), {}, ["below_usage", "below_peak"]),
        ({"memory_high": "64M"}, make.usage(), {"memory_max": 32 * MIB}, ["high_above_max"]),
        ({"memory_max": "64M"}, make.usage(), {"memory_high": 65 * MIB}, ["high_above_max"]),
        ({"memory_max": "64M"}, make.usage(), {"memory_high": 64 * MIB}, []),
        ({"memory_max": "64M", "memory_high": "max"}, make.usage(), {"memory_high": 65 * MIB}, []),
        ({"memory_max": "64M"}, make.usage(), {"memory_high": 65 * MIB, "memory_max": 32 * MIB}, []),
    ],
)
def test_risks_of_usage(settings, usage, effective, names):
    assert risky(settings, make.service(usage=usage, effective=effective)) == names


@pytest.mark.parametrize(
    "settings, effective, names",
    [
        ({"memory_max": "64M"}, {}, ["critical_unprotected"]),
        ({"memory_high": "64M"}, {"memory_high": GIB}, ["critical_unprotected"]),
        ({"memory_max": "64M"}, {"memory_max": MIB}, []),
        ({"memory_max": "64M", "memory_min": "1M"}, {}, []),
        ({"memory_max": "64M", "memory_low": "max"}, {}, []),
        ({"memory_max": "64M"}, {"memory_low": MIB}, []),
        ({"memory_max": "64M"}, {"oom_score_adjust": -500}, []),
        ({"memory_max": "64M"}, {"oom_score_adjust": -499}, ["critical_unprotected"]),
        ({"memory_max": "64M", "memory_low": 0}, {"memory_low": MIB}, ["critical_unprotected"]),
        ({"oom_score_adjust": 0}, {"oom_score_adjust": -1000}, ["critical_unprotected"]),
        ({"oom_score_adjust": 0}, {"oom_score_adjust": -100}, []),
        ({"oom_policy": "continue"}, {}, []),
    ],
)
def test_a_critical_unit_is_not_left_without_protection(settings, effective, names):
    assert risky(settings, make.service("sshd.service", critical=True, effective=effective)) == names
    assert risky(settings, make.service("sshd.service", effective=effective)) == []


def test_protection_that_is_left_out_protects_nothing():
    target = make.service(critical=True, abilities={"memory_min": make.refusing("v1 has none")})
    settings = {"memory_max": "64M", "memory_min": "1M"}
    assert risky(settings, target, unsupported="skip") == ["critical_unprotected"]


@pytest.mark.parametrize(
    "settings, names",
    [
        ({"oom_group": True}, ["oom_group_on_infrastructure"]),
        ({"oom_policy": "kill"}, ["oom_group_on_infrastructure"]),
        ({"oom_group": False}, []),
        ({"memory_max": "1G"}, []),
    ],
)
def test_the_process_of_a_pod_is_not_killed_with_a_group(settings, names):
    assert risky(settings, make.container(engine="podman", infrastructure=True)) == names


@pytest.mark.parametrize(
    "settings, usage, effective, names",
    [
        ({"memory_swap_max": 0}, make.usage(60 * MIB, swap=8 * MIB), {"memory_max": 64 * MIB}, ["below_usage"]),
        ({"memory_swap_max": 0}, make.usage(60 * MIB, swap=4 * MIB), {"memory_max": 64 * MIB}, []),
        ({"memory_swap_max": 0}, make.usage(60 * MIB, None, 4 * MIB, swap=8 * MIB), {"memory_max": 64 * MIB}, []),
        ({"memory_swap_max": 0}, make.usage(60 * MIB, swap=8 * MIB), {"memory_max": None}, []),
        ({"memory_swap_max": 0}, make.usage(60 * MIB), {"memory_max": 64 * MIB}, []),
        ({"memory_max": "64M"}, make.usage(60 * MIB, swap=8 * MIB), {"memory_swap_max": MIB}, ["below_usage"]),
        ({"memory_max": "64M"}, make.usage(60 * MIB, swap=8 * MIB), {"memory_swap_max": None}, []),
        # That the memory alone does not fit is said once.
        ({"memory_max": "32M"}, make.usage(60 * MIB, swap=8 * MIB), {"memory_swap_max": 0}, ["below_usage"]),
    ],
)
def test_what_is_swapped_has_to_fit_too(settings, usage, effective, names):
    assert risky(settings, make.service(usage=usage, effective=effective)) == names


def test_the_message_of_what_is_swapped():
    target = make.service(usage=make.usage(60 * MIB, swap=8 * MIB), effective={"memory_max": 64 * MIB})
    (risk,) = change({"memory_swap_max": 0}, target).risks
    assert risk.message == (
        "memory_max of 64 MiB and memory_swap_max of 0 together are below the 68 MiB that it uses now and the kernel "
        "cannot take back (60 MiB of memory and 8 MiB of swap)."
    )


def test_what_changes_nothing_is_no_risk():
    target = make.container(usage=make.usage(100 * MIB, 100 * MIB), effective={"memory_max": 64 * MIB})
    assert change({"memory_max": "64M"}, target).outcome == "unchanged"
    later = target._replace(abilities=dict.fromkeys(target.abilities, make.LATER), stored={"memory_max": 32 * MIB})
    assert change({"memory_max": "32M"}, later).outcome == "pending"


def test_a_refusal_says_what_to_do():
    target = make.container(effective={"memory_max": None}, usage=make.usage(100 * MIB, 120 * MIB, 20 * MIB))
    assert change({"memory_max": "64M"}, target).message == (
        "Rule web: memory_max from no limit to 64 MiB. Refused, and nothing of it is done. "
        "memory_max of 64 MiB is below the 80 MiB that it uses now and the kernel cannot take back "
        "(100 MiB, of which it can take 20 MiB). memory_max of 64 MiB is below its peak of 120 MiB. "
        "Change the rule, or force below_usage and below_peak."
    )
    assert change({"memory_max": "64M"}, target, force=["below_usage"]).message.endswith(
        "Change the rule, or force below_peak."
    )
    assert change({"memory_max": "64M"}, target, force=["below_usage", "below_peak"]).message == (
        "Rule web: memory_max from no limit to 64 MiB. "
        "Forced: memory_max of 64 MiB is below the 80 MiB that it uses now and the kernel cannot take back "
        "(100 MiB, of which it can take 20 MiB). Forced: memory_max of 64 MiB is below its peak of 120 MiB."
    )


def test_no_force_is_offered_for_what_cannot_be_set():
    target = TARGET._replace(effective={"memory_max": None}, usage=make.usage(peak=2 * GIB))
    assert change(SETTINGS, target).message == (
        "Rule web: memory_max from no limit to 1 GiB, oom_score_adjust from an unknown value to 5. "
        "Refused, and nothing of it is done. oom_score_adjust: Docker takes it at creation only; recreate it. "
        "memory_max of 1 GiB is below its peak of 2 GiB. Change the rule."
    )


# --- the sum of all limits

GIB_16 = plan.HostFacts(16 * GIB, 4096, GIB)


def outcomes(found):
    return [each.outcome for each in found.changes]


def test_limits_that_do_not_fit_are_refused_all():
    found = planned({"memory_max": "8G"}, make.container(0), make.container(1), host=GIB_16)
    assert outcomes(found) == ["refused", "refused"]
    assert (found.limits_before, found.limits_after) == (0, 0)
    assert found.changes[0].risks[0].name == "limits_exceed_memory"
    assert found.changes[0].message == (
        "Rule web: memory_max from an unknown value to 8 GiB. Refused, and nothing of it is done. All limits would add "
        "up to 16 GiB, and the host has 16 GiB of memory less a reserve of 1 GiB. "
        "Change the rule, or force limits_exceed_memory."
    )


def test_limits_that_fit_exactly():
    found = planned({"memory_max": "7.5G"}, make.container(0), make.container(1), host=GIB_16)
    assert outcomes(found) == ["planned", "planned"]
    assert found.limits_after == 15 * GIB


def test_only_what_sets_or_raises_a_limit_is_refused():
    lower, equal, raised = (
        make.container(number, effective={"memory_max": size * GIB}) for number, size in enumerate([20, 8, 4])
    )
    found = planned({"memory_max": "8G", "memory_min": "1M"}, lower, equal, raised, host=GIB_16)
    assert outcomes(found) == ["planned", "planned", "refused"]
    assert (found.limits_before, found.limits_after) == (32 * GIB, 20 * GIB)


def test_limits_that_exceed_by_force():
    targets = [make.container(0), make.container(1)]
    found = planned({"memory_max": "8G"}, *targets, host=GIB_16, force={"limits_exceed_memory"})
    assert outcomes(found) == ["planned", "planned"]
    assert [each.risks[0].forced for each in found.changes] == [True, True]
    assert found.limits_after == 16 * GIB


def test_what_is_below_a_limited_slice_adds_nothing():
    limited = make.slice_("docker.slice", effective={"memory_max": 4 * GIB})
    inside = [make.container(number, parent="/docker.slice", effective={"memory_max": None}) for number in range(10)]
    policy = rules.check([{"name": "r", "match": {"engine": "docker"}, "memory_max": "2G"}], None)
    found = plan.plan(policy, [limited] + inside, GIB_16)
    assert set(outcomes(found)) == {"planned"}
    assert (found.limits_before, found.limits_after) == (4 * GIB, 4 * GIB)


def test_where_the_slice_is_refused_what_is_in_it_adds_up():
    inside = [make.container(number, parent="/docker.slice") for number in range(10)]
    listed = [
        {"name": "slice", "match": {"unit": "docker.slice"}, "memory_max": "20G"},
        {"name": "r", "match": {"engine": "docker"}, "memory_max": "2G"},
    ]
    found = plan.plan(rules.check(listed, None), [make.slice_("docker.slice")] + inside, GIB_16)
    assert set(outcomes(found)) == {"refused"}
    assert found.limits_after == 0


def test_taking_the_limit_of_a_slice_away_counts_what_is_in_it():
    limited = make.slice_("docker.slice", effective={"memory_max": 4 * GIB})
    inside = [make.container(number, parent="/docker.slice", effective={"memory_max": 2 * GIB}) for number in range(10)]
    policy = rules.check([{"name": "slice", "match": {"unit": "docker.slice"}, "memory_max": "max"}], None)
    found = plan.plan(policy, [limited] + inside, GIB_16)
    assert outcomes(found) == ["refused"]
    assert (found.limits_before, found.limits_after) == (4 * GIB, 4 * GIB)


def test_what_is_refused_for_another_reason_does_not_count():
    used = make.container(0, usage=make.usage(9 * GIB))
    found = planned({"memory_max": "8G"}, used, make.container(1), host=GIB_16)
    assert outcomes(found) == ["refused", "planned"]
    assert found.limits_after == 8 * GIB


def test_what_waits_for_a_start_counts():
    later = make.service(
        stored={"memory_max": 8 * GIB}, effective={"memory_max": None}, abilities={"memory_max": make.LATER}
    )
    found = planned({"memory_max": "8G"}, later, make.container(1), host=GIB_16)
    assert outcomes(found) == ["pending", "refused"]


def test_who_does_not_touch_its_limit_is_not_to_blame():
    nothing = {"memory_max": None}
    inside = make.container(0, parent="/docker.slice", effective=nothing)
    around = make.slice_("docker.slice", effective=nothing)
    listed = [
        {"name": "slice", "match": {"unit": "docker.slice"}, "memory_max": "max", "memory_min": "1M"},
        {"name": "r", "match": {"engine": "docker"}, "memory_max": "20G"},
    ]
    assert outcomes(plan.plan(rules.check(listed, None), [around, inside], GIB_16)) == ["planned", "refused"]


def test_what_is_refused_already_is_not_blamed_for_what_is_in_it():
    inside = make.container(0, parent="/docker.slice", effective={"memory_max": None})
    around = make.slice_("docker.slice", effective={"memory_max": GIB}, abilities={"oom_group": make.refusing("No.")})
    listed = [
        {"name": "slice", "match": {"unit": "docker.slice"}, "memory_max": "max", "oom_group": True},
        {"name": "r", "match": {"engine": "docker"}, "memory_max": "20G"},
    ]
    found = plan.plan(rules.check(listed, None), [around, inside], GIB_16)
    assert outcomes(found) == ["refused", "planned"]
    assert (found.changes[0].risks, found.limits_after) == ((), GIB)


def test_limits_that_were_too_large_before_are_no_risk_of_another_change():
    found = planned({"memory_min": "1M"}, make.container(effective={"memory_max": 20 * GIB}), host=GIB_16)
    assert outcomes(found) == ["planned"]


def test_a_drop_in_for_units_to_come_adds_nothing():
    found = planned_for_all({"memory_max": "20G"})
    assert (outcomes(found), found.limits_after) == (["planned"], 0)


# --- drop-ins for all units of a prefix

UNLIMITED = {"memory_max": None, "memory_high": None, "memory_min": 0, "oom_group": False}


def planned_for_all(settings, *targets, others=(), told=None, **options):
    """The plan of one rule for docker-.scope, which comes last among the targets, and other rules before it."""
    listed = list(others) + [dict({"name": "all", "match": {"unit": "docker-.scope"}}, **settings)]
    prefix = make.prefix(told=told or {}, abilities={"oom_score_adjust": make.LATER})
    return plan.plan(rules.check(listed, None), list(targets) + [prefix], GIB_16, **options)


def risks_for_all(settings, *targets, **options):
    return [risk.name for risk in planned_for_all(settings, *targets, **options).changes[-1].risks]


def test_a_running_unit_of_the_prefix_is_at_risk_as_if_it_were_meant():
    running = make.scope(effective=UNLIMITED, usage=make.usage(500 * MIB, 600 * MIB), label="docker web")
    (found,) = planned_for_all({"memory_max": "400M"}, running).changes
    assert (found.outcome, [risk.name for risk in found.risks]) == ("refused", ["below_usage", "below_peak"])
    assert found.risks[1].message == "docker web: memory_max of 400 MiB is below its peak of 600 MiB."
    forced = planned_for_all({"memory_max": "400M"}, running, force=["below_usage", "below_peak"])
    assert (outcomes(forced), forced.limits_after) == (["planned"], 400 * MIB)


def test_of_many_units_one_is_named():
    running = [make.scope(number, effective=UNLIMITED, usage=make.usage(1, 600 * MIB)) for number in range(3)]
    (risk,) = planned_for_all({"memory_max": "400M"}, *running).changes[-1].risks
    assert (
        risk.message == "it: memory_max of 400 MiB is below its peak of 600 MiB. So are 2 more units of docker-.scope."
    )


@pytest.mark.parametrize(
    "unit, effective, names",
    [
        ({}, UNLIMITED, ["below_peak"]),
        ({}, dict(UNLIMITED, memory_max=500 * MIB), ["below_peak"]),  # by its unit's own file, before the drop-in
        ({}, dict(UNLIMITED, memory_max=400 * MIB), []),
        ({"unit": "libpod-1.scope"}, UNLIMITED, []),
        ({"unit": "docker-1.service"}, UNLIMITED, []),
        ({"unit": "docker-.scope"}, UNLIMITED, []),
        ({"unit": None}, UNLIMITED, []),
        ({}, {}, []),  # the kernel has no such setting
    ],
)
def test_whom_a_prefix_reaches(unit, effective, names):
    running = make.scope(effective=effective, usage=make.usage(1, 450 * MIB), **unit)
    assert risks_for_all({"memory_max": "400M"}, running) == names


def test_what_a_unit_was_told_itself_holds():
    running = make.scope(effective=dict(UNLIMITED, memory_max=500 * MIB), usage=make.usage(1, 450 * MIB))
    keep = {"name": "keep", "match": {"engine": "docker"}, "exempt": True}
    told = {running.unit: frozenset(["memory_max"])}
    assert risks_for_all({"memory_max": "400M"}, running, told=told) == []
    assert risks_for_all({"memory_max": "400M"}, running, others=[keep], told=told) == []
    assert risks_for_all({"memory_high": "1M"}, running, others=[keep], told=told) == ["exempt_included"]


def test_a_unit_whose_own_limit_is_refused_is_reached():
    own = {"name": "own", "match": {"engine": "docker"}, "memory_max": "18G"}
    running = make.scope(effective=UNLIMITED, usage=make.usage(GIB, GIB))
    found = planned_for_all({"memory_max": "100M"}, running, others=[own])
    assert outcomes(found) == ["refused", "refused"]
    assert [risk.name for risk in found.changes[1].risks] == ["below_usage", "below_peak"]


def test_what_another_rule_gives_a_unit_holds_for_it():
    own = {"name": "own", "match": {"engine": "docker"}, "memory_max": "1G"}
    running = make.scope(effective=UNLIMITED, usage=make.usage(1, 600 * MIB))
    found = planned_for_all({"memory_max": "400M"}, running, others=[own])
    assert (outcomes(found), found.limits_after) == (["planned", "planned"], GIB)
    low = planned_for_all({"memory_max": "400M"}, running, others=[dict(own, memory_max="500M")])
    assert outcomes(low) == ["refused", "refused"]


def test_the_limits_of_all_units_of_a_prefix_add_up():
    running = [make.scope(number, effective=UNLIMITED) for number in range(2)]
    assert risks_for_all({"memory_max": "8G"}, *running) == ["limits_exceed_memory"]
    assert risks_for_all({"memory_max": "7G"}, *running) == []


@pytest.mark.parametrize(
    "settings, names",
    [
        ({"memory_max": "1G"}, ["exempt_included"]),
        ({"oom_policy": "kill"}, ["exempt_included"]),
        ({"memory_max": "max"}, []),  # it has none
        ({"memory_min": "0"}, []),
        ({"oom_score_adjust": 100}, []),  # only its next start would have it
    ],
)
def test_who_is_exempt_is_not_reached_by_a_prefix(settings, names):
    keep = {"name": "keep", "match": {"engine": "docker"}, "exempt": True}
    running = make.scope(effective=UNLIMITED, label="docker db")
    found = planned_for_all(settings, running, others=[keep]).changes[-1]
    assert [risk.name for risk in found.risks] == names
    if names:
        assert found.risks[0].message == "docker db: Rule keep protects it, and docker-.scope is for it too."
        assert planned_for_all(settings, running, others=[keep], force=names).changes[-1].outcome == "planned"


def test_a_pod_and_a_critical_unit_of_a_prefix():
    pod = make.scope(effective=UNLIMITED, infrastructure=True)
    assert risks_for_all({"oom_policy": "kill"}, pod) == ["oom_group_on_infrastructure"]
    listed = [{"name": "all", "match": {"unit": "systemd-.service"}, "memory_max": "1G"}]
    targets = [make.service("systemd-journald.service", critical=True, effective=UNLIMITED)]
    found = plan.plan(rules.check(listed, None), targets + [make.prefix("systemd-.service")], GIB_16)
    assert [risk.name for risk in found.changes[0].risks] == ["critical_unprotected"]


def test_a_drop_in_that_is_there_already_is_no_risk():
    running = make.scope(effective=UNLIMITED, usage=make.usage(1, 600 * MIB))
    policy = rules.check([{"name": "all", "match": {"unit": "docker-.scope"}, "memory_max": "400M"}], None)
    (found,) = plan.plan(policy, [running, make.prefix(stored={"memory_max": 400 * MIB})], GIB_16).changes
    assert (found.outcome, found.risks) == ("unchanged", ())


# --- what a manager does not take


@pytest.mark.parametrize("unsupported", ["fail", "skip"])
def test_what_a_manager_does_not_take_of_all_combinations(unsupported):
    found = planned(
        {"memory_max": "1G", "memory_low": "2M"},
        make.service(effective={"memory_max": None}),
        make.service("b.service", effective={"memory_max": None}),
        host=GIB_16,
        unsupported=unsupported,
        refuse=lambda target, wanted: "Not both." if target.identity == "b.service" and len(wanted) == 2 else None,
    )
    assert (outcomes(found), found.limits_after) == (["planned", "refused"], GIB)
    assert found.changes[1].message.endswith("nothing of it is done. memory_max and memory_low: Not both.")


# --- who is governed


def test_exempt():
    policy = rules.check([{"name": "infra", "match": {"engine": "docker"}, "exempt": True}], {"memory_max": "1G"})
    found = plan.plan(policy, [make.container()], HOST)
    (only,) = found.changes
    assert (only.rule, only.outcome, only.steps, only.message) == ("infra", "exempt", (), "Rule infra protects it.")


def test_the_pause_container_of_a_pod_whose_limits_are_kubelets_is_exempt():
    target = make.container(engine="none", infrastructure=True)
    found = change({"memory_max": "1G"}, target)
    assert (found.outcome, found.steps) == ("exempt", ())
    assert found.message == "It only holds the namespaces of a pod, and nothing here keeps its settings."


def test_the_order_is_that_of_the_targets_and_the_rest_is_counted():
    listed = [
        {"name": "a", "match": {"name": "a"}, "memory_max": "1G"},
        {"name": "shadowed", "match": {"name": "a"}, "memory_max": "1G"},
        {"name": "b", "match": {"name": "b"}, "memory_max": "1G"},
    ]
    targets = [make.container(number, names={"name": name}) for number, name in enumerate("bcacb")]
    found = plan.plan(rules.check(listed, None), targets, HOST)
    assert [(each.target.workload["name"], each.rule) for each in found.changes] == [("b", "b"), ("a", "a"), ("b", "b")]
    assert (found.unmatched, found.idle) == (2, ("shadowed",))


def test_names_of_users():
    policy = rules.check([{"name": "ann", "match": {"user": "ann"}, "memory_max": "1G"}], None)
    target = make.service(parent="/user.slice/user-1000.slice/user@1000.service/app.slice")
    assert plan.plan(policy, [target], HOST, uids={"ann": 1000}).unmatched == 0
    assert plan.plan(policy, [target], HOST).unmatched == 1


def test_what_force_takes():
    assert sorted(risks.NAMES) == [
        "below_peak",
        "below_usage",
        "critical_unprotected",
        "exempt_included",
        "high_above_max",
        "limits_exceed_memory",
        "oom_group_on_infrastructure",
    ]
