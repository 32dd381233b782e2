# SPDX-License-Identifier: MIT
"""fcprocctl: where its output goes: terminals, pagers, full disks, nobody."""

import os
import subprocess

import pytest

from ctl import DONE, FAILED, NO_OBJECT, USAGE


def test_closed_and_broken_stdout(service, begin, vmm, alice, start, bus, fcprocctl):
    vmm(alice)
    for arguments in ("list", "status", "--help", "list -j", "ensure-socket-dir", "find-pid web"):
        command = f"exec {fcprocctl} {arguments}"
        closed = start("sh", "-c", command + " >&-", env=bus.environment, user=alice.uid, stderr=subprocess.PIPE)
        assert "Cannot write" in closed.communicate(timeout=20)[1].decode() and closed.returncode == FAILED
        full = start("sh", "-c", command + " >/dev/full", env=bus.environment, user=alice.uid, stderr=subprocess.PIPE)
        assert "Cannot write" in full.communicate(timeout=20)[1].decode() and full.returncode == FAILED
        reader, writer = os.pipe()
        os.close(reader)
        broken = begin("alice", *arguments.split(), stdout=writer)
        os.close(writer)
        assert broken.communicate(timeout=20)[1] == "" and broken.returncode == DONE


def test_colour_only_on_a_terminal(service, terminal, ctl, vmm, alice):
    vmm(alice)
    assert "\033" not in ctl("alice", "list").out
    coloured, plain = terminal("alice", "list", "--no-pager"), terminal("alice", "list", NO_COLOR="1", PAGER="cat")
    assert coloured.end() == plain.end() == DONE
    assert "\033[4m" in coloured.seen and "\033" not in plain.seen and "web.sock" in plain.seen


def test_pager(service, terminal, vmm, alice):
    vmm(alice)
    shown = terminal("alice", "list", PAGER="sed 's/^/paged: /'")
    assert shown.end() == DONE and "paged: web" in shown.seen.replace("\033[0m", "").replace("\033[4m", "")


def test_waiting_shows_on_a_terminal(service, terminal, vmm, alice):
    vm = vmm(alice)
    shown = terminal("alice", "wait-for-exit", "web")
    shown.expect(f"Waiting for web (pid {vm.pid}), for 1s")
    vm.end()
    assert shown.end() == DONE and "\r\033[Kweb: " in shown.seen


def test_shutdown_shows_its_stages(service, terminal, vmm, alice):
    """Asked, with how much of the grace is over; the last line stays."""
    vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del")
    shown = terminal("alice", "shutdown", "deaf", "--grace=3s")
    shown.expect("\r\033[Kdeaf: shutting down, 1s of 3s …")
    shown.expect("\r\033[Kdeaf: shutting down, 2s of 3s …")
    assert shown.end() == DONE
    assert shown.seen.endswith("\r\033[Kdeaf: killed after 3s, as it had not shut down\r\n")


def test_shutdown_of_several_shows_how_many(service, terminal, vmm, alice):
    vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del"), vmm(alice, "web")
    shown = terminal("alice", "shutdown", "web", "deaf", "--grace=infinity")
    shown.expect("1 of 2 done; deaf: shutting down, for 1s …")
    shown.expect("1 of 2 done; deaf: shutting down, for 2s …")


HOLDER = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
if libc.ptrace(0x4206, int(sys.argv[1]), None, 0x40) != 0:  # PTRACE_SEIZE, PTRACE_O_TRACEEXIT
    sys.exit(f"ptrace: {ctypes.get_errno()}")
print("held", flush=True)
sys.stdin.read()
"""


def test_shutdown_shows_the_kill(service, terminal, vmm, alice, start):
    """A process that is killed, but not gone: a tracer holds it where it exits."""
    vm = vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del")
    holder = start("python3", "-c", HOLDER, str(vm.pid), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    shown = terminal("alice", "shutdown", "deaf", "--grace=1s")
    shown.expect("deaf: killed after 1s, waiting until it is gone …")
    assert "done" not in shown.seen
    holder.stdin.close()
    assert shown.end() == DONE and "\r\033[Kdeaf: killed after 1s, as it had not shut down\r\n" in shown.seen


def test_no_status_without_a_terminal(service, ctl, vmm, alice):
    """Nor with -q or JSON; the stages are for people who watch."""
    vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del")
    assert ctl("alice", "shutdown", "deaf", "--grace=1500ms").err == ""


@pytest.mark.parametrize("option", ["-q", "-j"])
def test_no_status_when_it_is_not_wanted(service, terminal, vmm, alice, option):
    vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del")
    shown = terminal("alice", "shutdown", "deaf", "--grace=1500ms", option)
    assert shown.end() == DONE and "shutting" not in shown.seen


def test_closed_stdin_and_stderr(service, fcprocctl, start, bus, vmm, alice):
    """What cannot be said on stderr is still in the exit code, and nothing lands in a socket instead."""
    vm = vmm(alice)
    for arguments, code, out in ((f"find-pid {vm.sock}", DONE, f"{vm.pid}\n"), ("find-pid none", NO_OBJECT, ""), ("zzz", USAGE, "")):
        for closed in ("2>&-", "<&- 2>&-", "2>/dev/full"):
            command = f"exec {fcprocctl} {arguments} {closed}"
            process = start("sh", "-c", command, env=bus.environment, user=alice.uid, stdout=subprocess.PIPE)
            assert process.communicate(timeout=20)[0].decode() == out and process.returncode == code


def test_pager_that_is_left_early(service, terminal, vmm, alice):
    """Who has seen enough has what he wanted."""
    vmm(alice)
    shown = terminal("alice", "list", PAGER="true")
    assert shown.end() == DONE and "fcprocctl:" not in shown.seen


def test_monitor_ends_with_its_reader(bridge, begin, alice):
    """At the first event that nobody reads; and a full disk is a failure there too."""
    monitor = begin("alice", "monitor")
    alice.do("CreateTap", "tap0")
    assert monitor.stdout.readline().startswith("tap")
    monitor.stdout.close()
    alice.do("CreateTap", "tap1")
    assert monitor.wait(10) == DONE and monitor.stderr.read() == ""
    with open("/dev/full", "w") as full:
        monitor = begin("alice", "monitor", stdout=full)
    assert monitor.wait(10) == FAILED and "Cannot write" in monitor.stderr.read()
