# SPDX-License-Identifier: MIT
"""The service killed, the bus killed, the service restarted: what the kernel holds is whole afterwards.
Reloading a broken configuration is in test_configuration.py."""

import random
import signal
import subprocess
import time

import pytest

from daemons import Bus
from fcproc import FOREVER, Client, eventually, refused, run_until, sanitized
from machines import add_link, links, run, steady, taps

ALIAS = "org.banger.FcProc uid="
MOMENTS = 40 if sanitized() else 200


def test_killed_at_random_moments(make_service, bus, polkit, client, root_bus_client):
    """Hostile case 41: after the restart no tap without its owner's mark, no half-made bridge, nothing left over."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    service = make_service()
    root, alice = root_bus_client("root"), root_bus_client("alice")
    for moment in range(MOMENTS):
        service.start()
        pending = [root.begin("EnsureBridge")]
        for n in range(6):
            pending.append(alice.begin("CreateTap", f"tap{n}", **({"guest_mac": f"02:fc:00:00:00:{n:02x}"} if n % 2 else {})))
            pending.append(alice.begin("DeleteTap", f"tap{chance.randrange(6)}"))
        if moment % 5 == 4:
            pending.append(root.begin("RemoveBridge"))
        end = time.monotonic() + chance.uniform(0, 0.04)
        run_until(lambda: time.monotonic() >= end, 5, tick=0.001)
        service.expected_to_die = True
        service.kill()
        run_until(lambda: all(call.done for call in pending), 20, "the calls' failure")
    service.start()
    service.expected_to_die = False
    root.do("EnsureBridge")
    eventually(lambda: not [n for n in links() if n not in ("lo", "br-fc") and not n.startswith("tap")], 20, "the reserved names' end")
    for name, link in taps().items():
        mac = f" guest-mac=02:fc:00:00:00:{int(name[3:]):02x}" if int(name[3:]) % 2 else ""
        assert link.get("ifalias") == f"{ALIAS}{alice.uid}{mac}", (name, link)
        assert link.get("master") == "br-fc" and "UP" in link["flags"], (name, link)
    listed = {t[0] for t in alice.do("ListTaps")}
    assert listed == set(taps())
    for name in sorted(listed):
        alice.do("DeleteTap", name)
    root.do("RemoveBridge")
    assert set(links()) == {"lo"}


@pytest.fixture
def root_bus_client(bus):
    made = []

    def connect(who):
        made.append(Client(bus, who))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def test_the_bus_is_killed(make_service, programs):
    """Hostile case 42: the service ends cleanly, keeps what the kernel holds, and comes back with the bus."""
    first = Bus("bus-killed")
    service = make_service(bus=first).start()
    root = Client(first, "root")
    root.do("EnsureBridge")
    root.do("CreateTap", "tap0")
    before = steady(links())
    first.stop()
    assert service.process.wait(20) in (0, 1)  # by itself, not by a signal; 1 has systemd start it again
    service.expected_to_die = True
    service.stop()  # no sanitizer has spoken
    assert "bus" in service.log()
    assert steady(links()) == before
    second = Bus("bus-killed")
    try:
        again = make_service(bus=second).start()
        client = Client(second, "root")
        assert [t[0] for t in client.do("ListTaps")] == ["tap0"]
        client.close()
        again.stop()
    finally:
        second.stop()


def test_a_restart_keeps_all(service, bridge, alice, bob, vmm, hold):
    """Taps, bridge, holders, sockets and VMMs; only calls in flight are lost."""
    vm = vmm(alice, "web")
    alice.do("CreateTap", "tap0", guest_mac="02:fc:00:00:00:0a")
    bob.do("CreateTap", "fc1", mtu=1400)
    holder = hold("alice", "tap0")
    wait = alice.begin("WaitForExit", vm.pid, vm.sock, FOREVER)
    alice.ping()
    eventually(lambda: alice.do("ListTaps")[0][3]["carrier"], 2, "the carrier")
    before, listed = steady(links()), alice.do("ListTaps")
    service.restart()
    with pytest.raises(Exception, match="NoReply|ServiceUnknown|NameHasNoOwner|Cancelled"):
        wait.result()
    assert steady(links()) == before
    assert alice.do("ListTaps") == listed and bob.do("ListTaps")[0][0] == "fc1"
    assert holder.arp("02:fc:00:00:00:0a", "172.16.0.10", "172.16.0.1")
    assert alice.do("FindPID", vm.sock) == vm.pid and vm.alive()


def test_what_waits_for_its_delete_is_reaped_at_the_start(service, bridge, alice, root):
    """Replaced taps that a killed service left behind."""
    for call in [alice.begin("CreateTap", f"tap{n}") for n in range(30)]:
        call.result()
    pending = [alice.begin("CreateTap", f"tap{n}") for n in range(30)]
    eventually(lambda: any(call.done for call in pending), 10)
    service.expected_to_die = True
    service.kill()
    run_until(lambda: all(call.done for call in pending), 20)
    service.start()
    service.expected_to_die = False
    eventually(lambda: all(n.startswith("tap") or n in ("lo", "br-fc") for n in links()), 10, "the leftovers' end")
    assert {t[0] for t in alice.do("ListTaps")} <= {f"tap{n}" for n in range(30)}


def test_terminated_with_calls_in_flight(service, alice, vmm):
    """SIGTERM: it ends well, though calls and waits are parked (a leak would show in the sanitizers' build)."""
    vm = vmm(alice, "web")
    pending = [alice.begin("WaitForExit", vm.pid, vm.sock, FOREVER) for _ in range(5)]
    pending.append(alice.begin("EnsureSocketAccess", alice.sock("late"), "late"))
    alice.do("WatchExit", vm.pid, "", FOREVER)
    alice.do("Subscribe")
    alice.ping()
    service.stop()
    run_until(lambda: all(call.done for call in pending), 20)
    assert all(call.error for call in pending) and vm.alive()
    service.start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_when_told(make_service, number):
    service = make_service().start()
    service.process.send_signal(number)
    assert service.process.wait(20) == 0


def test_a_second_service(service, make_service, root):
    """The name is taken: the second goes, the first stays."""
    second = make_service()
    second.expected_to_die = True
    second.launch()
    assert second.process.wait(20) != 0
    assert second.log().strip()
    root.ping()


def test_the_bridge_is_removed_by_hand(bridge, alice, root):
    alice.do("CreateTap", "tap0")
    run("ip", "link", "del", "br-fc")
    with refused("NoSuchBridge"):
        alice.do("CreateTap", "tap1")
    root.do("EnsureBridge")
    alice.do("CreateTap", "tap0")
    assert links()["tap0"]["master"] == "br-fc"


def test_more_events_than_a_socket_holds(service, bridge, alice):
    """While the service cannot read, the kernel drops link events (ENOBUFS): it must look again, and miss nothing."""
    alice.do("Subscribe")
    for name in ("tap0", "tap1", "tap2"):
        alice.do("CreateTap", name)
    add_link("storm")
    service.process.send_signal(signal.SIGSTOP)
    try:
        storm = "".join(f"link set dev storm alias {n}\n" for n in range(20_000))
        subprocess.run(["ip", "-batch", "-"], input=(storm + "link del dev tap0\n").encode(), check=True)
        run("ip", "link", "del", "dev", "tap1")
    finally:
        service.process.send_signal(signal.SIGCONT)
    for name in ("tap0", "tap1"):
        alice.wait_signal("TapDeleted", name)
    assert {t[0] for t in alice.do("ListTaps")} == {"tap2"}
    assert alice.do("GetUsage")["taps"] == 1
    alice.do("CreateTap", "tap0")
    alice.do("DeleteTap", "tap2")
    assert set(taps()) == {"tap0"}


def test_links_of_others_come_and_go(service, bridge, alice):
    alice.do("CreateTap", "tap0")
    commands = "\n".join(f"link add d{n} type bridge\nlink set d{n} up\nlink del d{n}" for n in range(20))
    subprocess.run(["ip", "-batch", "-"], input=commands.encode(), check=True)
    alice.do("CreateTap", "tap1")
    assert {t[0] for t in alice.do("ListTaps")} == {"tap0", "tap1"}
    alice.do("DeleteTap", "tap0")
    assert "tap0" not in links() and "tap1" in links()
