# SPDX-License-Identifier: MIT
"""Who listens, who may be waited for and killed, and how an exit is told."""

import os
import select
import signal
import socket
import time

import pytest

from conftest import parked
from daemons import grant
from fcproc import FOREVER, SECOND, eventually, pause, refused
from machines import processes

NO_ACCESS = ("AccessDenied", "InteractiveAuthorizationRequired")


@pytest.fixture
def ended(service, root):
    """What a cause and status become on this kernel."""
    knows = "exit-status" in root.get("Features")
    return lambda cause, status: (cause, status) if knows else ("unknown", -1)


# --- who listens ---


def test_find_pid(service, alice, vmm):
    first, second = vmm(alice, "first"), vmm(alice, "second")
    assert alice.do("FindPID", first.sock) == first.pid
    assert alice.do("FindPID", second.sock) == second.pid
    with refused("NoSuchProcess", says=alice.sock("none")):
        alice.do("FindPID", alice.sock("none"))


def test_a_decoy(service, alice, vmm, start):
    """Hostile case 20: a command line says nothing."""
    path = alice.sock("web")
    before = start("bash", "-c", f'exec -a "firecracker --api-sock {path}" sleep 1000')
    vm = vmm(alice, "web")
    after = start("bash", "-c", f'exec -a "/usr/bin/firecracker --api-sock {path} --id web" sleep 1000')
    assert alice.do("FindPID", path) == vm.pid
    vm.end()
    with refused("NoSuchProcess"):
        alice.do("FindPID", path)
    assert before.poll() is None and after.poll() is None


def test_listen_fork_and_exit(service, alice, root, vmm):
    """Hostile case 21: the kernel remembers a process that is no more."""
    vm = vmm(alice, "web", "--standin-fork")
    eventually(lambda: not vm.alive(), 5, "the parent's exit")
    for client in (alice, root):
        for method in ("FindPID", "OpenProcess"):
            with refused("NoSuchProcess", "AccessDenied"):
                pid = client.do(method, vm.sock)
                print(f"{method} returned {pid}")
        with refused("NoSuchProcess", "AccessDenied"):
            client.do("Kill", 0, vm.sock)
        with refused("NoSuchProcess", "AccessDenied"):
            client.do("WaitForExit", 0, vm.sock, 0)
    assert vm.pid not in [p[0] for p in root.do("ListProcesses")]


def test_open_process(service, alice, vmm):
    vm = vmm(alice, "web")
    pid, fd = alice.do("OpenProcess", vm.sock)
    with open(f"/proc/self/fdinfo/{fd}") as file:
        assert f"Pid:\t{vm.pid}\n" in file.read()
    assert pid == vm.pid and not select.select([fd], [], [], 0)[0]
    vm.end()
    assert select.select([fd], [], [], 5)[0]
    os.close(fd)


def test_resolve_pid(service, alice, bob, vmm, start):
    vm, other = vmm(alice, "web"), vmm(bob, "web")
    assert alice.do("ResolvePID", vm.sock, 0) == vm.pid
    assert alice.do("ResolvePID", vm.sock, 1) == vm.pid
    assert alice.do("ResolvePID", alice.sock("none"), vm.pid) == vm.pid  # her own record is right
    sleep = start("sleep", "1000", user="alice")
    for record in (0, 1, other.pid, sleep.pid, 4_194_303):
        assert alice.do("ResolvePID", alice.sock("none"), record) == 0, record


def test_list_processes(service, alice, bob, root, vmm):
    mine, other, vsock = vmm(alice, "web"), vmm(bob, "web"), alice.sock("vsock")
    third = vmm(alice, "third", f"--standin-vsock={vsock}")
    listed = {(pid, uid, path) for pid, uid, path, _ in alice.do("ListProcesses")}
    assert listed == {(mine.pid, alice.uid, mine.sock), (third.pid, alice.uid, third.sock)}  # once, under what answers
    assert {p[0] for p in root.do("ListProcesses")} == {mine.pid, other.pid, third.pid}
    mine.end()
    assert [p[0] for p in alice.do("ListProcesses")] == [third.pid]


# --- WaitForExit ---


