# SPDX-License-Identifier: MIT
"""guest-mac and auto-delete, with holders of taps that behave like guests, good and bad."""

import os
import signal

import pytest

from fcproc import eventually, pause, refused
from machines import TUNSETOWNER, TUNSETPERSIST, HostPort, arp_request, assert_unchanged, fdb, links, snapshot, taps

A, B, STRANGER = "02:fc:00:00:00:0a", "02:fc:00:00:00:0b", "02:fc:00:00:00:0c"
HOST_IP = "172.16.0.1"


@pytest.fixture
def host(bridge):
    port = HostPort("br-fc")
    port.mac = links()["br-fc"]["address"]
    yield port
    port.close()


def hears(holder, host, mac, within=1.0):
    """A frame of the host's to mac arrives at this holder."""
    mark = host.send(mac, host.mac)
    return holder.receive(lambda frame: mark in frame, within) is not None


@pytest.fixture
def pair(bridge, alice, bob, hold):
    """Two neighbours with guest-mac."""
    alice.do("CreateTap", "tap0", guest_mac=A)
    bob.do("CreateTap", "tap1", guest_mac=B)
    return hold("alice", "tap0"), hold("bob", "tap1")


# --- guest-mac ---


def test_the_port_of_a_guest_mac(bridge, alice):
    alice.do("CreateTap", "tap0", guest_mac=A.upper())
    port = links()["tap0"]["linkinfo"]["info_slave_data"]
    assert port["locked"] and not port["learning"] and not port["flood"]
    entry = [e for e in fdb("tap0") if e["mac"] == A]
    assert len(entry) == 1 and entry[0]["state"] == "static" and "sticky" in entry[0]["flags"]
    assert alice.do("ListTaps")[0][3]["guest-mac"] == A


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "", "02:fc:00:00:00", "02:fc:00:00:00:0",
                                 "02:fc:00:00:00:0a:0b", "02-fc-00-00-00-0a", "02fc0000000a", "02:fc:00:00:00:0g", " 02:fc:00:00:00:0a"])  # fmt: skip
def test_no_such_mac(bridge, alice, mac):
    """Hostile case 8."""
    before = snapshot()
    with refused("InvalidArgs", says="guest-mac"):
        alice.do("CreateTap", "tap0", guest_mac=mac)
    assert_unchanged(before)


def test_a_mac_in_use(bridge, alice, bob):
    """Hostile case 8: the bridge's own, another tap's own, another guest's."""
    bob.do("CreateTap", "tap1", guest_mac=B)
    before = snapshot()
    for mac in (links()["br-fc"]["address"], links()["tap1"]["address"], B):
        with refused("InUse", says=mac):
            alice.do("CreateTap", "tap0", guest_mac=mac)
    assert_unchanged(before)


def test_an_honest_guest(pair, host):
    a, b = pair
    assert a.arp(A, "172.16.0.10", HOST_IP) and b.arp(B, "172.16.0.11", HOST_IP)
    assert hears(a, host, A) and hears(b, host, B)


def test_without_guest_mac_a_spoof_works(bridge, alice, bob, hold, host):
    """The control: it is guest-mac that stops it, not the test that cannot see it."""
    alice.do("CreateTap", "tap0")
    bob.do("CreateTap", "tap1")
    a, b = hold("alice", "tap0"), hold("bob", "tap1")
    assert b.arp(B, "172.16.0.11", HOST_IP)
    assert hears(b, host, B)
    a.send(arp_announcement(B))
    assert a.arp(A, "172.16.0.10", HOST_IP)
    assert hears(a, host, B)


def arp_announcement(mac):
    return arp_request(mac, "172.16.0.99", "172.16.0.99")


def test_another_guests_mac(pair, host):
    """Hostile case 39: dropped, and the neighbour stays reachable."""
    a, b = pair
    assert b.arp(B, "172.16.0.11", HOST_IP)
    for _ in range(5):
        a.send(arp_announcement(B))
    assert a.arp(B, "172.16.0.11", HOST_IP, within=0.3) is None
    assert a.arp(A, "172.16.0.10", HOST_IP)
    assert hears(b, host, B) and not hears(a, host, B, within=0.2)


