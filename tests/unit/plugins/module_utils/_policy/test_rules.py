# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of a policy: what is wrong with them is said before any host is touched, and which targets they are for."""

import os
import sys

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._oom import workload
from ansible_collections.oom.forensics.plugins.module_utils._policy import conditions, model, rules

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import policy_targets as make  # noqa: E402

WEB = {"name": "web", "match": {"name": "web-*"}, "memory_max": "512M"}
EVERYTHING = {"cgroup": "*"}


def checked(*listed, **more):
    return rules.check(list(listed), more.get("default"))


def error(*listed, **more):
    with pytest.raises(model.PolicyError) as caught:
        checked(*listed, **more)
    return str(caught.value)


def rule(match=None, **more):
    return dict({"name": "r", "match": {"name": "x"} if match is None else match, "memory_max": "1G"}, **more)


def name_of(policy, target, uids=None):
    found = rules.matching(policy, target, uids or {})
    return found and found.name


# --- what a policy may be


def test_a_checked_policy():
    policy = checked(WEB, {"name": "infra", "match": {"name": "k*"}, "exempt": True}, default={"oom_group": True})
    web, infra = policy.rules
    assert (web.name, web.exempt, web.expressions) == ("web", False, {"memory_max": "512M"})
    assert (infra.name, infra.exempt, infra.settings) == ("infra", True, {})
    assert (policy.default.name, policy.default.settings) == ("default", {"oom_group": True})


@pytest.mark.parametrize("nothing", [(None, None), ([], {}), ([], None)])
def test_no_rules_are_rules(nothing):
    policy = rules.check(*nothing)
    assert (policy.rules, policy.default, policy.prefixes, policy.users) == ((), None, (), ())


@pytest.mark.parametrize(
    "setting, value, understood, expression",
    [
        ("oom_group", True, True, "true"),
        ("oom_group", "True", True, "true"),  # what a template gives
        ("oom_group", "no", False, "false"),
        ("oom_policy", "kill", "kill", "kill"),
        ("oom_score_adjust", -500, -500, "-500"),
        ("oom_score_adjust", "1000", 1000, "1000"),
    ],
)
def test_settings_that_are_no_sizes(setting, value, understood, expression):
    found = checked({"name": "r", "match": {"name": "x"}, setting: value}).rules[0]
    assert found.settings == {setting: understood}
    assert found.expressions == {setting: expression}


