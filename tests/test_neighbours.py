# SPDX-License-Identifier: MIT
"""Neighbours on one bridge: what the holder of a tap can do to its link, and what that does to the others."""

import os
import signal
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

import daemons
from daemons import grant
from fcproc import BUILD, WORK, eventually, pause, refused, sanitized
from machines import (TUNSETOWNER, TUNSETPERSIST, HostPort, add_link, assert_unchanged, fdb, links, mac_bytes, run, snapshot,
                      taps)  # fmt: skip

A, B, C = "02:fc:00:00:00:0a", "02:fc:00:00:00:0b", "02:fc:00:00:00:0c"
HOST_IP = "172.16.0.1"
TUNSETCARRIER = 0x400454E2


def taken(name):
    return links()[name]["address"]


class Wire:
    """The host's end of the bridge, and whether a frame gets through."""

    def __init__(self):
        self.port = HostPort("br-fc")
        self.mac = links()["br-fc"]["address"]

    def reaches(self, holder, mac, within=1.0):
        mark = self.port.send(mac, self.mac)
        return holder.receive(lambda frame: mark in frame, within) is not None


@pytest.fixture
def wire(bridge):
    wire = Wire()
    yield wire
    wire.port.close()


@pytest.fixture
def neighbour(bridge, bob, hold):
    """bob's tap, whose guest has B."""
    bob.do("CreateTap", "tap1", guest_mac=B)
    return hold("bob", "tap1")


@pytest.fixture
def listener(bridge, alice, hold):
    """The attacker's second tap, with an address of its own."""
    alice.do("CreateTap", "tap9", guest_mac=C)
    return hold("alice", "tap9")


def entries(name, mac):
    return [e for e in fdb(name) if e["mac"] == mac]


def has_entry(name="tap1", mac=B):
    found = entries(name, mac)
    return bool(found) and all(e["state"] == "static" and "sticky" in e["flags"] for e in found)


def on_the_bridge(name):
    return links().get(name, {}).get("master") == "br-fc"


def assert_served(wire, neighbour, listener=None):
    """Both ways work, by the entry and not by flooding, and nobody else hears it."""
    eventually(has_entry, 2, "the neighbour's entry")
    assert not links()["tap1"]["linkinfo"]["info_slave_data"]["flood"], "a port with guest-mac hears what is flooded"
    eventually(lambda: wire.reaches(neighbour, B, within=0.2), 2, "the host's frame at the neighbour")
    eventually(lambda: neighbour.arp(B, "172.16.0.11", HOST_IP, within=0.2), 2, "the host's answer to the neighbour")
    if listener:
        for _ in range(20):
            assert not wire.reaches(listener, B, within=0.01), "the attacker hears the neighbour's frames"


# --- a holder that takes its neighbour's address ---


@pytest.fixture(params=["guest-mac", "learning"])
def attacker(request, bridge, alice, hold):
    alice.do("CreateTap", "tap0", **({"guest_mac": A} if request.param == "guest-mac" else {}))
    return hold("alice", "tap0")


def stays_persistent(holder):
    pass


def not_persistent(holder):
    holder.ioctl(TUNSETPERSIST, 0)


def without_carrier(holder):
    holder.ioctl(TUNSETCARRIER, struct.pack("i", 0))


def another_owner(holder):
    holder.ioctl(TUNSETOWNER, 65533)


@pytest.mark.parametrize("first", [stays_persistent, not_persistent, without_carrier, another_owner], ids=lambda f: f.__name__)
def test_a_taken_address(wire, neighbour, listener, attacker, service, first):
    """Hostile case 39: whatever else the holder has changed before."""
    assert_served(wire, neighbour, listener)
    first(attacker)
    attacker.set_mac(B)
    eventually(lambda: not on_the_bridge("tap0"), 2, "tap0's leaving the bridge")
    assert on_the_bridge("tap1") and on_the_bridge("tap9")
    assert_served(wire, neighbour, listener)
    assert "its holder changed its MAC; its neighbour's entry was put back" in service.log()