def test_the_bridges_mac(pair, host):
    """Hostile case 39."""
    a, b = pair
    for _ in range(5):
        a.send(arp_announcement(host.mac))
    assert a.arp(A, "172.16.0.10", HOST_IP)
    assert b.arp(B, "172.16.0.11", HOST_IP), "the host is not reachable"
    assert hears(b, host, B)


def test_a_strangers_mac(pair):
    a, _ = pair
    assert a.arp(STRANGER, "172.16.0.12", HOST_IP, within=0.3) is None
    assert not [e for e in fdb("tap0") if e["mac"] == STRANGER]


def test_a_learning_port_cannot_take_it(pair, bridge, bob, hold, host):
    """The entry is sticky: it does not move to a port that learns."""
    a, _ = pair
    bob.do("CreateTap", "tap2")
    spoofer = hold("bob", "tap2")
    for _ in range(5):
        spoofer.send(arp_announcement(A))
    assert spoofer.arp(STRANGER, "172.16.0.12", HOST_IP)
    assert hears(a, host, A) and not hears(spoofer, host, A, within=0.2)


@pytest.mark.parametrize("guest_mac", [True, False], ids=["guest-mac", "learning"])
def test_a_holder_that_takes_his_neighbours_mac(bridge, alice, bob, hold, host, guest_mac):
    """Hostile case 39: his tap leaves the bridge, the neighbour stays reachable."""
    alice.do("CreateTap", "tap0", **({"guest_mac": A} if guest_mac else {}))
    bob.do("CreateTap", "tap1", guest_mac=B)
    a, b = hold("alice", "tap0"), hold("bob", "tap1")
    assert b.arp(B, "172.16.0.11", HOST_IP)
    a.set_mac(B)
    eventually(lambda: links().get("tap0", {}).get("master") != "br-fc", 2, "tap0's leaving the bridge")
    assert links()["tap1"]["master"] == "br-fc"
    eventually(lambda: [e for e in fdb("tap1") if e["mac"] == B and e["state"] == "static"], 2, "the neighbour's entry")
    assert hears(b, host, B) and b.arp(B, "172.16.0.11", HOST_IP)


def test_a_holder_who_gives_his_tap_away(bridge, alice, bob, hold):
    """The tun owner is no evidence."""
    alice.do("CreateTap", "tap0")
    holder = hold("alice", "tap0")
    holder.ioctl(TUNSETOWNER, bob.uid)
    with refused("AccessDenied", "InteractiveAuthorizationRequired"):
        bob.do("DeleteTap", "tap0")
    assert [t[2] for t in alice.do("ListTaps")] == [alice.uid]
    alice.do("DeleteTap", "tap0")


def test_a_holder_who_ends_persistence(bridge, alice, hold):
    """What is gone is gone; its owner can make it anew."""
    alice.do("Subscribe")
    alice.do("CreateTap", "tap0")
    holder = hold("alice", "tap0")
    holder.ioctl(TUNSETPERSIST, 0)
    holder.close()
    alice.wait_signal("TapDeleted", "tap0")
    with refused("NoSuchTap"):
        alice.do("DeleteTap", "tap0")
    alice.do("CreateTap", "tap0")


# --- auto-delete (hostile case 40: the tap is gone within a second, and only that one) ---


@pytest.fixture
def others(bridge, bob, hold):
    """Taps that must stay: held with auto-delete, let go without, and never held by a creator who is there."""
    bob.do("CreateTap", "fc-held", auto_delete=True)
    bob.do("CreateTap", "fc-plain")
    bob.do("CreateTap", "fc-waits", auto_delete=True)
    hold("bob", "fc-held")
    hold("bob", "fc-plain").close()
    names = {"fc-held", "fc-plain", "fc-waits"}
    yield names
    assert names <= set(taps()), "another tap was deleted, too"


def gone(name, within=1.0):
    eventually(lambda: name not in taps(), within, f"the end of {name}")


def held_by_a_process(start, hold, name, *command):
    """The VMM's place is taken by a process of its own that has inherited the descriptor."""
    holder = hold("alice", name)
    process = start(*command, pass_fds=[holder.fd], env={"TAP_FD": str(holder.fd), "PATH": os.environ["PATH"]}, stdin=-1)
    holder.close()
    return process


