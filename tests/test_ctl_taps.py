# SPDX-License-Identifier: MIT
"""fcprocctl: the bridge, taps, the directory and the binary."""

import json
import re

import pytest

import machines
from ctl import DENIED, DONE, FAILED, USAGE
from fcproc import WORK, Account, eventually


def test_bridge(service, ctl, polkit):
    assert ctl("alice", "ensure-bridge").out == "br-fc 172.16.0.1/24\n"
    answer = ctl("alice", "ensure-bridge", "-j").json
    assert answer.keys() == {"bridge", "ifindex", "address"}
    assert (answer["bridge"], answer["address"]) == ("br-fc", "172.16.0.1/24")
    ctl("alice", "create-tap", "tap0")
    assert "br-fc" in ctl("alice", "remove-bridge", code=FAILED).err
    ctl("alice", "delete-tap", "tap0")
    assert "removed" in ctl("alice", "remove-bridge").out
    assert "no bridge" in ctl("alice", "remove-bridge").err
    assert ctl("alice", "remove-bridge", "-j").json == {"removed": False}
    assert ctl("alice", "remove-bridge", "-q").err == ""
    ctl("alice", "ensure-bridge", "-q")
    assert ctl("alice", "remove-bridge", "--json=pretty").json == {"removed": True}


def test_socket_dir_and_binary(service, ctl):
    path = f"/run/banger/{Account('alice').uid}"
    assert ctl("alice", "ensure-socket-dir").out == path + "\n"
    assert ctl("alice", "ensure-socket-dir", "-j").json == {"path": path}
    assert ctl("alice", "resolve-binary").out == f"{WORK}/bin/firecracker\n"
    assert ctl("alice", "resolve-binary", "--json=pretty").json == {"path": f"{WORK}/bin/firecracker"}


@pytest.mark.config(firecracker_bin="/nonexistent/firecracker")
def test_no_binary(service, ctl):
    assert "/nonexistent/firecracker" in ctl("alice", "resolve-binary", code=FAILED).err
    assert ctl("alice", "-j", "resolve-binary", code=FAILED).error["name"].endswith(".BinaryNotFound")


def test_taps(bridge, ctl, alice):
    result = ctl("alice", "create-tap", "tap0", "tap1", "fc2")
    assert re.fullmatch(r"tap0: created, index \d+\ntap1: created, index \d+\nfc2: created, index \d+\n", result.out)
    assert {tap[0] for tap in alice.do("ListTaps")} == {"tap0", "tap1", "fc2"}
    made = ctl("alice", "create-tap", "tap3", "--mtu=1400", "--tun-uid=bob", "--isolated=yes", "-j").json
    assert [m["tap"] for m in made] == ["tap3"] and made[0]["ifindex"] > 0

    table = ctl("alice", "taps").out.splitlines()
    assert table[0].split()[:3] == ["TAP", "INDEX", "UID"] and table[-1] == "4 taps"
    assert len(ctl("alice", "taps", "--no-legend").out.splitlines()) == 4
    listed = {tap["tap"]: tap for tap in ctl("alice", "taps", "--json=short").json}
    assert listed.keys() == {"tap0", "tap1", "fc2", "tap3"}
    assert listed["tap3"]["mtu"] == 1400 and listed["tap3"]["tun-uid"] == Account("bob").uid
    assert ctl("alice", "list-taps", "-j").json == ctl("alice", "taps", "-j").json
    assert ctl("bob", "taps", "-j").json == []

    result = ctl("alice", "delete-tap", "tap0", "tap9", "tap1")
    assert result.out == "tap0: deleted\ntap1: deleted\n" and "tap9" in result.err
    assert ctl("alice", "delete-tap", "-q", "tap0").err == ""
    assert ctl("alice", "delete-tap", "-j", "fc2", "tap0", "tap3").json == [
        {"tap": "fc2", "deleted": True}, {"tap": "tap0", "deleted": False}, {"tap": "tap3", "deleted": True}]  # fmt: skip
    assert alice.do("ListTaps") == []


def test_guest_mac(bridge, ctl, alice, root):
    if "locked-port" not in root.get("Features"):
        pytest.skip("this kernel has no locked ports")
    ctl("alice", "create-tap", "tap0", "--guest-mac=06:00:ac:10:00:02")
    assert ctl("alice", "taps", "-j").json[0]["guest-mac"] == "06:00:ac:10:00:02"