@pytest.mark.parametrize("looks", [True, False], ids=["looks", "does-not-look"])
def test_there_and_back(wire, neighbour, listener, attacker, service, looks):
    """Changed back, maybe before the service has had the processor to look."""
    own = taken("tap0")
    if not looks:
        os.kill(service.process.pid, signal.SIGSTOP)
    attacker.set_mac(B)
    attacker.set_mac(own)
    os.kill(service.process.pid, signal.SIGCONT)
    eventually(lambda: not on_the_bridge("tap0"), 2, "tap0's leaving the bridge")
    assert_served(wire, neighbour, listener)


SWITCH = """
import fcntl, os
tap, addresses = int(os.environ["TAP_FD"]), [bytes.fromhex(a) for a in os.environ["ADDRESSES"].split()]
for n in range(int(os.environ["TIMES"])):
    for address in addresses:
        fcntl.ioctl(tap, 0x8924, address)
"""


def ifreq(name, mac):
    return struct.pack("16sH6s16x", name.encode(), 1, mac_bytes(mac)).hex()


def switch(start, holder, who, *macs, times=1000):
    """One after the other, as fast as can be, by another process."""
    return start("python3", "-c", SWITCH, pass_fds=[holder.fd], user=who.uid,
                 env={"TAP_FD": str(holder.fd), "ADDRESSES": " ".join(ifreq(holder.name, mac) for mac in macs),
                      "TIMES": str(times), "PATH": os.environ["PATH"]})  # fmt: skip


@pytest.mark.parametrize("last", ["bad", "good"])
def test_a_thousand_changes(wire, neighbour, listener, attacker, alice, start, last):
    own = taken("tap0")
    assert switch(start, attacker, alice, *((own, B) if last == "bad" else (B, own))).wait(60) == 0
    eventually(lambda: not on_the_bridge("tap0"), 2, "tap0's leaving the bridge")
    assert_served(wire, neighbour, listener)
    pause(0.1)
    assert_served(wire, neighbour, listener)


def test_reports_that_are_lost(wire, neighbour, listener, attacker, alice, service, start):
    """More than the kernel keeps for a service that is not given the processor."""
    os.kill(service.process.pid, signal.SIGSTOP)
    attack = switch(start, attacker, alice, taken("tap0"), B, times=40_000)
    assert attack.wait(60) == 0
    os.kill(service.process.pid, signal.SIGCONT)
    eventually(lambda: not on_the_bridge("tap0"), 5, "tap0's leaving the bridge")
    assert "Link reports were lost" in service.log() and "forwarding tables were lost" in service.log()
    assert_served(wire, neighbour, listener)


def test_two_that_take_turns(wire, neighbour, alice, hold, start):
    """Each has the address while the other is cut off."""
    holders = []
    for name in ("tap2", "tap3"):
        alice.do("CreateTap", name)
        holders.append(hold("alice", name))
    attacks = [switch(start, holder, alice, B, taken(holder.name)) for holder in holders]
    for attack in attacks:
        assert attack.wait(60) == 0
    eventually(lambda: not on_the_bridge("tap2") and not on_the_bridge("tap3"), 2, "their leaving the bridge")
    assert_served(wire, neighbour)


SEND = """
import os
tap, frame = int(os.environ["TAP_FD"]), bytes.fromhex(os.environ["FRAME"])
while True:
    try:
        os.write(tap, frame)
    except OSError:
        pass
"""


