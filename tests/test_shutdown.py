# SPDX-License-Identifier: MIT
"""Shutdown: Ctrl-Alt-Del, the grace, the kill, and what the guest or its VMM may do about it."""

import os
import time

import pytest

from conftest import ensure_directory, parked
from fcproc import FOREVER, SECOND, eventually, refused
from machines import request

NO_ACCESS = ("AccessDenied", "InteractiveAuthorizationRequired")


@pytest.fixture
def ended(service, root):
    """What a cause and status become on this kernel."""
    knows = "exit-status" in root.get("Features")
    return lambda cause, status: (cause, status) if knows else ("unknown", -1)


def test_shutdown(service, alice, vmm, ended):
    vm = vmm(alice, "web", "--standin-guest-delay=200")
    alice.do("WatchExit", vm.pid, vm.sock, FOREVER)
    assert alice.do("Shutdown", vm.sock, 10 * SECOND) == ("ctrl-alt-del", *ended("exited", 0))
    assert alice.wait_signal("ProcessExited", vm.pid).args[3:5] == ended("exited", 0)
    assert not vm.alive() or eventually(lambda: not vm.alive()) is None


def test_nobody_listens(service, alice, vmm):
    ensure_directory(alice.account)
    assert alice.do("Shutdown", alice.sock("none"), SECOND) == ("already-gone", "unknown", -1)
    vm = vmm(alice, "stale")
    vm.end()
    assert alice.do("Shutdown", vm.sock, SECOND) == ("already-gone", "unknown", -1)


def test_the_guest_takes_no_notice(service, alice, vmm, ended):
    vm = vmm(alice, "web", "--standin-ignore-ctrl-alt-del")
    begun = time.monotonic()
    assert alice.do("Shutdown", vm.sock, SECOND // 2) == ("killed", *ended("signaled", 9))
    assert time.monotonic() - begun >= 0.5


def test_no_grace(service, alice, vmm, ended):
    """One request, then the kill."""
    vm = vmm(alice, "web", "--standin-guest-delay=5000")
    assert alice.do("Shutdown", vm.sock, 0) == ("killed", *ended("signaled", 9))


@pytest.mark.parametrize(
    "text",
    ["The requested operation is not supported before starting the microVM.", "Ctrl-Alt-Del is not for this architecture."],
    ids=["not started", "refused"],
)
def test_refused_is_killed_at_once(service, alice, vmm, ended, text):
    """Long before the grace is over."""
    vm = vmm(alice, "web", f"--standin-refuse={text}")
    begun = time.monotonic()
    assert alice.do("Shutdown", vm.sock, 20 * SECOND) == ("killed", *ended("signaled", 9))
    assert time.monotonic() - begun < 10


def test_a_full_i8042_buffer_means_wait(service, alice, vmm, ended):
    """Requests are pending: it is given its grace, not killed at once."""
    text = "Internal VMM error: I8042 error: i8042 internal buffer full."
    vm = vmm(alice, "web", f"--standin-refuse={text}", "--standin-exit-after=1000:0")
    assert alice.do("Shutdown", vm.sock, 20 * SECOND)[1:] == ended("exited", 0)


def test_paused(service, alice, vmm, ended):
    vm = vmm(alice, "web", "--standin-paused")
    with refused("VmmRefused", says=["paused", "esume"]):
        alice.do("Shutdown", vm.sock, SECOND // 2)
    assert vm.alive()


def test_paused_and_forced(service, alice, vmm, ended):
    """It has its grace as any other: somebody may resume it."""
    vm = vmm(alice, "web", "--standin-paused")
    begun = time.monotonic()
    pending = alice.begin("Shutdown", vm.sock, SECOND, force=True)
    with refused("WaitForExitTimeout"):
        alice.do("WaitForExit", vm.pid, vm.sock, SECOND // 2)
    assert pending.result() == ("killed", *ended("signaled", 9))
    assert time.monotonic() - begun >= 1


def test_paused_forced_and_resumed(service, alice, vmm, ended):
    """Asked while it is paused, its guest acts on it as soon as it runs."""
    vm = vmm(alice, "web", "--standin-paused")
    pending = alice.begin("Shutdown", vm.sock, 20 * SECOND, force=True)
    with refused("WaitForExitTimeout"):
        alice.do("WaitForExit", vm.pid, vm.sock, SECOND // 2)
    assert request(vm.sock, "PATCH", "/vm", {"state": "Resumed"})[0] == 204
    assert pending.result() == ("ctrl-alt-del", *ended("exited", 0))


def test_paused_forced_no_grace(service, alice, vmm, ended):
    vm = vmm(alice, "web", "--standin-paused")
    assert alice.do("Shutdown", vm.sock, 0, force=True) == ("killed", *ended("signaled", 9))


def test_silent(service, alice, vmm, ended):
    """Unreachable: tried again until the grace ends, then killed."""
    vm = vmm(alice, "web", "--standin-no-answer")
    begun = time.monotonic()
    assert alice.do("Shutdown", vm.sock, SECOND) == ("killed", *ended("signaled", 9))
    assert time.monotonic() - begun >= 1


def test_it_dies_meanwhile(service, alice, vmm, ended):
    vm = vmm(alice, "web", "--standin-ignore-ctrl-alt-del", "--standin-exit-after=400:3")
    assert alice.do("Shutdown", vm.sock, 20 * SECOND)[1:] == ended("exited", 3)


def test_the_caller_disconnects(service, alice, client, vmm):
    """It goes on to its end."""
    vm = vmm(alice, "web", "--standin-ignore-ctrl-alt-del")
    other = client("alice")
    other.begin("Shutdown", vm.sock, SECOND // 2)
    eventually(lambda: alice.do("GetUsage")["waits"] == 1, 5, "the begun shutdown")
    other.close()
    assert vm.alive()
    eventually(lambda: not vm.alive(), 10, "the kill")


def test_it_counts_as_a_wait(service, alice, vmm):
    vm = vmm(alice, "web", "--standin-ignore-ctrl-alt-del")
    pending = alice.begin("Shutdown", vm.sock, SECOND)
    eventually(lambda: alice.do("GetUsage")["waits"] == 1, 5, "the wait")
    pending.result()
    assert alice.do("GetUsage")["waits"] == 0


def test_two_at_once(service, alice, root, vmm):
    vm = vmm(alice, "web", "--standin-guest-delay=200")
    answers = [call.result() for call in [c.begin("Shutdown", vm.sock, 10 * SECOND) for c in (alice, root)]]
    assert {a[0] for a in answers} <= {"ctrl-alt-del", "already-gone"} and "ctrl-alt-del" in {a[0] for a in answers}


def test_of_another(service, alice, bob, vmm):
    vm = vmm(bob, "web")
    for path in (vm.sock, bob.sock("none")):
        with refused(*NO_ACCESS):
            alice.do("Shutdown", path, 0)
    assert vm.alive()


def test_send_ctrl_alt_del(service, alice, vmm, ended):
    vm = vmm(alice, "web", "--standin-exit-after=20000:9")
    mode = os.stat(vm.sock).st_mode
    wait = parked(alice, vm.pid, vm.sock, FOREVER)
    alice.do("SendCtrlAltDel", vm.sock)
    assert wait.result() == ended("exited", 0)
    assert os.stat(vm.sock).st_mode == mode  # the socket is given to nobody


def test_send_ctrl_alt_del_waits_for_the_socket(service, alice, vmm, ended):
    ensure_directory(alice.account)
    pending = alice.begin("SendCtrlAltDel", alice.sock("web"))
    alice.ping()
    vmm(alice, "web", "--standin-listen-after=300", listening=False)
    pending.result()