def test_wait_for_exit(service, alice, vmm, ended):
    vm = vmm(alice, "web", "--standin-exit-after=200:7")
    assert alice.do("WaitForExit", 0, vm.sock, FOREVER) == ended("exited", 7)
    vm = vmm(alice, "by-pid", "--standin-exit-after=200:148")
    assert alice.do("WaitForExit", vm.pid, "", 10 * SECOND) == ended("exited", 148)
    vm = vmm(alice, "both", "--standin-exit-after=200:0")
    assert alice.do("WaitForExit", vm.pid, vm.sock, 10 * SECOND) == ended("exited", 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ended_by_a_signal(service, alice, vmm, ended, number):
    vm = vmm(alice, "web")
    wait = parked(alice, vm.pid, vm.sock, FOREVER)
    assert not wait.done
    vm.signal(number)
    assert wait.result() == ended("signaled", number)


def test_the_deadline(service, alice, vmm):
    vm = vmm(alice, "web")
    for timeout in (0, SECOND // 5):
        with refused("WaitForExitTimeout", says=str(vm.pid)):
            alice.do("WaitForExit", vm.pid, vm.sock, timeout)
    assert vm.alive() and alice.do("GetUsage")["waits"] == 0


def test_it_ends_while_polkit_is_asked(service, alice, vmm, ended):
    """It was there when the call came: the answer is how it ended, or that this cannot be told; no error."""
    for n in range(10):
        vm = vmm(alice, f"vm{n}")
        wait = alice.begin("WaitForExit", vm.pid, vm.sock, FOREVER)
        watch = alice.begin("WatchExit", vm.pid, vm.sock, FOREVER)
        vm.end()
        assert wait.result() in (ended("signaled", 9), ("unknown", -1))
        assert watch.result() == vm.pid
        alice.wait_signal("ProcessExited", vm.pid)


def test_gone_already(service, alice, vmm):
    vm = vmm(alice, "web")
    vm.end()
    assert alice.do("WaitForExit", vm.pid, "", FOREVER) == ("unknown", -1)
    assert alice.do("WaitForExit", vm.pid, vm.sock, FOREVER) == ("unknown", -1)
    with refused("NoSuchProcess", says=vm.sock):
        alice.do("WaitForExit", 0, vm.sock, FOREVER)
    with refused("InvalidArgs"):
        alice.do("WaitForExit", 0, "", FOREVER)


def test_how_late_the_reply_and_the_signal_are(service, alice, bob, root, vmm, capsys):
    """Printed, not asserted: from the moment its parent has reaped it."""
    late = {"reply": [], "signal": []}
    root.do("Subscribe")
    for n in range(20):
        vm = vmm(alice, f"vm{n}")
        wait = parked(alice, vm.pid, vm.sock, FOREVER)
        killed = time.monotonic()
        vm.signal(signal.SIGKILL)
        wait.result()
        signaled = root.wait_signal("ProcessExited", vm.pid)
        late["reply"].append(wait.at - killed)
        late["signal"].append(signaled.at - killed)
    with capsys.disabled():
        for what, times in late.items():
            times.sort()
            print(f"\n{what} after SIGKILL: p50 {times[10] * 1000:.2f} ms, worst {times[-1] * 1000:.2f} ms", end="")


# --- WatchExit and CancelWait ---


def test_watch_exit(service, alice, vmm, ended):
    vm = vmm(alice, "web", "--standin-exit-after=300:3")
    before = time.time()
    assert alice.do("WatchExit", 0, vm.sock, FOREVER) == vm.pid
    pid, uid, path, cause, status, exited, more = alice.wait_signal("ProcessExited").args
    assert (pid, uid, path) == (vm.pid, alice.uid, vm.sock) and (cause, status) == ended("exited", 3)
    assert before * SECOND <= exited <= time.time() * SECOND
    assert isinstance(more, dict)


def test_the_reply_comes_before_the_signal(service, alice, vmm):
    """Also for one that is gone already."""
    vm = vmm(alice, "web")
    vm.end()
    watch = alice.begin("WatchExit", vm.pid, "", FOREVER)
    assert watch.result() == vm.pid
    signal_ = alice.wait_signal("ProcessExited", vm.pid)
    assert signal_.args[3:5] == ("unknown", -1)
    assert watch.at <= signal_.at


def test_watch_timed_out(service, alice, vmm):
    vm = vmm(alice, "web")
    assert alice.do("WatchExit", vm.pid, vm.sock, SECOND // 5) == vm.pid
    assert alice.wait_signal("WaitTimedOut", vm.pid).args[1] == vm.sock
    assert alice.do("WatchExit", vm.pid, vm.sock, 0) == vm.pid
    eventually(lambda: len(alice.seen("WaitTimedOut", vm.pid)) == 2, 5)
    vm.end()
    pause(0.2)
    assert not alice.seen("ProcessExited")


def test_two_watches_one_signal(service, alice, vmm):
    """One ProcessExited per connection and process."""
    vm = vmm(alice, "web")
    alice.do("WatchExit", vm.pid, vm.sock, FOREVER)
    alice.do("WatchExit", vm.pid, "", FOREVER)
    alice.do("Subscribe")
    wait = parked(alice, vm.pid, "", FOREVER)
    vm.end()
    wait.result()
    alice.wait_signal("ProcessExited", vm.pid)
    alice.ping()
    assert len(alice.seen("ProcessExited", vm.pid)) == 1


def test_cancel_wait(service, alice, client, vmm):
    first, second = vmm(alice, "first"), vmm(alice, "second")
    other = client("alice")
    waits = [parked(alice, first.pid, first.sock, FOREVER), parked(alice, 0, second.sock, FOREVER)]
    alice.do("WatchExit", first.pid, "", FOREVER)
    others = parked(other, first.pid, first.sock, FOREVER)
    assert alice.do("CancelWait", first.pid, alice.sock("other")) == 0
    assert alice.do("CancelWait", first.pid, first.sock) == 1
    with refused("Cancelled"):
        waits[0].result()
    assert not waits[1].done and not others.done
    assert alice.do("CancelWait", 0, "") == 2  # the watch of the first, the wait for the second
    with refused("Cancelled"):
        waits[1].result()
    assert alice.do("CancelWait", 0, "") == 0 and alice.do("GetUsage")["waits"] == 1
    first.end()
    others.result()
    alice.ping()
    assert alice.signals == []


# --- signals go to those who may see them ---


def test_subscribe(service, alice, bob, root, vmm, ended):
    there = vmm(alice, "there")
    for client in (alice, bob, root):
        client.do("Subscribe")
    assert alice.wait_signal("ProcessAppeared", there.pid).args[1:3] == (alice.uid, there.sock)
    later = vmm(alice, "later", "--standin-exit-after=500:5")
    for client in (alice, root):
        assert client.wait_signal("ProcessAppeared", later.pid).args[1:3] == (alice.uid, later.sock)
        exited = client.wait_signal("ProcessExited", later.pid).args
        assert exited[1:3] == (alice.uid, later.sock) and exited[3:5] == ended("exited", 5)
    bob.ping()
    assert bob.signals == []
    alice.do("Unsubscribe")
    vmm(alice, "third")
    root.wait_signal("ProcessAppeared")
    pause(0.2)
    alice.ping()
    assert len(alice.seen("ProcessAppeared")) == 2


def test_appeared_only_after_the_reply(service, alice, vmm):
    vms = [vmm(alice, f"vm{n}") for n in range(5)]
    subscribed = alice.begin("Subscribe")
    for vm in vms:
        alice.wait_signal("ProcessAppeared", vm.pid)
    assert subscribed.done and subscribed.at <= min(s.at for s in alice.signals)
    alice.ping()
    assert len(alice.seen("ProcessAppeared")) == 5


def test_a_directory_that_is_made_later(service, alice, root, vmm):
    """Sockets are found under directories that did not exist at the time of Subscribe."""
    root.do("Subscribe")
    alice.do("EnsureSocketDir")
    vm = vmm(alice, "web")
    root.wait_signal("ProcessAppeared", vm.pid)


def test_eavesdropping(service, alice, bob, vmm, bridge):
    """Hostile case 25: bob listens to everything the bus lets him; unicast is not for him."""
    vm = vmm(alice, "web")
    seen = []
    bob.connection.signal_subscribe(None, "org.banger.FcProc", None, None, None, 0, lambda *a: seen.append(a[1:5]))
    for rule in ("type='signal'", "interface='org.banger.FcProc'", "eavesdrop='true'", "type='signal',eavesdrop='true'"):
        try:
            bob.call("AddMatch", "(s)", (rule,), destination="org.freedesktop.DBus", path="/org/freedesktop/DBus",
                     interface="org.freedesktop.DBus")  # fmt: skip
        except Exception as error:
            print(f"{rule}: {error}")  # a bus may refuse it, all the better
    bob.do("Subscribe")
    alice.do("Subscribe")
    alice.do("WatchExit", vm.pid, vm.sock, FOREVER)
    alice.do("CreateTap", "tap0")
    alice.do("DeleteTap", "tap0")
    vm.end()
    alice.wait_signal("ProcessExited", vm.pid)
    bob.ping()
    assert seen == [] and bob.signals == []


# --- a living process is never called gone (hostile case 23) ---


@pytest.mark.parametrize("how", ["unlinked", "stopped listening", "stale", "taken over", "backlog full"])
def test_a_living_vmm_is_waited_for(service, alice, vmm, ended, how):
    switches = {"unlinked": ["--standin-unlink"], "stopped listening": ["--standin-stop-listening"], "backlog full": ["--standin-no-accept"]}
    vm = vmm(alice, "web", *switches.get(how, []))
    if how == "stale":
        leftover = vmm(alice, "leftover")
        leftover.end()
        os.rename(leftover.sock, vm.sock)
    elif how == "taken over":
        os.unlink(vm.sock)
        vmm(alice, "web")
    elif how == "backlog full":
        fill_backlog(vm.sock)
    for path in (vm.sock, ""):
        with refused("WaitForExitTimeout"):
            alice.do("WaitForExit", vm.pid, path, SECOND // 10)
    wait = alice.begin("WaitForExit", vm.pid, vm.sock, FOREVER)
    alice.do("WatchExit", vm.pid, vm.sock, FOREVER)
    alice.ping()
    assert not wait.done and not alice.seen("ProcessExited")
    if how != "taken over":
        alice.do("Kill", vm.pid, vm.sock)
    else:
        with refused("NoSuchProcess"):
            alice.do("Kill", vm.pid, vm.sock)
        assert vm.alive()
        alice.do("Kill", vm.pid, "")
    assert wait.result() == ended("signaled", 9)
    alice.wait_signal("ProcessExited", vm.pid)


_backlog = []


def fill_backlog(path):
    """Connects until the listener's queue takes no more."""
    while True:
        queued = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        _backlog.append(queued)
        try:
            queued.connect(path)
        except BlockingIOError:
            return


@pytest.fixture(autouse=True)
def close_backlog():
    yield
    while _backlog:
        _backlog.pop().close()


def test_a_foreign_pid(service, alice, bob, vmm, start, polkit):
    """Hostile case 23."""
    vm = vmm(bob, "web")
    for method in ("WaitForExit", "WatchExit"):
        for pid, path in ((vm.pid, ""), (vm.pid, vm.sock), (1, ""), (0, vm.sock)):
            with refused(*NO_ACCESS):
                alice.do(method, pid, path, FOREVER)
    polkit.rules(grant("alice", "manage-others"))
    with refused("WaitForExitTimeout"):
        alice.do("WaitForExit", vm.pid, vm.sock, 0)
    assert vm.alive() and not alice.seen("ProcessExited")


def test_ones_own_that_is_no_vmm(service, alice, start, vmm):
    shell = start("sleep", "1000", user="alice")
    for method, args in (("WaitForExit", (FOREVER,)), ("WatchExit", (FOREVER,)), ("Kill", ())):
        with refused("NotAVmm", says=str(shell.pid)):
            alice.do(method, shell.pid, "", *args)
    assert shell.poll() is None


# --- Kill (hostile case 19) ---


def test_kill(service, alice, vmm, ended):
    first, second, third = vmm(alice, "first"), vmm(alice, "second"), vmm(alice, "third")
    waits = [parked(alice, vm.pid, "", FOREVER) for vm in (first, second, third)]
    alice.do("Kill", 0, first.sock)
    alice.do("Kill", second.pid, second.sock)
    alice.do("Kill", third.pid, "")
    assert [wait.result() for wait in waits] == [ended("signaled", 9)] * 3


def test_kill_what_is_not_to_be_killed(service, alice, bob, vmm, start):
    vm, other, shell = vmm(alice, "web"), vmm(bob, "web"), start("sleep", "1000", user="alice")
    before = processes()
    for path in ("", vm.sock):
        for pid in (1, os.getpid(), service.pid, 2**32 - 1, 2**31, 4_194_303, other.pid):
            with refused("InvalidArgs", "AccessDenied", "InteractiveAuthorizationRequired", "NoSuchProcess"):
                alice.do("Kill", pid, path)
    with refused(*NO_ACCESS):
        alice.do("Kill", 0, other.sock)
    with refused(*NO_ACCESS):
        alice.do("Kill", other.pid, other.sock)
    with refused("InvalidArgs"):
        alice.do("Kill", 0, "")
    with refused("NoSuchProcess", "NotAVmm"):
        alice.do("Kill", shell.pid, vm.sock)
    assert vm.alive() and other.alive() and shell.poll() is None and processes() == before


def test_kill_one_with_the_others_socket(service, alice, vmm):
    first, second = vmm(alice, "first"), vmm(alice, "second")
    with refused("NoSuchProcess", says=str(first.pid)):
        alice.do("Kill", first.pid, second.sock)
    assert first.alive() and second.alive()


def test_root_too_kills_only_vmms(root, start):
    shell = start("sleep", "1000")
    for pid in (1, shell.pid):
        with refused("NotAVmm", "InvalidArgs", "NoSuchProcess"):
            root.do("Kill", pid, "")
    assert shell.poll() is None


def test_kill_for_another(service, alice, bob, vmm, polkit, ended):
    vm = vmm(bob, "web")
    wait = parked(bob, vm.pid, vm.sock, FOREVER)
    polkit.rules(grant("alice", "manage-others"))
    alice.do("Kill", vm.pid, vm.sock)
    assert wait.result() == ended("signaled", 9)