def test_a_learning_port_beside_it(wire, neighbour, attacker, alice, hold, start):
    """While the entry is away another tap of the attacker's sends from the address, and the bridge learns it there."""
    alice.do("CreateTap", "tap2")
    sender = hold("alice", "tap2")
    frame = bytes(10) + mac_bytes("ff:ff:ff:ff:ff:ff") + mac_bytes(B) + b"\x88\xb6" + bytes(46)
    start("python3", "-c", SEND, pass_fds=[sender.fd], user=alice.uid,
          env={"TAP_FD": str(sender.fd), "FRAME": frame.hex(), "PATH": os.environ["PATH"]})  # fmt: skip
    pause(0.2)
    assert has_entry()
    attacker.set_mac(B)
    eventually(lambda: not on_the_bridge("tap0"), 2, "tap0's leaving the bridge")
    eventually(has_entry, 2, "the neighbour's entry")
    assert not entries("tap2", B)
    eventually(lambda: wire.reaches(neighbour, B, within=0.2), 2, "the neighbour")


def test_an_accomplice_cannot_have_the_address(wire, neighbour, attacker, alice, root, start):
    """While the entry is away the address is still the neighbour's; for somebody who took no part, too."""
    attack = switch(start, attacker, alice, B, taken("tap0"))
    while attack.poll() is None:
        with refused("InUse", says=B):
            root.do("CreateTap", "tap3", guest_mac=B)
    eventually(lambda: not on_the_bridge("tap0"), 2, "tap0's leaving the bridge")
    assert_served(wire, neighbour)


def test_the_address_is_kept_though_its_entry_is_away(neighbour, service, root):
    """Whichever the service looks at first: the report, or the call of somebody who wants the address."""
    for n in range(6):
        os.kill(service.process.pid, signal.SIGSTOP)
        call = root.begin("CreateTap", "tap3", guest_mac=B) if n % 2 else None
        run("bridge", "fdb", "del", B, "dev", "tap1", "master")
        call = call or root.begin("CreateTap", "tap3", guest_mac=B)
        os.kill(service.process.pid, signal.SIGCONT)
        with refused("InUse", says=B):
            call.result()
        eventually(has_entry, 2, "the neighbour's entry")


def test_a_tap_that_is_just_made(bridge, bob, wire, hold, attacker, alice, start):
    """Its entry goes while the worker is at it."""
    attack = switch(start, attacker, alice, B, taken("tap0"))
    while True:
        try:
            bob.do("CreateTap", "tap1", guest_mac=B)
            break
        except Exception as error:
            assert error.name.endswith("InUse"), error
    attack.wait(60)
    assert_served(wire, hold("bob", "tap1"))


# --- the entry is kept ---


def test_an_entry_that_is_deleted_by_hand(wire, neighbour, service):
    for _ in range(3):
        run("bridge", "fdb", "del", B, "dev", "tap1", "master")
        eventually(has_entry, 2, "the neighbour's entry")
    assert_served(wire, neighbour)


def test_every_entry_at_once(bridge, bob):
    """One report for each, and more than one gulp."""
    names = [f"tap{n}" for n in range(40)]
    for n, name in enumerate(names):
        bob.do("CreateTap", name, guest_mac=f"02:fc:00:00:01:{n:02x}")
    batch = "".join(f"fdb del 02:fc:00:00:01:{n:02x} dev {name} master\n" for n, name in enumerate(names))
    subprocess.run(["bridge", "-batch", "-"], input=batch.encode(), check=True)
    eventually(lambda: all(has_entry(name, f"02:fc:00:00:01:{n:02x}") for n, name in enumerate(names)), 5, "the entries")


def test_the_service_was_away(wire, neighbour, attacker, service):
    """The guest-mac is in the alias: what went meanwhile is put back."""
    service.kill()
    run("bridge", "fdb", "del", B, "dev", "tap1", "master")
    assert not has_entry()
    service.start()
    assert_served(wire, neighbour)
    service.kill()
    attacker.set_mac(B)
    assert not has_entry()
    service.start()
    eventually(lambda: not on_the_bridge("tap0"), 2, "tap0's leaving the bridge")
    assert_served(wire, neighbour)


def test_an_entry_of_a_deleted_tap(bridge, alice, bob):
    """Nothing is put back for who is gone."""
    bob.do("CreateTap", "tap1", guest_mac=B)
    bob.do("DeleteTap", "tap1")
    alice.do("CreateTap", "tap0", guest_mac=B)
    assert has_entry("tap0")


