# SPDX-License-Identifier: MIT
"""fcprocctl run where signals come twice, the service goes away, others hold the lock, and descriptors are shared."""

import os
import signal
import socket
import subprocess
import time

import pytest

from ctl import DONE, FAILED
from fcproc import acting_as, eventually, pause
from machines import taps
from running import NOTHING, VMM, configuration, firecracker, left, run, standin, up  # noqa: F401

pytestmark = pytest.mark.config(firecracker_bin=str(VMM))
SLOW = ["--", "--standin-guest-delay=1500"]  # from the keys to the end


def ready(user, name="web"):
    """The service has said that its socket answers."""
    eventually(lambda: os.stat(user.sock(name)).st_mode & 0o777 == 0o600)
    user.do("GetUsage")


# --- signals ---


@pytest.mark.parametrize("second", [signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM])
def test_two_that_mean_one(standin, run, alice, first, second):
    """A terminal that goes sends SIGHUP twice, a service manager SIGHUP behind SIGTERM: one shutdown, no kill."""
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0"), *SLOW))
    ready(alice)
    web.process.send_signal(first)
    web.expect("web is asked to shut down")
    web.process.send_signal(second)
    assert web.wait() == 0 and left(alice) == NOTHING


def test_a_second_sigterm_later(standin, run, alice):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0"), "--", "--standin-ignore-ctrl-alt-del"))
    ready(alice)
    web.process.terminate()
    web.expect("web is asked to shut down")
    pause(1.1)
    web.process.terminate()
    assert web.wait() == 137 and left(alice) == NOTHING


def test_closed_terminal(firecracker, run, alice):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    web.hang_up()
    assert web.process.wait(20) == 0 and left(alice) == NOTHING


def test_hang_up_of_a_job(firecracker, run, alice):
    """A shell that ends sends SIGHUP to the whole process group, and Firecracker would exit with it."""
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    ready(alice)
    os.killpg(web.process.pid, signal.SIGHUP)
    assert web.wait() == 0 and left(alice) == NOTHING


def test_nohup(standin, run, alice):
    """What was ignored when it was started stays ignored."""
    ignore = lambda: (signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGINT, signal.SIG_IGN))  # noqa: E731
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0"), terminal=False, preexec_fn=ignore))
    ready(alice)
    web.process.send_signal(signal.SIGHUP)
    web.process.send_signal(signal.SIGINT)
    pause(0.3)
    assert web.process.poll() is None and "asked" not in web.seen
    web.process.terminate()
    assert web.wait() == 0 and "killed" not in web.seen.replace("and killed after", "")


def test_ignored_sigchld(standin, run, alice):
    """Whoever started it may have ignored SIGCHLD, which is inherited."""
    ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # noqa: E731
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0"), terminal=False, preexec_fn=ignore))
    alice.do("SendCtrlAltDel", alice.sock("web"))
    assert web.wait() == 0 and left(alice) == NOTHING


# --- the service ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_service_restarted_meanwhile(standin, run, alice, service, number):
    """As at a shutdown of the host: a guest that is on its way is not killed for it."""
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0"), *SLOW, terminal=False))
    ready(alice)
    web.process.send_signal(number)
    web.expect("web is asked to shut down")
    eventually(lambda: alice.do("GetUsage")["waits"] == 1)
    pause(0.2)
    service.restart()
    assert web.wait() == 0
    eventually(lambda: left(alice) == NOTHING)


def test_a_new_service_is_asked_again(standin, run, alice, service):
    """It knows nothing of the shutdown that the old one had begun."""
    web = up(run("alice", "web", "--config-file", configuration("web"), "--", "--standin-guest-delay=4000", terminal=False))
    ready(alice)
    web.process.terminate()
    eventually(lambda: alice.do("GetUsage")["waits"] == 1)
    web.process.send_signal(signal.SIGSTOP)  # it learns of both at once, as where the bus starts the new one
    service.restart()
    web.process.send_signal(signal.SIGCONT)
    eventually(lambda: alice.do("GetUsage")["waits"] == 1, 3, "the second Shutdown")
    assert web.wait() == 0


