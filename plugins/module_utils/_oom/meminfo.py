# Copyright (c) 2026 oom.forensics contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Mem-Info block of a host OOM report (show_mem, mm/page_alloc.c and mm/show_mem.c). Private to this collection.

Unknown tokens are kept: a counter that a newer kernel adds shows up under its own name.
"""

import functools
import re
from typing import Any, Dict, List, Optional

from .patterns import lazy

_TOKEN = lazy(r"([a-zA-Z_][\w()]*): ?(-?\d{1,18})", re.A)
_NODE_LINE = lazy(r"Node (\d+) (?=active_anon:)")
_ZONE_LINE = lazy(r"(?:Node (\d+) )?(\w+) (?=free:)")
_BUDDY = lazy(r"(?:Node (\d+) )?(\w+): (?=\d+\*\d+kB)")
_TOTAL = lazy(r"= (\d+)kB")
_BUDDY_CELL = lazy(r"(\d+)\*(\d+)kB")
_HUGE = lazy(r"(?:Node (\d+) )?hugepages_total=(\d+) hugepages_free=(\d+) hugepages_surp=(\d+) hugepages_size=(\d+)kB")
_SLAB = lazy(r"(\S.*?) +(\d+)KB +(\d+)KB$")
_RESERVE = "lowmem_reserve[]:"
# `N pages …` and swap lines: text behind (or before) the number, key, unit in bytes (0: pages).
_PAGE_LINES = (
    ("total pagecache pages", "pagecache_bytes"),
    ("pages in swap cache", "swapcache_bytes"),
    ("pages RAM", "ram_bytes"),
    ("pages HighMem/MovableOnly", "highmem_bytes"),
    ("pages HighMem", "highmem_bytes"),
    ("pages reserved", "reserved_bytes"),
    ("pages cma reserved", "cma_reserved_bytes"),
    ("pages hwpoisoned", "hwpoisoned_bytes"),
    ("pages in pagetable cache", "pagetable_cache_bytes"),
    ("pages shared", "shared_bytes"),
    ("pages non-shared", "non_shared_bytes"),
)
_SWAP_LINE = lazy(r"(Free|Total) swap\s+= (\d+)kB")
_PAGE_KEYS = dict(_PAGE_LINES)
_SCALARS = tuple(dict.fromkeys(key for _words, key in _PAGE_LINES)) + ("swap_free_bytes", "swap_total_bytes")
_GLOBAL = lazy(r"active_anon:\d+ inactive_anon:\d+")


def page_size(texts: List[str]) -> Optional[int]:
    """The smallest block of a buddy line is one page."""
    for text in texts:
        if "*" in text and _BUDDY.match(text):
            cell = _BUDDY_CELL.search(text)
            if cell:
                return int(cell.group(2)[:9]) * 1024
    return None


def host_memory(texts: List[str], page: Optional[int]) -> Optional[Dict[str, Any]]:
    """All of a report's Mem-Info, in bytes; None where the report has none. Page counts need the page size."""
    totals: Dict[str, Optional[int]] = {}
    nodes: List[Dict[str, Any]] = []
    zones: List[Dict[str, Any]] = []
    buddy: List[Dict[str, Any]] = []
    hugepages: List[Dict[str, Any]] = []
    slab: List[Dict[str, Any]] = []
    scalars: Dict[str, Optional[int]] = dict.fromkeys(_SCALARS)
    in_totals = in_slab = seen = False
    for text in texts:
        first = text[:1]
        if first == "[" or first == " " and not in_totals and not in_slab:
            continue
        if in_totals and (first == " " or ":" in text[:24]) and not text.startswith(("Node ", "DMA", "Normal")):
            totals.update(_pages(_TOKEN.findall(text), page))
            continue
        in_totals = False
        if in_slab:
            cell = _SLAB.match(text.strip()) if text[-2:] == "KB" else None
            if cell:
                slab.append(_slab_row(cell.groups()))
                continue
            in_slab = text.startswith("Name ")
            if in_slab:
                continue
        if text.startswith("active_anon:") and _GLOBAL.match(text):
            totals.update(_pages(_TOKEN.findall(text), page))
            in_totals = seen = True
        elif "free:" in text[:40] and _ZONE_LINE.match(text):
            zones.append(_zone(text))
            seen = True
        elif text.startswith(_RESERVE):
            if zones:
                pages = filter(str.isdecimal, text[len(_RESERVE) :].split())
                zones[-1]["lowmem_reserve_bytes"] = [int(each[:15]) * page if page else None for each in pages]
        elif "*" in text[:40] and _BUDDY.match(text):
            buddy.append(_buddy(text))
        elif "hugepages_total=" in text[:30]:
            found = _HUGE.match(text)
            if found:
                hugepages.append(_hugepages(found.groups()))
        elif first == "N" and _NODE_LINE.match(text):
            nodes.append(_node(text))
            seen = True
        elif text.startswith("Unreclaimable slab info:"):
            in_slab = True
        elif " swap" in text[:12] and _SWAP_LINE.match(text):
            found = _SWAP_LINE.match(text)
            if found:
                scalars["swap_%s_bytes" % found.group(1).lower()] = int(found.group(2)[:18]) * 1024
        elif " page" in text[:32] and first.isdigit():
            count, _blank, words = text.rstrip().partition(" ")
            key = _PAGE_KEYS.get(words)
            if key and count.isdecimal():
                scalars[key] = int(count[:18]) * page if page else None
                seen = True
    if not seen:
        return None
    memory: Dict[str, Any] = {
        "totals": totals,
        "nodes": nodes,
        "zones": zones,
        "buddy": buddy,
        "hugepages": hugepages,
        "unreclaimable_slab": slab,
    }
    memory.update(scalars)
    return memory


