# SPDX-License-Identifier: MIT
"""Nobody drowns in the log what others did (hostile case 49)."""

import shutil
import signal
import subprocess

import pytest

from conftest import ensure_directory
from fcproc import FOREVER, SECOND, WORK, eventually, refused
from test_many import in_turns


def lines(service, *parts):
    return [line for line in service.log().splitlines() if all(part in line for part in parts)]


def test_what_changes_nothing_is_not_logged(service, bridge, alice, bob, vmm):
    vm = vmm(bob, "web")
    ensure_directory(alice.account)
    for _ in range(3):
        alice.do("EnsureSocketDir")
        alice.do("EnsureBridge")
        alice.do("Subscribe")
        alice.do("Unsubscribe")
        alice.do("CancelWait", 0, "")
        alice.do("GetUsage")
        bob.do("EnsureSocketAccess", vm.sock, "web")
        bob.do("WatchExit", vm.pid, "", FOREVER)
    assert lines(service, f"by uid {alice.uid}") == []
    assert len(lines(service, f"EnsureSocketAccess {vm.sock} by uid {bob.uid}: done")) == 1


def test_what_changes_something_is(service, bridge, root, alice, vmm):
    alice.do("EnsureSocketDir")
    alice.do("CreateTap", "tap0")
    alice.do("DeleteTap", "tap0")
    vm = vmm(alice, "web")
    alice.do("EnsureSocketAccess", vm.sock, "web")
    alice.do("SendCtrlAltDel", vm.sock)
    vm = vmm(alice, "other")
    alice.do("Kill", vm.pid, vm.sock)
    vm = vmm(alice, "third")
    wait = alice.begin("WaitForExit", vm.pid, vm.sock, FOREVER)
    alice.do("Shutdown", vm.sock, 10 * SECOND)
    wait.result()
    root.do("RemoveBridge")
    for method in ("CreateTap", "DeleteTap", "EnsureSocketAccess", "SendCtrlAltDel", "Kill", "Shutdown"):
        assert len(lines(service, f"{method} ", f"by uid {alice.uid}: done")) == 1, method
    assert len(lines(service, "WaitForExit", "done: exited 0")) == 1
    assert len(lines(service, "RemoveBridge", "by uid 0: done")) == 1


def test_a_users_lines_have_a_share(service, bridge, alice, bob):
    """Failures and waits by the thousand do not take the place of deeds, and are counted."""

    def fail(n):
        try:
            alice.do("DeleteTap", f"tap{n}")
        except Exception as error:
            assert error.name.endswith("NoSuchTap")

    for n in range(400):
        fail(n)
    alice.do("CreateTap", "tap0")
    bob.do("CreateTap", "tap1")
    assert len(lines(service, "DeleteTap", f"by uid {alice.uid}")) == 200
    assert len(lines(service, "CreateTap tap0", "done")) == 1 and len(lines(service, "CreateTap tap1", "done")) == 1


def test_deeds_have_one_too(service, bridge, alice, bob):
    def create(n):
        return alice.begin("CreateTap", "tap0")

    in_turns(create, range(520), width=20)
    bob.do("CreateTap", "tap1")
    assert len(lines(service, "CreateTap tap0", "done")) == 500
    assert len(lines(service, "CreateTap tap1", "done")) == 1


@pytest.mark.config(max_waits_per_user=1)
def test_a_refusal_for_a_quota_is_logged(service, alice, vmm):
    vm = vmm(alice, "web")
    alice.do("WatchExit", vm.pid, vm.sock, FOREVER)
    with refused("LimitsExceeded"):
        alice.do("WatchExit", vm.pid, vm.sock, FOREVER)
    assert len(lines(service, "WatchExit", f"by uid {alice.uid}", "LimitsExceeded")) == 1


def test_why_an_exit_is_unknown(service, alice, start):
    """A process that its parent does not wait for: the kernel tells how it ended only after that."""
    program = WORK / "unreaped" / "firecracker"  # called like a VMM, so that it may be waited for
    program.parent.mkdir(exist_ok=True)
    shutil.copy("/bin/sleep", program)
    account = alice.account
    parent = start("sh", "-c", f"{program} 3600 & echo $!; read -r line", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                   user=account.uid, group=account.gid, extra_groups=account.groups)  # fmt: skip
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGSTOP)
    wait = alice.begin("WaitForExit", pid, "", FOREVER)
    eventually(lambda: alice.do("GetUsage")["waits"] == 1, 5, "the wait")
    alice.do("Kill", pid, "")
    assert wait.result() == ("unknown", -1)
    assert lines(service, "WaitForExit", "done: unknown (")
