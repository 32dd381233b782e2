# SPDX-License-Identifier: MIT
"""fcprocctl on a terminal: the question for a password, by a real polkitd and a real agent."""

import fcntl
import os
import select
import shutil
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

import machines
from ctl import DENIED, DONE
from daemons import grant
from fcproc import BUILD, WORK, eventually


@pytest.fixture
def admins(polkit, bus):
    """Questions are for root, whose password is known."""
    usual = Path("/run/dbus/system_bus_socket")  # polkit's helper, being setuid, takes no other
    usual.symlink_to(bus.path)
    rule = Path("/etc/polkit-1/rules.d/01-fcproc-admin.rules")
    rule.write_text('polkit.addAdminRule(function(action, subject) { return ["unix-user:root"]; });\n')
    rule.chmod(0o644)
    subprocess.run(["chpasswd"], input="root:sesame\n", text=True, check=True)
    polkit.rules(grant("bob", "create-tap"))
    yield polkit
    rule.unlink()
    usual.unlink()


def asked(shown):
    """What is typed before the echo is off would be thrown away."""
    shown.expect("Password:")
    eventually(lambda: not shown.settings()[3] & termios.ECHO, 5, "the echo's end")


def test_right_password(bridge, admins, terminal):
    shown = terminal("carol", "create-tap", "tap0")
    before = shown.settings()
    asked(shown)
    shown.write("sesame\n")
    shown.expect("tap0: created")
    fd = os.dup(shown.fd)
    after = termios.tcgetattr(fd)
    os.close(fd)
    assert shown.end() == DONE and "sesame" not in shown.seen
    assert machines.taps().keys() == {"tap0"} and before[3] & termios.ECHO and after[3] & termios.ICANON


def test_wrong_password(bridge, admins, terminal):
    shown = terminal("carol", "create-tap", "tap0")
    asked(shown)
    shown.write("open\n")
    assert shown.end() == DENIED and machines.taps() == {}


def test_interrupted_question(bridge, admins, terminal):
    """Ctrl-C: exit code 4, no agent left, and the terminal echoes again."""
    shown = terminal("carol", "create-tap", "tap0")
    before = shown.settings()
    asked(shown)
    number = struct.unpack("i", fcntl.ioctl(shown.fd, 0x80045430, bytes(4)))[0]  # TIOCGPTN
    keep = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    shown.write("half a pass\x03")
    shown.expect("interrupted")
    assert shown.wait() == DENIED and shown.settings() == before
    assert not select.select([keep], [], [], 0)[0], "what was typed ahead is still there"
    os.close(keep)
    assert machines.taps() == {}
    assert subprocess.run(["pgrep", "-x", "pkttyagent"], capture_output=True).stdout == b""


def test_no_question(bridge, admins, terminal):
    """Neither when it is not wanted, nor where none is needed."""
    shown = terminal("carol", "--no-ask-password", "create-tap", "tap0")
    assert shown.end() == DENIED and "Password" not in shown.seen
    shown = terminal("bob", "create-tap", "tap1")
    assert shown.end() == DONE and "AUTHENTICATING" not in shown.seen


def test_run(bridge, admins, terminal, programs):
    """The question first, then the terminal is the guest's."""
    config = machines.vm_config(programs / "run.json", programs / "guest", "tap0")
    shown = terminal("carol", "run", "web", "--config-file", config)
    before = shown.settings()
    asked(shown)
    shown.write("sesame\n")
    shown.expect("\nu")
    shown.write("hello")
    shown.expect("hello")
    shown.write("\x03")
    fd = os.dup(shown.fd)
    assert shown.end() == DONE and "sesame" not in shown.seen and "web: exited, status 0" in shown.seen
    os.close(fd)
    assert before[3] & termios.ECHO and machines.taps() == {}


def test_two_questions(bridge, admins, terminal):
    """Two taps, two answers, one after the other."""
    shown = terminal("carol", "create-tap", "tap0", "tap1")
    asked(shown)
    shown.write("sesame\n")
    shown.expect("tap0: created")
    shown.seen = shown.seen.split("tap0: created")[1]
    asked(shown)
    shown.write("sesame\n")
    assert shown.end() == DONE and machines.taps().keys() == {"tap0", "tap1"}


def test_nobody_answers(bridge, admins, terminal):
    """After five minutes, which pass fast here, the question is over: exit code 4, no agent left, a sane terminal."""
    starter = WORK / "fast-clock"
    starter.unlink(missing_ok=True)
    library = shutil.copy(BUILD / "tests" / "libfast-clock.so", WORK / "bin")
    shown = terminal("carol", "create-tap", "tap0", LD_PRELOAD=str(library), FAST_CLOCK=str(starter))
    before = shown.settings()
    asked(shown)
    begun = time.monotonic()
    starter.touch()
    shown.expect("nobody answered the question in time")
    took = (time.monotonic() - begun) * 100
    assert 290 <= took < 600, f"after {took} s"
    keep = os.dup(shown.fd)
    assert shown.wait() == DENIED and termios.tcgetattr(keep) == before
    os.close(keep)
    assert machines.taps() == {}
    assert subprocess.run(["pgrep", "-x", "pkttyagent"], capture_output=True).stdout == b""
