# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes as people write them: what they come to, and what is said of those that cannot be."""

import pytest
from ansible_collections.oom.forensics.plugins.module_utils._policy import sizes
from ansible_collections.oom.forensics.plugins.module_utils._policy.model import PolicyError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE = 4096
FACTS = sizes.Facts(memory_total=8 * GIB, page_size=PAGE, peak=100 * MIB, settings={"memory_max": 64 * MIB})


def resolved(text, setting="memory_max", **facts):
    return sizes.resolve(sizes.parse(text), setting, FACTS._replace(**facts))


def error(function, *arguments):
    with pytest.raises(PolicyError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        (536870912, 512 * MIB),
        ("536870912", 512 * MIB),
        ("512M", 512 * MIB),
        ("512m", 512 * MIB),
        (" 512 MiB ", 512 * MIB),
        ("512MB", 512 * MIB),
        ("64K", 64 * KIB),
        ("1.5G", 1536 * MIB),
        ("1T", 1024 * GIB),
        ("4096B", 4096),
        ("5000", 4096),  # down to a page
        ("max", None),
        ("25%", 2 * GIB),
        ("25 % of host", 2 * GIB),
        ("12.5% of host", GIB),
        ("peak * 1.3", 130 * MIB),
        ("peak*1.3", 130 * MIB),
        ("peak", 100 * MIB),
        ("peak * 1.0001", 104865792),  # 104868085.76, down to a page
    ],
)
def test_a_size_of_memory_max(text, expected):
    assert resolved(text) == expected


@pytest.mark.parametrize("setting", ["memory_high", "memory_low", "memory_min", "memory_swap_max"])
def test_a_bare_share_is_of_memory_max_for_all_others(setting):
    assert resolved("50%", setting) == 32 * MIB
    assert resolved("50% of memory_max", setting) == 32 * MIB
    assert resolved("50% of host", setting) == 4 * GIB


@pytest.mark.parametrize("setting", ["memory_low", "memory_min", "memory_swap_max"])
def test_nothing_is_a_size_of_what_may_be_nothing(setting):
    assert resolved(0, setting) == 0
    assert resolved("0", setting) == 0
    assert resolved("0%", setting) == 0


@pytest.mark.parametrize("text", ["1", "0.00001% of host", "peak * 0.00001"])
@pytest.mark.parametrize("setting", ["memory_max", "memory_high"])
def test_less_than_a_page_is_no_limit_to_live_with(setting, text):
    said = error(resolved, text, setting)
    assert said == "{0} of {1} is less than one page (4 KiB), and no process runs in that".format(setting, text)


def test_pages_are_those_of_the_host():
    assert resolved("100K", page_size=65536) == 65536


@pytest.mark.parametrize(
    "text, setting, facts, said",
    [
        ("peak * 1.3", "memory_max", {"peak": None}, "peak * 1.3 needs the peak, which the kernel does not tell"),
        ("50%", "memory_high", {"settings": {}}, "50% is a share of memory_max, which is not known"),
        ("50%", "memory_high", {"settings": {"memory_max": None}}, "50% is a share of memory_max, and there is no"),
    ],
)
def test_what_the_host_does_not_tell_is_refused(text, setting, facts, said):
    with pytest.raises(PolicyError) as caught:
        resolved(text, setting, **facts)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "value, said",
    [
        (True, "True is no size"),
        (None, "nothing is no size"),
        (1.5, "1.5 is no size"),
        (float("nan"), "nan is no size"),
        ([512], "a list is no size"),
        ({}, "a mapping is no size"),
        (-1, "-1 is no size"),
        ("", "'' is no size"),
        ("-1", "'-1' is no size"),
        ("12Q", "'12Q' is no size"),
        ("512M of host", "'512M of host' is no size"),
        ("50% of swap", "'50% of swap' is no size"),
        ("1.5", "'1.5' is no size"),
        ("peak + 1", "'peak + 1' is no size"),
        ("infinity", "'infinity' is no size"),
        ("\u0661M", "is no size"),
        ("max\ud800", r"'max\ud800' is no size"),
        ("x" * 5000, "is no size"),
        (2**62, "more than any machine has; write max where no limit is meant"),
        ("5000000T", "more than any machine has"),
        ("peak * 0", "factor 0 is out of range"),
        ("peak * 101", "factor 101 is out of range"),
        ("10001%", "10001% is out of range"),
    ],
)
def test_what_is_no_size(value, said):
    message = error(sizes.parse, value)
    assert said in message
    assert len(message) < 300


def test_a_number_that_python_does_not_print():
    assert "more than any machine has" in error(sizes.parse, 10**6000)


def test_what_is_no_size_says_what_is_one():
    assert error(sizes.parse, "12Q") == (
        "'12Q' is no size; write bytes, 512M, 25%, 25% of host, 90% of memory_max, peak * 1.3, or max for no limit"
    )


@pytest.mark.parametrize("value, text", [("peak * 1.3", "peak * 1.3"), (512, "512"), (" max ", "max")])
def test_the_expression_stays_as_it_was_written(value, text):
    assert sizes.parse(value).expression == text


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "no limit"),
        (0, "0"),
        (1, "1 byte"),
        (1000, "1000 bytes"),
        (4096, "4 KiB"),
        (512 * MIB, "512 MiB"),
        (1536 * MIB, "1.5 GiB"),
        (2 * GIB, "2 GiB"),
        (100 * MIB + 4096, "100 MiB"),
        (27267072, "26 MiB"),
        (27361280, "26.1 MiB"),
        (10**9, "1000000000 bytes"),
        (16318340 * KIB, "15.6 GiB"),
        (1023 * MIB + 1023 * KIB, "1 GiB"),
    ],
)
def test_a_size_for_people(value, text):
    assert sizes.shown(value) == text


def test_the_reserve():
    assert sizes.reserve("10%", 8000) == 800
    assert sizes.reserve("2M", 8 * GIB) == 2 * MIB
    assert sizes.reserve(0, 8 * GIB) == 0


@pytest.mark.parametrize("value", ["max", "peak", "10% of memory_max", "lots", None, "101%", 9 * GIB])
def test_what_is_no_reserve(value):
    assert error(sizes.reserve, value, 8 * GIB).startswith("reserve: ")
