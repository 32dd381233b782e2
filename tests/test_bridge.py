# SPDX-License-Identifier: MIT
"""EnsureBridge and RemoveBridge, and what a guest can do to the host through the bridge."""

import socket
import struct
from pathlib import Path

import pytest

from daemons import deny
from fcproc import refused
from machines import add_link, assert_unchanged, ethernet, ip, links, run, snapshot, steady

GUEST = "02:fc:00:00:00:01"


def addresses(name):
    """The link's addresses, without those that the kernel makes by itself."""
    found = [a for link in ip("addr", "show", "dev", name) for a in link["addr_info"]]
    return [f"{a['local']}/{a['prefixlen']}" for a in found if a["scope"] != "link"]


def sysctl(name, key):
    return Path(f"/proc/sys/net/ipv6/conf/{name}/{key}").read_text().strip()


# --- EnsureBridge ---


def test_a_new_bridge(root):
    assert root.do("EnsureBridge") == ("br-fc", links()["br-fc"]["ifindex"], "172.16.0.1/24")
    link = links()["br-fc"]
    assert link["linkinfo"]["info_kind"] == "bridge" and "UP" in link["flags"]
    assert link["mtu"] == 1500
    assert link["ifalias"].startswith("org.banger.FcProc")
    assert addresses("br-fc") == ["172.16.0.1/24"]
    assert sysctl("br-fc", "accept_ra") == "0"
    assert set(links()) == {"lo", "br-fc"}  # nothing of a reserved name is left


def test_again_changes_nothing(root, alice):
    first = root.do("EnsureBridge")
    before = snapshot()
    assert alice.do("EnsureBridge") == root.do("EnsureBridge") == first
    assert_unchanged(before)


def test_polkit_is_asked_only_if_there_is_something_to_do(root, carol, polkit):
    polkit.rules(deny("carol"))
    with refused("AccessDenied"):
        carol.do("EnsureBridge")
    first = root.do("EnsureBridge")
    assert carol.do("EnsureBridge") == first
    run("ip", "addr", "flush", "dev", "br-fc")
    with refused("AccessDenied"):
        carol.do("EnsureBridge")


def test_twenty_at_once(service, client):
    """Hostile case 5."""
    clients = [client("alice") for _ in range(10)] + [client("bob") for _ in range(10)]
    answers = {call.result() for call in [c.begin("EnsureBridge") for c in clients]}
    assert answers == {("br-fc", links()["br-fc"]["ifindex"], "172.16.0.1/24")}
    assert set(links()) == {"lo", "br-fc"}


@pytest.mark.parametrize(
    "harm",
    [
        ("ip", "link", "set", "br-fc", "down"),
        ("ip", "addr", "flush", "dev", "br-fc"),
        ("ip", "addr", "del", "172.16.0.1/24", "dev", "br-fc"),
    ],
    ids=["down", "flushed", "no address"],
)
def test_half_made_is_completed(root, alice, harm):
    index = root.do("EnsureBridge")[1]
    run(*harm)
    assert alice.do("EnsureBridge")[1] == index
    assert "UP" in links()["br-fc"]["flags"] and addresses("br-fc") == ["172.16.0.1/24"]


def test_half_made_by_a_service_that_died(service, root):
    """Marked as ours, and no more than that."""
    root.do("EnsureBridge")
    alias = links()["br-fc"]["ifalias"]
    root.do("RemoveBridge")
    run("ip", "link", "add", "br-fc", "address", "02:fc:11:22:33:44", "type", "bridge")
    run("ip", "link", "set", "br-fc", "alias", alias)
    root.do("EnsureBridge")
    assert "UP" in links()["br-fc"]["flags"] and addresses("br-fc") == ["172.16.0.1/24"]
    assert sysctl("br-fc", "accept_ra") == "0"


def test_no_bridge_of_that_name(root, alice):
    """Hostile case 4."""
    add_link("br-fc")
    before = snapshot()
    for client in (root, alice):
        with refused("NotOurs", says="br-fc"):
            client.do("EnsureBridge")
        with refused("NotOurs", says="br-fc"):
            client.do("RemoveBridge")
    for name in ("tap0",):
        with refused("NoSuchBridge", "NotOurs", says="br-fc"):
            alice.do("CreateTap", name)
    assert_unchanged(before)


def test_a_bridge_found_is_only_brought_up(root, alice):
    run("ip", "link", "add", "br-fc", "type", "bridge")
    before = steady(links()["br-fc"])
    assert root.do("EnsureBridge")[0] == "br-fc"
    after = steady(links()["br-fc"])
    assert "UP" in after["flags"] and "ifalias" not in after and addresses("br-fc") == []
    before.pop("flags"), after.pop("flags")
    assert before == after
    alice.do("CreateTap", "tap0")
    assert links()["tap0"]["master"] == "br-fc"
    with refused("NotOurs", says="br-fc"):
        root.do("RemoveBridge")


