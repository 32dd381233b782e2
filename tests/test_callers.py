# SPDX-License-Identifier: MIT
"""Uids that are nobody's and uids that are another's, messages that are not what they seem, and one user against all."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemons import grant
from fcproc import FOREVER, NAME, PATH, Account, BusError, Gio, GLib, eventually, pause, refused, run_until, sanitized
from machines import assert_unchanged, snapshot

NO_ACCESS = ("AccessDenied", "InteractiveAuthorizationRequired")


# --- callers that are nobody (hostile case 33) ---


@pytest.mark.parametrize("uid", [65534, 3_000_000_000, 200_005], ids=["nobody", "too large", "alice's range"])
def test_refused_callers(service, bridge, client, polkit, uid):
    polkit.rules(grant("*"))
    caller = client(uid)
    before = snapshot()
    for call in (("CreateTap", "tap0"), ("EnsureSocketDir",), ("ListTaps",), ("ListProcesses",), ("GetUsage",), ("EnsureBridge",),
                 ("Subscribe",), ("ResolveBinary",), ("WatchExit", os.getpid(), "", 0)):  # fmt: skip
        with refused("AccessDenied"):
            caller.do(*call)
    assert_unchanged(before)


def jailed_vm(vmm, sock, uid):
    """A VM that runs under a uid of its own, where only socket_roots reaches."""
    path = Path(sock)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.chown(path.parent, uid, uid)
    return vmm(uid, str(path))


@pytest.fixture
def jail():
    top = Path("/run/fcproc-test/jail")
    top.mkdir(exist_ok=True)
    yield top / "firecracker" / "web" / "root" / "run" / "firecracker.socket"
    shutil.rmtree(top)


@pytest.mark.config(socket_roots="/run/fcproc-test/jail")
def test_a_subordinate_uid_owns_for_its_user(jail, service, alice, bob, root, vmm):
    """This is how jailed VMs belong to somebody."""
    vm = jailed_vm(vmm, jail, 200_005)
    alice.do("Subscribe")
    bob.do("Subscribe")
    assert alice.do("FindPID", vm.sock) == vm.pid
    assert alice.wait_signal("ProcessAppeared", vm.pid).args[1] == alice.uid
    assert [(p[0], p[1]) for p in alice.do("ListProcesses")] == [(vm.pid, alice.uid)]
    assert [(p[0], p[1]) for p in root.do("ListProcesses")] == [(vm.pid, alice.uid)]
    for call in (("FindPID", vm.sock), ("Kill", vm.pid, vm.sock), ("WaitForExit", vm.pid, "", 0)):
        with refused(*NO_ACCESS):
            bob.do(*call)
    assert bob.do("ListProcesses") == [] and bob.signals == []
    wait = alice.begin("WaitForExit", vm.pid, "", FOREVER)
    assert alice.do("Shutdown", vm.sock, 10_000_000)[0] == "ctrl-alt-del"
    wait.result()


@pytest.fixture
def subuid():
    """Changes /etc/subuid (the sandbox's), and puts it back."""
    path = Path("/etc/subuid")
    before = path.read_text()

    def change(text):
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)

    yield change
    change(before)


@pytest.mark.config(socket_roots="/run/fcproc-test/jail")
@pytest.mark.parametrize("owner", ["root", "0", "nobody-of-that-name"])
def test_a_range_of_root(jail, subuid, vmm, service, alice, root, owner):
    """It counts for nobody; and the file is read when it changes."""
    vm = jailed_vm(vmm, jail, 200_005)
    assert alice.do("FindPID", vm.sock) == vm.pid
    subuid(f"{owner}:200000:65536\nbob:300000:65536\n")

    def refused_now():
        try:
            alice.do("FindPID", vm.sock)
            return False
        except BusError as error:
            assert error.name.rpartition(".")[2] in NO_ACCESS
            return True

    eventually(refused_now, 5, "the new /etc/subuid")
    assert root.do("FindPID", vm.sock) == vm.pid
    assert [p[1] for p in root.do("ListProcesses")] == [200_005]


@pytest.mark.config(socket_roots="/run/fcproc-test/jail")
@pytest.mark.parametrize("text", ["alice:200000", "alice:x:65536", "alice:4294967295:65536", ":200000:65536", "alice:200000:-1", "\0\0", "alice:200000:0"], ids=ascii)  # fmt: skip
def test_a_broken_subuid_line(jail, subuid, vmm, service, bob, text):
    """Such a line gives nothing; those around it hold."""
    subuid(f"{text}\nbob:200000:65536\n")
    vm = jailed_vm(vmm, jail, 200_005)

    def bobs_now():
        try:
            return bob.do("FindPID", vm.sock) == vm.pid
        except BusError:
            return False

    eventually(bobs_now, 5, "the new /etc/subuid")


# --- messages (hostile cases 34, 35) ---


def test_the_bus_name(service, alice, root):
    """Hostile case 34: others cannot have it."""
    where = {"destination": "org.freedesktop.DBus", "path": "/org/freedesktop/DBus", "interface": "org.freedesktop.DBus"}
    owner = root.call("GetNameOwner", "(s)", (NAME,), **where)
    with refused("AccessDenied"):
        alice.call("RequestName", "(su)", (NAME, 7), **where)
    assert root.call("RequestName", "(su)", (NAME, 7), **where) in (2, 3)  # queued, or taken: not replaced
    root.call("ReleaseName", "(s)", (NAME,), **where)
    assert root.call("GetNameOwner", "(s)", (NAME,), **where) == owner