def test_the_address_of_a_tap_off_the_bridge_is_free(bridge, alice, bob, hold):
    alice.do("CreateTap", "tap0", guest_mac=A)
    hold("alice", "tap0").set_mac("02:fc:00:00:00:99")
    eventually(lambda: not on_the_bridge("tap0"), 2, "tap0's leaving the bridge")
    bob.do("CreateTap", "tap1", guest_mac=A)
    pause(0.1)
    assert has_entry("tap1", A)


# --- when the kernel refuses ---

RTM_NEWLINK, RTM_GETLINK, RTM_NEWNEIGH = 16, 18, 28


@pytest.fixture
def refuse(monkeypatch, make_service):
    """A service, and a function that says which of its requests are refused from now on (0: none)."""
    program = BUILD / "tests" / "fcprocd-refusing-kernel"
    if not program.exists():
        pytest.skip(f"{program} is not built")
    monkeypatch.setattr(daemons, "FCPROCD", program)
    control = WORK / "refuse"

    def say(request):
        control.write_text(f"{request}\n")

    say(0)
    make_service(environment={"FCPROC_REFUSE": str(control)}).start()
    return say


def test_a_list_is_whole_or_an_error(refuse, polkit, client):
    root = client("root")
    root.do("EnsureBridge")
    root.do("CreateTap", "tap0")
    refuse(RTM_GETLINK)
    with refused("KernelRefused", says="tap0"):
        root.do("ListTaps")
    refuse(0)
    assert [t[0] for t in root.do("ListTaps")] == ["tap0"]


@pytest.mark.parametrize("request_type", [RTM_NEWLINK, RTM_GETLINK, RTM_NEWNEIGH], ids=["NEWLINK", "GETLINK", "NEWNEIGH"])
def test_what_was_refused_is_done_later(refuse, polkit, client, hold, request_type):
    root = client("root")
    root.do("EnsureBridge")
    root.do("CreateTap", "tap0")
    root.do("CreateTap", "tap1", guest_mac=B)
    attacker = hold("root", "tap0")
    refuse(request_type)
    attacker.set_mac(B)
    pause(0.3)
    assert not has_entry()
    refuse(0)
    eventually(lambda: not on_the_bridge("tap0") and has_entry(), 3, "the end of the attack")


# --- before anybody holds it ---


def test_udev(wire, bridge, alice, neighbour, hold):
    """A MAC that was changed before anybody attached is put back, and what it took is given back."""
    alice.do("CreateTap", "tap0", guest_mac=A)
    own = taken("tap0")
    for mac in ("02:aa:aa:aa:aa:aa", B):
        run("ip", "link", "set", "tap0", "address", mac)
        eventually(lambda: taken("tap0") == own, 2, "its own MAC")
        assert on_the_bridge("tap0")
    assert has_entry("tap0", A)
    assert_served(wire, neighbour)
    holder = hold("alice", "tap0")  # whose carrier takes a moment
    eventually(lambda: holder.arp(A, "172.16.0.10", HOST_IP, within=0.2), 5, "the host")


# --- addresses that are more than a guest's ---

GATEWAY = "06:00:00:00:00:fe"


def asks_for_more(alice, root, polkit, mac):
    """manage-others instead of create-tap; uid 0 is not asked."""
    before = snapshot()
    with refused("AccessDenied", "InteractiveAuthorizationRequired", says=[mac, "manage-others"]):
        alice.do("CreateTap", "tap0", guest_mac=mac)
    assert_unchanged(before)
    polkit.rules(grant("alice", "create-tap", "manage-others"))
    alice.do("CreateTap", "tap0", guest_mac=mac)
    assert has_entry("tap0", mac)
    alice.do("DeleteTap", "tap0")
    root.do("CreateTap", "tap1", guest_mac=mac)
    assert has_entry("tap1", mac)