@pytest.mark.config(bridge_name="br-six", bridge_ip="fd00:fc::1", cidr=64)
def test_another_name_and_ipv6(root, alice):
    assert root.do("EnsureBridge") == ("br-six", links()["br-six"]["ifindex"], "fd00:fc::1/64")
    assert addresses("br-six") == ["fd00:fc::1/64"]
    assert root.get("BridgeName") == "br-six" and root.get("BridgeAddress") == "fd00:fc::1/64"
    alice.do("CreateTap", "tap0", mtu=1280)
    assert links()["br-six"]["mtu"] == 1500 and addresses("br-six") == ["fd00:fc::1/64"]


def test_the_lowest_mac_joins(bridge, alice):
    """Hostile case 6."""
    mac = links()["br-fc"]["address"]
    add_link("low", "address", "00:00:00:00:00:01")
    run("ip", "link", "set", "low", "master", "br-fc", "up")
    alice.do("CreateTap", "tap0")
    assert links()["br-fc"]["address"] == mac
    run("ip", "link", "del", "low")
    alice.do("DeleteTap", "tap0")
    assert links()["br-fc"]["address"] == mac


def test_the_mac_is_its_own(service, root):
    """Not a port's: the same before and after, unicast and locally administered."""
    root.do("EnsureBridge")
    first = int(links()["br-fc"]["address"][:2], 16)
    assert first & 1 == 0 and first & 2


def test_a_small_port_does_not_pull_the_mtu_down(bridge):
    add_link("small", "mtu", "1280")
    run("ip", "link", "set", "small", "master", "br-fc", "up")
    assert links()["br-fc"]["mtu"] == 1500


# --- RemoveBridge ---


def test_remove(root):
    with refused("NoSuchBridge", says="br-fc"):
        root.do("RemoveBridge")
    root.do("EnsureBridge")
    root.do("RemoveBridge")
    assert set(links()) == {"lo"}


def test_remove_with_ports(bridge, root, alice):
    alice.do("CreateTap", "tap0")
    before = snapshot()
    with refused("InUse", says="br-fc"):
        root.do("RemoveBridge")
    assert_unchanged(before)
    alice.do("DeleteTap", "tap0")
    root.do("RemoveBridge")


def test_remove_minds_polkit(bridge, carol):
    before = snapshot()
    with refused("AccessDenied", "InteractiveAuthorizationRequired"):
        carol.do("RemoveBridge")
    assert_unchanged(before)


# --- what a guest sends (hostile case 38) ---


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def router_advertisement():
    src, dst = (socket.inet_pton(socket.AF_INET6, a) for a in ("fe80::bad", "ff02::1"))
    prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, socket.inet_pton(socket.AF_INET6, "2001:db8:bad::"))
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix
    pseudo = src + dst + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    return ethernet("33:33:00:00:00:01", GUEST, 0x86DD, struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + src + dst + body)


def dhcp_offer():
    body = struct.pack("!BBBBIHH4s4s4s4s16s", 2, 1, 6, 0, 1, 0, 0, bytes(4), bytes([10, 9, 9, 9]), bytes(4), bytes(4), bytes(16))
    body += bytes(192) + b"\x63\x82\x53\x63\x35\x01\x02\xff"
    udp = struct.pack("!HHHH", 67, 68, len(body) + 8, 0) + body
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, len(udp) + 20, 0, 0, 64, 17, 0, bytes([10, 9, 9, 1]), b"\xff" * 4)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return ethernet("ff:ff:ff:ff:ff:ff", GUEST, 0x0800, header + udp)


def bridge_protocol():
    """A superior STP configuration: priority 0."""
    bpdu = struct.pack("!HBBBQIQHHHHH", 0, 0, 0, 0, 1, 0, 1, 0x8001, 0, 20 << 8, 2 << 8, 15 << 8)
    frame = b"\x42\x42\x03" + bpdu
    return bytes.fromhex("0180c2000000") + bytes.fromhex(GUEST.replace(":", "")) + struct.pack("!H", len(frame)) + frame.ljust(46, b"\0")


@pytest.mark.parametrize("frame", [router_advertisement, dhcp_offer, bridge_protocol], ids=lambda f: f.__name__)
def test_the_host_stays_as_it_was(bridge, alice, hold, frame):
    alice.do("CreateTap", "tap0")
    holder = hold("alice", "tap0")
    assert holder.arp(GUEST, "172.16.0.9", "172.16.0.1"), "the guest cannot reach the host"
    root_id = links()["br-fc"]["linkinfo"]["info_data"]["root_id"]
    before = snapshot()
    for _ in range(3):
        holder.send(frame())
    # The host answers the guest again: it has seen what came before.
    assert holder.arp(GUEST, "172.16.0.9", "172.16.0.1")
    after = snapshot()
    assert after["addresses"] == before["addresses"] and after["routes"] == before["routes"]
    assert "2001:db8:bad" not in run("ip", "-6", "route") + run("ip", "-6", "addr")
    assert links()["br-fc"]["linkinfo"]["info_data"]["root_id"] == root_id
    assert sysctl("br-fc", "accept_ra") == "0"