@functools.lru_cache(maxsize=256)
def _key(token: str) -> str:
    return token.replace("(", "_").replace(")", "").lower() + "_bytes"


def _pages(tokens: List[Any], page: Optional[int]) -> Dict[str, Optional[int]]:
    return {_key(name): int(value) * page if page else None for name, value in tokens}


def _kilobytes(text: str) -> Dict[str, Any]:
    return {_key(name): int(value) * 1024 for name, value in _TOKEN.findall(text)}


def _node(text: str) -> Dict[str, Any]:
    place = _NODE_LINE.match(text)
    row: Dict[str, Any] = {"node": int(place.group(1)[:9]) if place else None}
    row.update(_kilobytes(text))
    row["all_unreclaimable"] = text.rstrip().endswith("yes") if "all_unreclaimable?" in text else None
    return row


def _zone(text: str) -> Dict[str, Any]:
    place = _ZONE_LINE.match(text)
    node, zone = place.groups() if place else (None, None)
    row: Dict[str, Any] = {"node": int(node[:9]) if node else None, "zone": zone}
    values = _kilobytes(text)
    scanned = values.pop("pages_scanned_bytes", None)  # a count, though its neighbours are sizes
    row.update(values)
    if scanned is not None:
        row["pages_scanned"] = scanned // 1024
    row["lowmem_reserve_bytes"] = None
    return row


def _buddy(text: str) -> Dict[str, Any]:
    place = _BUDDY.match(text)
    node, zone = place.groups() if place else (None, None)
    total = _TOTAL.search(text)
    return {
        "node": int(node[:9]) if node else None,
        "zone": zone,
        "free_blocks": {size + "kB": int(count[:18]) for count, size in _BUDDY_CELL.findall(text)},
        "total_bytes": int(total.group(1)[:18]) * 1024 if total else None,
    }


def _hugepages(cells: Any) -> Dict[str, Any]:
    node, total, free, surplus, size = cells
    return {
        "node": int(node[:9]) if node else None,
        "total": int(total[:18]),
        "free": int(free[:18]),
        "surplus": int(surplus[:18]),
        "size_bytes": int(size[:18]) * 1024,
    }


def _slab_row(cells: Any) -> Dict[str, Any]:
    name, used, total = cells
    return {"name": name, "used_bytes": int(used[:18]) * 1024, "total_bytes": int(total[:18]) * 1024}