def test_the_alias(bridge, alice):
    alice.do("CreateTap", "tap0", auto_delete=True)
    assert links()["tap0"]["ifalias"] == f"org.banger.FcProc uid={alice.uid} auto-delete={alice.name}"
    assert alice.do("ListTaps")[0][3]["auto-delete"] is True
    alice.do("CreateTap", "tap0", auto_delete=True, guest_mac=A.upper())
    assert links()["tap0"]["ifalias"] == f"org.banger.FcProc uid={alice.uid} guest-mac={A} auto-delete={alice.name}"
    alice.do("CreateTap", "tap0", guest_mac=A)
    assert links()["tap0"]["ifalias"] == f"org.banger.FcProc uid={alice.uid} guest-mac={A}"


def test_the_vmm_lets_go(others, alice, hold):
    alice.do("Subscribe")
    alice.do("CreateTap", "tap0", auto_delete=True)
    hold("alice", "tap0").close()
    gone("tap0")
    alice.wait_signal("TapDeleted", "tap0")


def test_the_vmm_is_killed(others, alice, hold, start):
    alice.do("CreateTap", "tap0", auto_delete=True)
    process = held_by_a_process(start, hold, "tap0", "cat")
    alice.ping()
    assert "tap0" in taps()
    process.send_signal(signal.SIGKILL)
    gone("tap0")


def test_the_vmm_executes_another_program(others, alice, hold, start):
    alice.do("CreateTap", "tap0", auto_delete=True)
    process = held_by_a_process(start, hold, "tap0", "bash", "-c", 'read; eval "exec $TAP_FD>&-"; exec cat')
    alice.ping()
    assert "tap0" in taps()
    process.stdin.write(b"\n")
    process.stdin.flush()
    gone("tap0")
    assert process.poll() is None


def test_the_creator_vanishes_before_anything_attached(others, client):
    creator = client("alice")
    creator.do("CreateTap", "tap0", auto_delete=True)
    creator.close()
    gone("tap0")


def test_the_creator_vanishes_later(others, client, hold):
    creator = client("alice")
    creator.do("CreateTap", "tap0", auto_delete=True)
    holder = hold("alice", "tap0")
    creator.close()
    pause(0.3)
    assert "tap0" in taps()
    holder.close()
    gone("tap0")


def test_the_creator_stays(others, alice):
    """Nothing attached yet, nothing has let go."""
    alice.do("CreateTap", "tap0", auto_delete=True)
    pause(0.3)
    assert "tap0" in taps()


def test_the_vmm_lets_go_while_the_service_is_away(others, service, alice, hold):
    alice.do("CreateTap", "tap0", auto_delete=True)
    holder = hold("alice", "tap0")
    service.stop()
    holder.close()
    service.start()
    gone("tap0")


def test_the_creator_vanishes_while_the_service_is_away(others, service, client):
    creator = client("alice")
    creator.do("CreateTap", "tap0", auto_delete=True)
    service.stop()
    creator.close()
    service.start()
    gone("tap0")


def test_a_restart_in_between(others, service, client, hold):
    """The creator, or the VMM, outlives the service: nothing is deleted until it goes, then it is."""
    creator = client("alice")
    creator.do("CreateTap", "tap0", auto_delete=True)
    creator.do("CreateTap", "tap1", auto_delete=True)
    holder = hold("alice", "tap1")
    service.restart()
    creator.ping()
    pause(0.3)
    assert {"tap0", "tap1"} <= set(taps())
    creator.close()
    gone("tap0")
    assert "tap1" in taps()
    holder.close()
    gone("tap1")


def test_killed_in_between(others, service, client, hold):
    """The same with a service that had no chance to write anything down."""
    creator = client("alice")
    creator.do("CreateTap", "tap0", auto_delete=True)
    creator.do("CreateTap", "tap1", auto_delete=True)
    holder = hold("alice", "tap1")
    service.kill()
    holder.close()
    creator.close()
    service.start()
    gone("tap0")
    gone("tap1")


def test_a_replaced_tap(others, alice, client, hold):
    """The new one's auto-delete counts, not the old one's."""
    creator = client("alice")
    creator.do("CreateTap", "tap0", auto_delete=True)
    holder = hold("alice", "tap0")
    index = alice.do("CreateTap", "tap0")
    creator.close()
    holder.close()
    pause(0.3)
    assert taps()["tap0"]["ifindex"] == index