@pytest.mark.parametrize("mac", ["00:16:3e:00:00:01", "fc:00:00:00:00:01", "a0:b1:c2:d3:e4:f5"])
def test_an_address_that_is_not_locally_administered(bridge, alice, root, polkit, mac):
    asks_for_more(alice, root, polkit, mac)


def test_it_is_known_before_polkit_is_asked(bridge, alice, polkit):
    """manage-others is asked for instead of create-tap, not beside it."""
    polkit.rules(grant("alice", "manage-others"))
    alice.do("CreateTap", "tap0", guest_mac="00:16:3e:00:00:01")


def known_as(address, mac=GATEWAY):
    run("ip", "neigh", "replace", address, "lladdr", mac, "dev", "br-fc", "nud", "permanent")


WAYS = {
    "IPv4": ("172.16.0.254", ["ip route add 10.9.0.0/16 via 172.16.0.254 dev br-fc"]),
    "another table": ("172.16.0.254", ["ip route add default via 172.16.0.254 dev br-fc table 77"]),
    "multipath": ("172.16.0.254", ["ip route add 10.9.0.0/16 nexthop via 172.16.0.253 dev br-fc nexthop via 172.16.0.254 dev br-fc"]),
    "a next hop of its own": ("172.16.0.254", ["ip nexthop add id 5 via 172.16.0.254 dev br-fc", "ip route add 10.9.0.0/16 nhid 5"]),
    "IPv6": ("fd00::fe", ["ip -6 addr add fd00::1/64 dev br-fc nodad", "ip -6 route add fd01::/64 via fd00::fe dev br-fc"]),
    "IPv4 by IPv6": ("fe80::fe", ["ip route add 10.9.0.0/16 via inet6 fe80::fe dev br-fc"]),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.replace(" ", "-"))
def test_a_gateways_address(bridge, alice, bob, hold, root, polkit, way):
    """Who has it answers for the rest of the world."""
    bob.do("CreateTap", "tap8")
    hold("bob", "tap8")
    eventually(lambda: "LOWER_UP" in links()["br-fc"]["flags"], 5, "the bridge's carrier")
    address, commands = WAYS[way]
    for command in commands:
        run(*command.split())
    known_as(address)
    asks_for_more(alice, root, polkit, GATEWAY)
    alice.do("CreateTap", "tap2", guest_mac=A)


def test_a_neighbours_address_is_no_gateways(bridge, alice):
    """A neighbour that nothing is routed over; a gateway on another link."""
    add_link("uplink")
    run("ip", "link", "set", "uplink", "up")
    run("ip", "addr", "add", "192.0.2.1/24", "dev", "uplink")
    run("ip", "route", "add", "10.9.0.0/16", "via", "192.0.2.254", "dev", "uplink", "onlink")
    run("ip", "neigh", "replace", "192.0.2.254", "lladdr", GATEWAY, "dev", "uplink", "nud", "permanent")
    known_as("172.16.0.254")
    alice.do("CreateTap", "tap0", guest_mac=GATEWAY)


def test_a_refused_gateways_address_displaces_nothing(bridge, alice):
    index = alice.do("CreateTap", "tap0")
    run("ip", "route", "add", "10.9.0.0/16", "via", "172.16.0.254", "dev", "br-fc")
    known_as("172.16.0.254")
    with refused("AccessDenied", "InteractiveAuthorizationRequired", says="a gateway's"):
        alice.do("CreateTap", "tap0", guest_mac=GATEWAY)
    assert taps()["tap0"]["ifindex"] == index


# --- floods ---

FLOOD = """
import fcntl, os
tap, uid = int(os.environ["TAP_FD"]), int(os.environ["TAP_UID"])
while True:
    for _ in range(10_000):
        fcntl.ioctl(tap, 0x400454CC, uid)
"""


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(client, calls=300):
    """p50 and p99 of a call that reads the links, in milliseconds."""
    times = []
    for _ in range(calls):
        before = time.monotonic()
        client.do("GetUsage")
        times.append((time.monotonic() - before) * 1000)
    times.sort()
    return statistics.median(times), times[int(calls * 0.99)]