@pytest.mark.parametrize(
    "listed, said",
    [
        ("web", "rules must be a list of rules, not 'web'."),
        ({"name": "web"}, "rules must be a list of rules, not a mapping."),
        (["web"], "Rule number 1 must be a mapping, not 'web'."),
        ([WEB, {}], "Rule number 2 has no name."),
        ([{"name": None}], "Rule number 1 has no name."),
        ([{"name": 1}], "Rule number 1 has 1 for a name; a name is text of at most 100 printable characters."),
        ([{"name": " "}], "Rule number 1 has ' ' for a name; a name is text of at most 100 printable characters."),
        ([{"name": "a\nb"}], "Rule number 1 has 'a\\nb' for a name; a name is text of at most 100 printable characters."),
        ([{"name": "default"}], "Rule number 1 is called default, as the option default is; give it another name."),
        ([WEB, WEB], "Rule number 2 has the name of rule number 1, web; give it one of its own."),
        ([dict(WEB, memory_maxx=1)], "Rule web has the unknown key 'memory_maxx'; did you mean memory_max?"),
        ([dict(WEB, oom_score_adj=1)], "Rule web has the unknown key 'oom_score_adj'; did you mean oom_score_adjust?"),
        (
            [dict(WEB, zzz=1)],
            "Rule web has the unknown key 'zzz'; it may have name, match, exempt, memory_max, memory_high, "
            "memory_swap_max, memory_low, memory_min, oom_group, oom_policy and oom_score_adjust.",
        ),
        ([dict(WEB, match={"nam": "x"})], "Rule web, match has the unknown key 'nam'; did you mean name?"),
        ([{1: 2, "name": "web"}], "Rule web has the unknown key 1; it may have name, match, exempt,"),
        ([{"name": "web", "memory_max": 1}], "Rule web has no match; say there what it is for, or use the option default."),
        ([rule({})], "Rule r has no match; say there what it is for, or use the option default."),
        ([rule("web")], "Rule r, match must be a mapping, not 'web'."),
        ([{"name": "r", "match": {"name": "x"}}], "Rule r sets nothing; give it a setting, or exempt: true."),
        ([rule(exempt=True)], "Rule r is exempt and sets memory_max too; it can only do one of them."),
        ([rule(exempt="maybe")], "Rule r, exempt: 'maybe' is no switch; write true or false."),
        ([rule(memory_max="12Q")], "Rule r, memory_max: '12Q' is no size; write bytes, 512M, 25%,"),
        ([rule(memory_max=None)], "Rule r, memory_max has no value; leave it out, or write max where no limit is meant."),
        ([rule(oom_group=None)], "Rule r, oom_group has no value; leave it out."),
        ([rule(memory_max=0)], "Rule r, memory_max: 0 would leave it no memory at all; write max where no limit is meant."),
        ([rule(memory_max="50% of memory_max")], "Rule r, memory_max: 50% of memory_max would be a share of itself;"),
        ([rule(memory_high="2G")], "Rule r, memory_high of 2 GiB is above memory_max of 1 GiB, so it would never act;"),
        ([rule(oom_group=1)], "Rule r, oom_group: 1 is no switch; write true or false."),
        ([rule(oom_policy="contine")], "Rule r, oom_policy: 'contine' is none of continue, stop and kill"),
        ([rule(oom_policy=True)], "Rule r, oom_policy: True is none of continue, stop and kill"),
        ([rule(oom_score_adjust=1001)], "Rule r, oom_score_adjust: 1001 is no whole number from -1000 to 1000."),
        ([rule(oom_score_adjust=True)], "Rule r, oom_score_adjust: True is no whole number from -1000 to 1000."),
        ([rule(oom_score_adjust="10000000000000000")], "Rule r, oom_score_adjust: '10000000000000000' is no whole number"),
        ([rule(oom_group=True, oom_policy="stop")], "Rule r has oom_group: true beside oom_policy: stop, and systemd"),
        ([rule(oom_group=False, oom_policy="kill")], "Rule r has oom_group: false beside oom_policy: kill, and systemd"),
        ([rule({"name": 1})], "Rule r, match, name: 1 is no text; write a pattern in quotes."),
        ([rule({"name": None})], "Rule r, match, name: nothing is no text; write a pattern in quotes."),
        ([rule({"name": ""})], "Rule r, match, name: an empty pattern matches nothing; leave it out."),
        ([rule({"name": "x" * 1001})], "Rule r, match, name: the pattern has 1001 characters; 1000 are the most."),
        ([rule({"engine": "dcoker"})], "Rule r, match, engine: 'dcoker' is no engine; did you mean docker?"),
        ([rule({"labels": "x"})], "Rule r, match, labels must be a mapping, not 'x'."),
        ([rule({"labels": {}})], "Rule r, match, labels is empty; leave it out."),
        ([rule({"labels": {"version": 1.1}})], "Rule r, match, labels, 'version': 1.1 is no text; write a pattern in quotes."),
        ([rule({"labels": {1: "x"}})], "Rule r, match, labels: 1 is no text; write the label in quotes."),
        ([rule({"user": -1})], "Rule r, match, user: -1 is neither a uid nor a name."),
        ([rule({"user": True})], "Rule r, match, user: True is neither a uid nor a name."),
        ([rule({"user": 2**32})], "Rule r, match, user: 4294967296 is neither a uid nor a name."),
        ([rule({"user": ""})], "Rule r, match, user: '' is neither a uid nor a name."),
        ([rule({"cgroup": "system.slice/*"})], "Rule r, match, cgroup: 'system.slice/*' matches no cgroup, as paths begin with /."),
        ([rule({"unit": "nginx"})], "Rule r, match, unit: 'nginx' is no unit's name; write 'nginx.service'."),
        ([rule({"slice": "system"})], "Rule r, match, slice: 'system' is no unit's name; write 'system.slice'."),
        (
            [rule({"unit": "docker-.scope", "engine": "docker"})],
            "Rule r, match has engine beside unit: docker-.scope, which is a drop-in for all units with that prefix; "
            "no other condition can hold for them. For those that run now write docker-*.scope.",
        ),
        ([rule({"unit": "docker-.scope"}, memory_max="peak * 2")], "Rule r, memory_max: peak * 2 needs a peak, and"),
        (
            [{"name": "r", "match": {"unit": "docker-.scope"}, "exempt": True}],
            "Rule r is exempt and for the drop-in of docker-.scope, which protects nothing; write docker-*.scope.",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_rule_and_the_option(listed, said):
    with pytest.raises(model.PolicyError) as caught:
        rules.check(listed, None)
    message = str(caught.value)
    assert message.startswith(said)
    assert message.endswith((".", "?"))


@pytest.mark.parametrize(
    "default, said",
    [
        ("512M", "The default must be a mapping, not '512M'."),
        ({"memory_max": "x"}, "The default, memory_max: 'x' is no size;"),
        ({"match": {"name": "x"}}, "The default has the unknown key 'match'; it may have memory_max,"),
        ({"exempt": True}, "The default has the unknown key 'exempt'"),
        ({"memory_min": "2G", "memory_high": "2G", "memory_max": "1G"}, "The default, memory_high of 2 GiB is above"),
    ],
)
def test_the_default_is_checked_too(default, said):
    assert error(default=default).startswith(said)


@pytest.mark.parametrize(
    "high, limit", [("1G", "1G"), ("max", "1G"), ("2G", "max"), ("90%", "1G"), ("2G", "50% of host")]
)
def test_only_literal_sizes_are_compared(high, limit):
    checked(rule(memory_high=high, memory_max=limit))


def test_every_engine_that_a_workload_may_have_is_known():
    named = {row.engine for row in workload._ROWS if row.engine} | set(workload._ENGINES.values())
    assert set(conditions.ENGINES) == named | set(workload._ENGINE_IN_POD.values())


@pytest.mark.parametrize("pattern", ["docker", "*", "[!d]*", "cri-?"])
def test_an_engine_may_be_a_pattern(pattern):
    assert checked(rule({"engine": pattern})).rules[0].name == "r"


# --- prefix drop-ins and users


def test_prefixes():
    policy = checked(
        rule({"unit": "docker-.scope"}),
        rule({"unit": "libpod-.scope"}, name="b"),
        rule({"unit": "docker-.scope"}, name="again"),
        rule({"unit": "docker-*.scope"}, name="pattern"),
        rule({"unit": "nginx.service"}, name="unit"),
        rule({"unit": "-.slice"}, name="root"),
    )
    assert policy.prefixes == ("docker-.scope", "libpod-.scope")


@pytest.mark.parametrize("units", [("web-.service", "web-blue-.service"), ("web-blue-.service", "web-.service")])
def test_no_prefix_begins_with_another_one(units):
    listed = [{"name": unit, "match": {"unit": unit}, "memory_max": "1G"} for unit in units]
    with pytest.raises(model.PolicyError) as caught:
        rules.check(listed, None)
    assert str(caught.value) == (
        "Rule web-.service is for web-.service, and rule web-blue-.service for web-blue-.service; systemd would read "
        "only web-blue-.service of the two for a unit of both. Write one of them for the units that run now, as "
        "web-blue-*.service."
    )


def test_prefixes_of_other_types_and_names_go_together():
    units = ("web-.service", "web-.scope", "webs-.service", "web-.service")
    listed = [{"name": str(each), "match": {"unit": unit}, "memory_max": "1G"} for each, unit in enumerate(units)]
    assert len(rules.check(listed, None).rules) == 4


def test_a_prefix_is_for_its_drop_in_only():
    scope = make.target("/system.slice/docker-" + make.CID + ".scope", unit="docker-" + make.CID + ".scope")
    policy = checked(
        rule({"unit": "docker-*"}, name="running"),
        rule({"unit": "docker-.scope"}, name="all"),
        default={"memory_max": "1G"},
    )
    assert name_of(policy, scope) == "running"
    assert name_of(policy, make.prefix("docker-.scope")) == "all"
    assert name_of(policy, make.prefix("libpod-.scope")) is None


def test_users_that_the_rules_name():
    policy = checked(
        *[
            rule({"user": user}, name=str(number))
            for number, user in enumerate([1000, "1000", "root", "ann", "bob", "ann"])
        ]
    )
    assert policy.users == ("ann", "bob")


# --- matching

NAMES = {
    "name": "web-1",
    "image": "nginx:1.25",
    "labels": {"tier": "frontend", "com.example/x": "1"},
    "compose_project": "shop",
    "engine": "docker",
}
SCOPE = "docker-" + make.CID + ".scope"
CONTAINER = make.target("/system.slice/" + SCOPE, unit=SCOPE, names=NAMES)


@pytest.mark.parametrize(
    "match, holds",
    [
        ({"engine": "docker"}, True),
        ({"engine": "podman"}, False),
        ({"name": "web-*"}, True),
        ({"name": "WEB-*"}, False),
        ({"name": "web-[0-9]"}, True),
        ({"name": "web"}, False),
        ({"image": "nginx:*"}, True),
        ({"image": "httpd:*"}, False),
        ({"image": "*/nginx:*"}, False),
        ({"labels": {"tier": "front*"}}, True),
        ({"labels": {"tier": "front*", "com.example/x": "1"}}, True),
        ({"labels": {"tier": "front*", "com.example/x": "2"}}, False),
        ({"labels": {"tie": "*"}}, False),
        ({"compose_project": "shop"}, True),
        ({"compose_project": "shop?"}, False),
        ({"unit": "docker-*.scope"}, True),
        ({"unit": "nginx.service"}, False),
        ({"slice": "system.slice"}, True),
        ({"slice": "machine.slice"}, False),
        ({"user": 0}, True),
        ({"user": "root"}, True),
        ({"user": "0"}, True),
        ({"user": 1000}, False),
        ({"cgroup": "/system.slice/*"}, True),
        ({"cgroup": "/machine.slice/*"}, False),
        ({"engine": "docker", "name": "web-*", "image": "nginx:*", "slice": "system.slice"}, True),
        ({"engine": "docker", "name": "web-*", "image": "httpd:*"}, False),
    ],
)
def test_all_given_conditions_must_hold(match, holds):
    assert (name_of(checked(rule(match)), CONTAINER) == "r") is holds


def test_a_pod_is_called_by_any_of_its_names():
    found = make.container(names={"name": None, "pod_name": "shop-1", "container_name": "php"})
    assert name_of(checked(rule({"name": "shop-*"})), found) == "r"
    assert name_of(checked(rule({"name": "php"})), found) == "r"
    assert name_of(checked(rule({"name": "other"})), found) is None


@pytest.mark.parametrize("match", [{"name": "*"}, {"image": "*"}, {"labels": {"a": "*"}}, {"compose_project": "*"}])
def test_what_is_not_known_matches_nothing(match):
    assert name_of(checked(rule(match)), make.container()) is None


def test_the_user_of_a_workload():
    found = make.service(parent="/user.slice/user-1000.slice/user@1000.service/app.slice", manager="none")
    assert name_of(checked(rule({"user": 1000})), found) == "r"
    assert name_of(checked(rule({"user": "ann"})), found, {"ann": 1000}) == "r"
    assert name_of(checked(rule({"user": "ann"})), found, {"ann": 1001}) is None
    assert name_of(checked(rule({"user": "ann"})), found) is None
    assert name_of(checked(rule({"user": 0})), found) is None


def test_the_first_match_wins():
    policy = checked(
        rule({"name": "web-2"}, name="other"),
        rule({"name": "web-1"}, name="first"),
        rule({"name": "web-*"}, name="second"),
    )
    assert name_of(policy, CONTAINER) == "first"


def test_a_long_hostile_label_costs_little():
    found = make.container(names={"labels": {"a": "a" * 10**6}})
    assert name_of(checked(rule({"labels": {"a": "*a*a*b"}})), found) is None
    assert name_of(checked(rule({"labels": {"a": "a*"}})), found) == "r"


# --- what is only governed by a rule that says so

SLICE = make.slice_()
SESSION = make.target("/user.slice/user-0.slice/session-1.scope", "systemd", unit="session-1.scope")
SCOPED = make.target("/system.slice/run-1.scope", "systemd", unit="run-1.scope")
POD = make.target("/machine.slice/machine-libpod_pod_" + make.CID + ".slice", "systemd", unit="x.slice")


@pytest.mark.parametrize("found", [SLICE, SESSION, SCOPED, POD], ids=["slice", "session", "scope", "pod"])
def test_slices_and_scopes_are_governed_by_rules_with_unit_or_cgroup_only(found):
    assert name_of(checked(rule({"slice": "*"}, name="a"), rule({"user": 0}, name="b")), found) is None
    assert name_of(checked(rule({"unit": "*"})), found) == "r"
    assert name_of(checked(rule({"cgroup": "/*", "user": 0})), found) == "r"


def test_services_are_governed_by_any_rule():
    assert name_of(checked(rule({"slice": "system.slice"})), make.service()) == "r"


DEFAULT = checked(default={"memory_max": "1G"})


@pytest.mark.parametrize(
    "found, governed",
    [
        (make.container(), True),
        (make.service(), True),
        (make.service("x.socket"), False),
        (make.service(critical=True), False),
        (make.container(infrastructure=True), False),
        (make.container(engine="none"), False),
        (make.prefix(), False),
        (SLICE, False),
        (SESSION, False),
        (SCOPED, False),
        (POD, False),
    ],
)
def test_what_the_default_is_for(found, governed):
    assert (name_of(DEFAULT, found) == "default") is governed


def test_the_default_is_last():
    assert name_of(checked(rule({"name": "web-1"}), default={"memory_max": "1G"}), CONTAINER) == "r"
    assert name_of(checked(rule({"name": "web-2"}), default={"memory_max": "1G"}), CONTAINER) == "default"


@pytest.mark.parametrize("pattern, holds", [("nginx:*", True), ("*/library/nginx:*", True), ("library/nginx:*", False)])
def test_a_pattern_without_a_slash_is_for_the_last_part_of_an_image(pattern, holds):
    policy = rules.check([{"name": "web", "match": {"image": pattern}, "memory_max": "1M"}], None)
    target = make.container(names={"image": "docker.io/library/nginx:1.25"})
    assert (rules.matching(policy, target, {}) is not None) is holds