def test_forged_signals(service, alice, bob, root, vmm, polkit):
    """Hostile case 34: nobody but the bus and polkit says such things."""
    vm = vmm(alice, "web")
    alice.do("WatchExit", vm.pid, "", FOREVER)
    service_name = root.call("GetNameOwner", "(s)", (NAME,), destination="org.freedesktop.DBus", path="/org/freedesktop/DBus",
                             interface="org.freedesktop.DBus")  # fmt: skip
    for target in (service_name, None):
        for path, interface, name, body in (
            ("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", GLib.Variant("(sss)", (alice.name, alice.name, ""))),
            ("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameLost", GLib.Variant("(s)", (NAME,))),
            ("/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority", "Changed", None),
            (PATH, NAME, "ProcessExited", GLib.Variant("(uussita{sv})", (vm.pid, alice.uid, vm.sock, "exited", 0, 0, {}))),
        ):
            try:
                bob.connection.emit_signal(target, path, interface, name, body)
            except GLib.Error as error:
                print(error)
    bob.ping()
    alice.ping()
    assert alice.do("GetUsage")["waits"] == 1
    vm.end()
    alice.wait_signal("ProcessExited", vm.pid)


def send(client, member, body=None, interface=NAME, path=PATH, fds=()):
    """A message made by hand; returns the error's name, or None."""
    message = Gio.DBusMessage.new_method_call(NAME, path, interface, member)
    if body:
        message.set_body(body)
    if fds:
        message.set_unix_fd_list(Gio.UnixFDList.new_from_array([os.dup(fd) for fd in fds]))
    replies = []
    client.connection.send_message_with_reply(message, 0, 10_000, None, lambda c, r: replies.append(c.send_message_with_reply_finish(r)))
    run_until(lambda: replies, 15, f"the reply to {member}")
    reply = replies[0][0] if isinstance(replies[0], tuple) else replies[0]
    return reply.get_error_name()


def test_messages_that_do_not_fit(service, alice):
    """Hostile case 35."""
    standard = "org.freedesktop.DBus.Error."
    assert send(alice, "GetUsage", GLib.Variant("(s)", ("x",))) == standard + "InvalidArgs"
    assert send(alice, "CreateTap", GLib.Variant("(u)", (1,))) == standard + "InvalidArgs"
    assert send(alice, "CreateTap") == standard + "InvalidArgs"
    assert send(alice, "NoSuchMethod") == standard + "UnknownMethod"
    assert send(alice, "GetUsage", path="/org/banger/Other") in (standard + "UnknownObject", standard + "UnknownMethod")
    # The bus does not even let this one through.
    assert send(alice, "GetUsage", interface="org.banger.FcProc2") in (standard + "AccessDenied", standard + "UnknownInterface")
    for name in ("Version", "BridgeName"):
        body = GLib.Variant("(ssv)", (NAME, name, GLib.Variant("s", "x")))
        assert send(alice, "Set", body, "org.freedesktop.DBus.Properties") in (standard + "PropertyReadOnly", standard + "AccessDenied")


def test_a_message_with_a_descriptor(service, alice):
    """Hostile case 35: the bus policy keeps it away, as closing it could block the service."""
    alice.ping()
    before = service.descriptors()
    for _ in range(20):
        with open("/dev/null") as null:
            assert send(alice, "GetUsage", fds=[null.fileno()]) == "org.freedesktop.DBus.Error.AccessDenied"
    alice.ping()
    assert service.descriptors() <= before + 1


# --- one against all (hostile case 36) ---


FLOOD = """
import sys, time
from gi.repository import Gio
address, seconds, rate = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
connections = [Gio.DBusConnection.new_for_address_sync(address, flags, None, None) for _ in range(50)]
print("ready", flush=True)
sent, begun = 0, time.monotonic()
while (now := time.monotonic() - begun) < seconds:
    while sent < now * rate:
        message = Gio.DBusMessage.new_method_call("org.banger.FcProc", "/org/banger/FcProc", "org.banger.FcProc", "GetUsage")
        connections[sent % 50].send_message(message, 0)
        sent += 1
    time.sleep(0.001)
for connection in connections:
    connection.flush_sync(None)
print(sent, flush=True)
"""


def flood_once(bob, start, bus, capsys):
    """Three seconds of it: bob's 99th percentile, in seconds."""
    account = Account("alice")
    flood = start(sys.executable, "-c", FLOOD, bus.address, "3", "5000", user=account.uid, group=account.gid,
                  extra_groups=account.groups, stdout=subprocess.PIPE, cwd="/")  # fmt: skip
    flood.stdout.readline()
    times = []
    while flood.poll() is None:
        begun = time.monotonic()
        his = bob.begin("GetUsage")
        his.result()
        times.append(his.at - begun)
        pause(0.01)
    sent = int(flood.stdout.read())
    flood.stdout.close()
    times.sort()
    p99 = times[int(len(times) * 0.99)]
    with capsys.disabled():
        print(f"\n{sent} calls of alice's in 3 s; bob's {len(times)}: p50 {times[len(times) // 2] * 1000:.1f} ms, "
              f"p99 {p99 * 1000:.1f} ms", end="")  # fmt: skip
    assert sent > 10_000 and times
    return p99


def test_a_flood(service, bob, start, bus, capsys):
    """50 connections of alice's, 5,000 calls a second; bob's 99th percentile stays under 100 ms. Both cores are
    busy with it, so whatever else the machine does counts against it: the best of three is held to the bound."""
    bob.do("GetUsage")
    memory = service.private_memory()
    assert sanitized() or any(flood_once(bob, start, bus, capsys) < 0.1 for _ in range(3))
    if sanitized():
        flood_once(bob, start, bus, capsys)
    assert sanitized() or service.private_memory() - memory < 32 << 20