def test_a_flood_of_link_reports(bridge, service, alice, bob, hold, start):
    """Whoever holds a tap can change it a hundred thousand times a second, and every change is a report."""
    alice.do("CreateTap", "tap0")
    holder = hold("alice", "tap0")
    idle = timed(bob)
    start("python3", "-c", FLOOD, pass_fds=[holder.fd], user=alice.uid,
          env={"TAP_FD": str(holder.fd), "TAP_UID": str(alice.uid), "PATH": os.environ["PATH"]})  # fmt: skip
    pause(0.5)
    cpu, began = cpu_seconds(service.process.pid), time.monotonic()
    pause(2.0)
    share = (cpu_seconds(service.process.pid) - cpu) / (time.monotonic() - began)
    for _ in range(3):  # the machine may have others to serve
        flooded = timed(bob)
        if flooded[1] < 100:
            break
    print(f"\nGetUsage, p50 and p99 in ms: idle {idle[0]:.2f} {idle[1]:.2f}, flooded {flooded[0]:.2f} {flooded[1]:.2f};"
          f" fcprocd takes {share:.0%} of a core meanwhile")  # fmt: skip
    assert flooded[1] < 100 or sanitized(), "the design's hostile case: 100 ms"
    assert "tap0" in taps() and links()["tap0"]["master"] == "br-fc"


MAKES_ANEW = """
import fcntl, os, struct, sys, threading, time
from gi.repository import Gio, GLib
address, seconds, mac, threads = sys.argv[1], float(sys.argv[2]), bytes.fromhex(sys.argv[3]), int(sys.argv[4])
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
bus = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
end, takings = time.monotonic() + seconds, []
print("ready", flush=True)

def run(name):
    while time.monotonic() < end:
        try:
            bus.call_sync("org.banger.FcProc", "/org/banger/FcProc", "org.banger.FcProc", "CreateTap",
                          GLib.Variant("(sa{sv})", (name, {})), None, 0, 5000, None)
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x5002))
            fcntl.ioctl(fd, 0x8924, struct.pack("16sH6s16x", name.encode(), 1, mac))
            os.close(fd)
            takings.append(name)
        except (GLib.Error, OSError):
            time.sleep(0.001)

workers = [threading.Thread(target=run, args=(f"tapr{n}",)) for n in range(threads)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(len(takings), flush=True)
"""


def test_taps_made_anew_to_take_it_again(wire, neighbour, bridge, alice, bob, bus, start, service):
    """Replacing costs its holder nothing; who took an address may make no tap for a while (found by trying: eight taps, made
    anew and anew, kept a neighbour out of reach 93 % of the time)."""
    account = alice.account
    vandal = start(sys.executable, "-c", MAKES_ANEW, bus.address, "3", B.replace(":", ""), "8", user=account.uid,
                   group=account.gid, extra_groups=account.groups, stdout=subprocess.PIPE, cwd="/")  # fmt: skip
    assert vandal.stdout.readline() == b"ready\n"
    takings = int(vandal.communicate(timeout=30)[0])
    assert 0 < takings <= 24, f"{takings} takings in 3 s"
    with refused("AccessDenied", says="neighbour's address"):
        alice.do("CreateTap", "tapr0")
    bob.do("CreateTap", "tap8")
    assert_served(wire, neighbour)


def test_ones_own_address_is_nobodys_business(wire, bridge, alice, hold):
    """A tap that takes the address of another of the same user's leaves the bridge, and that is all."""
    alice.do("CreateTap", "tap2", guest_mac=A)
    alice.do("CreateTap", "tap3")
    hold("alice", "tap3").set_mac(A)
    eventually(lambda: not on_the_bridge("tap3"), 5, "its leaving the bridge")
    alice.do("CreateTap", "tap3")