def test_first_failure_counts(bridge, ctl, bob):
    """In the order given, one status each: bob's tap is refused, the others are made."""
    bob.do("CreateTap", "tap1")
    result = ctl("alice", "create-tap", "tap0", "tap1", "tap2", "wrong", code=DENIED)
    assert [line.split(":")[0] for line in result.out.splitlines()] == ["tap0", "tap2"]
    assert len(result.err.splitlines()) == 2 and "tap1" in result.err
    result = ctl("alice", "create-tap", "-j", "wrong", "tap1", "tap2", code=USAGE)
    assert [e.get("tap") for e in result.json] == ["wrong", "tap1", "tap2"]
    assert result.json[0]["error"]["name"].endswith(".InvalidArgs") and "ifindex" in result.json[2]
    assert [json.loads(line)["error"] for line in result.err.splitlines()] == [e["error"] for e in result.json[:2]]


def test_many_taps_at_once(bridge, ctl, alice):
    names = [f"tap{n}" for n in range(60)]
    assert [t["tap"] for t in ctl("alice", "create-tap", "-j", *names).json] == names
    assert all(t["deleted"] for t in ctl("alice", "delete-tap", "-j", *names).json)
    assert alice.do("ListTaps") == []


def test_auto_delete_lives_with_the_command(bridge, ctl, begin, alice, hold):
    process = begin("alice", "create-tap", "tap0", "--auto-delete")
    assert process.stdout.readline().startswith("tap0: created")
    assert alice.do("ListTaps")[0][0] == "tap0"
    process.terminate()
    process.wait()
    eventually(lambda: alice.do("ListTaps") == [], 10, "the tap's end")
    process = begin("alice", "create-tap", "tap1", "--auto-delete")
    assert process.stdout.readline().startswith("tap1: created")
    holder = hold("alice", "tap1")
    holder.close()
    assert process.wait(10) == DONE


def test_denied(bridge, ctl, carol):
    result = ctl("carol", "create-tap", "tap0", code=DENIED)
    assert "create-tap" in result.err
    assert ctl("carol", "-j", "create-tap", "tap0", code=DENIED).error["message"]
    ctl("carol", "--no-ask-password", "create-tap", "tap0", code=DENIED)
    assert machines.taps() == {}


def test_auto_delete_over_a_restart(bridge, terminal, client, service, hold):
    """The command stays through a restart, and so does the tap, until its VMM lets it go."""
    shown = terminal("alice", "create-tap", "tap0", "--auto-delete")
    shown.expect("The tap is there while this runs")
    service.restart()
    user = client("alice")
    assert [tap[0] for tap in user.do("ListTaps")] == ["tap0"]
    hold("alice", "tap0").close()
    assert shown.end() == DONE and "fcprocctl:" not in shown.seen
    assert user.do("ListTaps") == []


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
@pytest.mark.parametrize("away", [False, True], ids=["after", "meanwhile"])
def test_auto_delete_whose_command_ends(bridge, begin, client, service, crash, away):
    """It ends when the service is back, or while there is none: nobody attached, so the tap goes."""
    process = begin("alice", "create-tap", "tap0", "--auto-delete")
    assert process.stdout.readline().startswith("tap0: created")
    service.expected_to_die = crash
    service.kill() if crash else service.stop()
    if away:
        process.kill()
        process.wait()
        assert "tap0" in machines.taps()
    service.start()
    if not away:
        user = client("alice")
        assert [tap[0] for tap in user.do("ListTaps")] == ["tap0"] and process.poll() is None
        process.terminate()
    eventually(lambda: machines.taps() == {}, 10, "the tap's end")


def test_one_connection(bridge, ctl, root, alice):
    """Many taps in one command are one connection; one command more is one more."""
    born = []
    root.connection.signal_subscribe(
        "org.freedesktop.DBus", "org.freedesktop.DBus", "NameOwnerChanged", None, None, 0,
        lambda c, sender, path, interface, name, args: born.append(args.unpack()[0]) if args.unpack()[2] else None)  # fmt: skip
    root.ping()
    before = {name for name in born if name.startswith(":")}
    ctl("alice", "create-tap", *[f"tap{n}" for n in range(20)])
    root.ping()
    assert len({name for name in born if name.startswith(":")} - before) == 1
    ctl("alice", "delete-tap", *[f"tap{n}" for n in range(20)])
    root.ping()
    assert len({name for name in born if name.startswith(":")} - before) == 2
