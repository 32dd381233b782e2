# SPDX-License-Identifier: MIT
"""Isolated taps on a host that forwards packets: what reaches whom, without and with the rule that is shipped."""

import ipaddress
import os
import socket
import struct
from pathlib import Path

import pytest

from machines import ethernet, links, run

A, B, OUTSIDE = "02:fc:00:00:00:0a", "02:fc:00:00:00:0b", "02:fc:00:00:00:ee"
HOST_IP, A_IP, B_IP, OUTSIDE_IP = "172.16.0.1", "172.16.0.10", "172.16.0.11", "192.0.2.2"
A_IP6, B_IP6 = "fd00:fc::a", "fd00:fc::b"


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(src, dst, payload, protocol):
    """An IP packet, of the version that the addresses have, and its EtherType."""
    source, target = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    if source.version == 6:
        return 0x86DD, struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + source.packed + target.packed + payload
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0, source.packed, target.packed)
    return 0x0800, header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def datagram(src, dst):
    """One with a mark that tells it from all others."""
    mark = b"fcproc" + os.urandom(10)
    kind, data = packet(src, dst, struct.pack("!HHHH", 4711, 4711, 8 + len(mark), 0) + mark, 17)
    return mark, kind, data


@pytest.fixture
def forwarding(bridge):
    switches = [Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/net/ipv6/conf/all/forwarding")]
    for switch in switches:
        switch.write_text("1")
    yield
    for switch in switches:
        switch.write_text("0")


@pytest.fixture
def gateway(forwarding):
    """The bridge's MAC address; it has an IPv6 address as well."""
    run("ip", "address", "add", "fd00:fc::1/64", "dev", "br-fc", "nodad")
    return links()["br-fc"]["address"]


@pytest.fixture(params=[False, True], ids=["any-mac", "guest-mac"])
def guests(request, gateway, alice, bob, hold):
    """Two neighbours, both isolated, whose addresses the host knows."""
    alice.do("CreateTap", "tap0", **({"guest_mac": A} if request.param else {}))
    bob.do("CreateTap", "tap1", **({"guest_mac": B} if request.param else {}))
    a, b = hold("alice", "tap0"), hold("bob", "tap1")
    assert a.arp(A, A_IP, HOST_IP) and b.arp(B, B_IP, HOST_IP)
    for address, mac in ((A_IP, A), (A_IP6, A), (B_IP, B), (B_IP6, B)):
        run("ip", "neigh", "replace", address, "lladdr", mac, "dev", "br-fc", "nud", "permanent")
    return a, b


@pytest.fixture
def outside(gateway):
    """The other end of a link that the host has a route to."""
    run("ip", "link", "add", "out0", "address", "02:fc:00:00:00:f0", "type", "veth", "peer", "name", "out1")
    for name in ("out0", "out1"):
        run("ip", "link", "set", name, "up")
    run("ip", "address", "add", "192.0.2.1/24", "dev", "out0")
    run("ip", "neigh", "replace", OUTSIDE_IP, "lladdr", OUTSIDE, "dev", "out0", "nud", "permanent")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as port:
        port.bind(("out1", 0x0800))
        port.settimeout(2)
        yield port


def reaches(a, b, gateway, src, dst, within=1.0):
    """A packet of a's to dst, by way of the gateway, arrives at b."""
    mark, kind, data = datagram(src, dst)
    a.send(ethernet(gateway, A, kind, data))
    return b.receive(lambda frame: mark in frame, within) is not None


def answers(a, gateway):
    """The host answers a's ping."""
    mark = os.urandom(16)
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + mark
    echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    a.send(ethernet(gateway, A, *packet(A_IP, HOST_IP, echo, 1)))
    return a.receive(lambda frame: mark in frame, 2.0) is not None


def arrives(port, mark):
    try:
        while mark not in port.recv(2048):
            pass
        return True
    except TimeoutError:
        return False


def test_frames_do_not(guests):
    """What isolation is about."""
    a, b = guests
    mark, kind, data = datagram(A_IP, B_IP)
    a.send(ethernet(B, A, kind, data))
    assert b.receive(lambda frame: mark in frame, 0.3) is None


def test_forwarded_packets_reach_the_neighbour(guests, gateway):
    """The limit that the documents name; and the control: the tests below can see what they say is not there."""
    a, b = guests
    assert reaches(a, b, gateway, A_IP, B_IP)
    assert reaches(a, b, gateway, A_IP6, B_IP6)


def test_the_rule_stops_them(guests, gateway, isolation_rule):
    a, b = guests
    isolation_rule()
    assert not reaches(a, b, gateway, A_IP, B_IP, within=0.3)
    assert not reaches(a, b, gateway, A_IP6, B_IP6, within=0.3)
    isolation_rule()  # once more is no harm
    assert run("nft", "list", "table", "inet", "fcproc_isolation").count(" drop") == 1
    run("nft", "delete", "table", "inet", "fcproc_isolation")
    assert reaches(a, b, gateway, A_IP, B_IP) and reaches(a, b, gateway, A_IP6, B_IP6)


def test_an_accept_elsewhere_does_not_undo_it(guests, gateway, isolation_rule):
    a, b = guests
    run("nft", "add table inet before { chain forward { type filter hook forward priority -300; accept; }; }")
    run("nft", "add table inet after { chain forward { type filter hook forward priority 300; accept; }; }")
    try:
        isolation_rule()
        assert not reaches(a, b, gateway, A_IP, B_IP, within=0.3)
    finally:
        run("nft", "delete table inet before; delete table inet after")


def test_the_rest_passes(guests, gateway, outside, isolation_rule):
    """Guest to host, guest to outside and back."""
    a, _ = guests
    isolation_rule()
    assert answers(a, gateway)
    mark, kind, data = datagram(A_IP, OUTSIDE_IP)
    a.send(ethernet(gateway, A, kind, data))
    assert arrives(outside, mark)
    mark, kind, data = datagram(OUTSIDE_IP, A_IP)
    outside.send(ethernet("02:fc:00:00:00:f0", OUTSIDE, kind, data))
    assert a.receive(lambda frame: mark in frame, 2.0)


def test_with_br_netfilter_frames_come_by_as_well(bridge, root, hold, isolation_rule):
    """As the rule's own comment says: taps that are not isolated are kept apart, too."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not switch.exists():
        pytest.skip("br_netfilter is not loaded")
    root.do("CreateTap", "tap0", isolated=False)
    root.do("CreateTap", "tap1", isolated=False)
    a, b = hold("root", "tap0"), hold("root", "tap1")
    assert a.arp(A, A_IP, HOST_IP) and b.arp(B, B_IP, HOST_IP)
    before = switch.read_text()
    try:
        switch.write_text("1")
        assert reaches(a, b, B, A_IP, B_IP)
        isolation_rule()
        assert not reaches(a, b, B, A_IP, B_IP, within=0.3)
        switch.write_text("0")
        assert reaches(a, b, B, A_IP, B_IP)
    finally:
        switch.write_text(before)