def test_service_away_for_good(standin, run, alice, service):
    """Then the grace is kept by fcprocctl."""
    web = up(run("alice", "web", "--grace=500ms", "--config-file", configuration("web"), *SLOW, terminal=False))
    ready(alice)
    service.stop()
    begun = time.monotonic()
    web.process.terminate()
    assert web.wait() == 137 and time.monotonic() - begun >= 0.5 and left(alice)[1] == []
    service.start()


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
@pytest.mark.parametrize("grace", ["4s", "infinity"])
def test_service_away_for_a_while(standin, run, alice, service, grace, crash):
    """Asked again when it is back, and told once; the grace goes on, and has no end if it had none."""
    web = up(run("alice", "web", f"--grace={grace}", "--config-file", configuration("web", "tap0"), "--",
                 "--standin-ignore-ctrl-alt-del", terminal=False))  # fmt: skip
    ready(alice)
    begun = time.monotonic()
    web.process.terminate()
    eventually(lambda: alice.do("GetUsage")["waits"] == 1)
    service.expected_to_die = crash
    service.kill() if crash else service.stop()
    web.expect("The FcProc service is not there")
    pause(1.5)
    assert web.process.poll() is None
    service.start()
    web.expect("The service was restarted, and is asked again")
    eventually(lambda: alice.do("GetUsage")["waits"] == 1, 2, "the second Shutdown")
    service.expected_to_die = False
    service.restart()
    eventually(lambda: alice.do("GetUsage")["waits"] == 1, 2, "the third Shutdown")
    if grace == "infinity":
        os.kill(web.vmm(), signal.SIGKILL)
    assert web.wait() == 137 and web.seen.count("asked again") == 1 and "when it is back" not in web.seen
    assert grace == "infinity" or 4 <= time.monotonic() - begun < 5.4
    eventually(lambda: left(alice) == NOTHING)


def test_socket_gone(standin, run, alice):
    """Nobody can ask a VM whose socket was removed: it is not taken for one that has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        web = up(run("alice", "web", "--config-file", configuration("web")))
        ready(alice)
        os.unlink(alice.sock("web"))
        web.process.send_signal(number)
        if number == signal.SIGINT:
            web.expect("web runs on; Ctrl-C kills it")
            web.process.send_signal(number)
        assert web.wait() == 137 and left(alice) == NOTHING


# --- others of the same user ---


def test_another_holds_the_lock(standin, run, alice, start):
    """A run that does not get on holds the others up for ten seconds, and not for ever."""
    directory = alice.do("EnsureSocketDir")
    holder = start("flock", "--no-fork", directory, "sleep", "60", user=alice.uid)
    eventually(lambda: subprocess.run(["flock", "--nonblock", directory, "true"]).returncode != 0)
    web = run("alice", "web", "--config-file", configuration("web"))
    web.expect("Waiting until another VM of yours is on its way")
    assert web.wait(30) == FAILED and "wait for a password?" in web.seen
    web = run("alice", "web", "--config-file", configuration("web"))
    web.expect("Waiting until")
    holder.kill()
    up(web)
    web.type("\x03")
    assert web.wait() == 0 and left(alice) == NOTHING


def test_prune_leaves_a_vm_that_starts(standin, run, alice, ctl):
    """Its tap is not held yet; it goes by itself if that never comes."""
    VMM.write_text("#!/bin/sh\nexec sleep 60\n")
    web = run("alice", "web", "--config-file", configuration("web", "tap0"))
    web.expect("runs, pid")
    assert ctl("alice", "prune").out == "" and set(taps()) == {"tap0"}


def test_prune_prints_any_name(service, alice, ctl):
    """Its owner can give a file any name; a terminal and JSON get what they can take."""
    directory = alice.do("EnsureSocketDir").encode()
    for name in (b"a\x1b[31mb", b"c\xff"):
        with acting_as("alice"), socket.socket(socket.AF_UNIX) as s:
            s.bind(directory + b"/" + name)
    young = ctl("alice", "prune")
    assert "\x1b" not in young.err and young.err.count("try again in ") == 2 and young.out == ""
    eventually(lambda: ctl("alice", "prune", "--dry-run").out.count("\n") == 2, 20, "the sockets' age")
    dry = ctl("alice", "prune", "--dry-run")
    assert "\x1b" not in dry.out and "a [31mb: would be removed" in dry.out
    assert len(ctl("alice", "prune", "-j").json) == 2 and os.listdir(directory) == []


# --- descriptors ---


def test_shared_pipe(firecracker, run, alice):
    """Those who write into the same pipe are not made non-blocking, not even meanwhile."""
    reader, writer = os.pipe()
    os.fchown(writer, alice.uid, alice.account.gid)
    web = run("alice", "web", "--config-file", configuration("web"), terminal=False, stdout=writer)
    seen = b""
    while b"\nu" not in b"\n" + seen:
        seen += os.read(reader, 4096)
    assert os.get_blocking(writer)
    web.process.terminate()
    assert web.wait() == DONE and os.get_blocking(writer)
    os.close(reader)
    os.close(writer)
