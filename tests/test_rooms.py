# SPDX-License-Identifier: MIT
"""The rooms of the service: what is below knows nothing of what is above, and there are no circles."""

import re

import pytest

from fcproc import CHECKOUT

# From the ground up. Rooms of one floor do not know each other.
FLOORS = [["common"], ["base"], ["link", "vm"], ["bus"], ["watch"], ["methods"], ["top"]]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path):
    parts = path.relative_to(CHECKOUT).parts
    return "common" if parts[0] == "common" else parts[1] if len(parts) > 2 else "top"


def sources():
    return [path for top in ("common", "service") for path in (CHECKOUT / top).rglob("*.[ch]")]


def included(path):
    """What a file includes of ours, as paths."""
    for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M):
        for base in (CHECKOUT, CHECKOUT / "service"):
            if (base / name).exists():
                yield base / name


def test_every_file_is_in_a_room():
    assert {room_of(path) for path in sources()} == set(FLOOR)
    assert {path.name for path in sources() if room_of(path) == "top"} == {"main.c", "service.c", "service.h"}


@pytest.mark.parametrize("room", [room for room in FLOOR if room != "top"])
def test_no_arrow_runs_up(room):
    """service.h is for all who know the service: it declares, and includes nothing above the base."""
    up = []
    for path in (path for path in sources() if room_of(path) == room):
        for other in included(path):
            theirs = room_of(other)
            if theirs == "top" and other.name == "service.h" and FLOOR[room] >= FLOOR["bus"]:
                continue
            if theirs != room and FLOOR[theirs] >= FLOOR[room]:
                up.append(f"{path.name} includes {other.relative_to(CHECKOUT)}")
    assert not up
    service = CHECKOUT / "service" / "service.h"
    assert {room_of(other) for other in included(service)} == {"base"}


def test_no_circle():
    """Not of headers, and not of modules: what x.c and x.h include together."""

    def module(path):
        if path.name == "service.h":  # it is below what service.c puts together
            return path
        return path.with_name("netlink") if path.name.startswith("netlink-") else path.with_suffix("")  # one of three files

    graph = {}
    for path in sources():
        graph.setdefault(module(path), set()).update({module(other) for other in included(path)} - {module(path)})
    done, under_way = set(), []

    def visit(path):
        assert path not in under_way, " → ".join(p.name for p in [*under_way[under_way.index(path) :], path])
        if path not in done:
            under_way.append(path)
            for other in graph.get(path, ()):
                visit(other)
            under_way.pop()
            done.add(path)

    for path in graph:
        visit(path)


def test_domain_code_knows_no_bus():
    """Below the bus's floor nothing includes sd-bus."""
    for path in sources():
        if FLOOR[room_of(path)] < FLOOR["bus"]:
            assert "<systemd/sd-bus" not in path.read_text(), path
