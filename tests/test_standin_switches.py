# SPDX-License-Identifier: MIT
"""The stand-in's own switches, for the ways in which a VMM can misbehave."""

import json
import os
import socket
import struct
import subprocess
import time

import pytest

from standins import (  # noqa: F401
    CTRL_ALT_DEL, HERE, INFO, NO_CONTENT, PAUSE, RESUME, STANDIN, START, VERSION, answer, boot_source, carrier,
    config, connect, fault, put, receive, receive_all, run, spawn, standin, still_open, tap, vm_config,
)


def test_switches_are_in_the_help():
    text = run(STANDIN, "--help").stdout.decode()
    assert text.startswith("STAND-IN")
    source = (HERE / "vmm" / "firecracker-standin.c").read_text(encoding="utf-8")
    table = source[source.index("static bool parse_own_option") : source.index("size_t n = strcspn")]
    names = [line.split('"')[1] for line in table.splitlines() if line.strip().startswith("{")] + ["no-accept"]
    assert len(names) > 20
    for name in names:
        assert f"--standin-{name}" in text


@pytest.mark.parametrize(
    "switch", ["paused=1", "exit-after", "exit-after=x", "exit-after=1:x", "guest-delay=1x", "drips"], ids=str
)
def test_wrong_switch(tmp_path, switch):
    assert run(STANDIN, "--api-sock", tmp_path / "s", f"--standin-{switch}").returncode == 153


def test_listen_after(standin, tmp_path):
    vmm = standin("--standin-listen-after=300", wait=False)
    # Bound means a file; there is no event for it but the directory's own, and inotify is not in Python's library.
    while not vmm.path.exists():
        assert vmm.process.poll() is None
    with pytest.raises(ConnectionRefusedError):
        vmm.connect()
    vmm.wait_until_listening()
    vmm.ask(VERSION, answer(200, {"firecracker_version": "1.16.1"}))


def test_no_answer(standin):
    with standin("--standin-no-answer").connect() as s:
        s.sendall(CTRL_ALT_DEL)
        assert still_open(s, 0.3)


def test_refuse(standin):
    text = 'no "luck"\\\n\x01\x7f é'
    vmm = standin(f"--standin-refuse={text}")
    expected = b'{"fault_message":"no \\"luck\\"\\\\\\n\\u0001\x7f \xc3\xa9"}'
    vmm.ask(CTRL_ALT_DEL, answer(400, expected))
    assert json.loads(expected)["fault_message"] == text
    vmm.ask(VERSION, answer(200, {"firecracker_version": "1.16.1"}))


def test_paused(standin):
    vmm = standin("--standin-paused")
    with vmm.connect() as s:
        s.sendall(INFO)
        assert b"Paused" in s.recv(4096)
    vmm.ask(CTRL_ALT_DEL, NO_CONTENT)
    vmm.ask(RESUME, NO_CONTENT)
    assert vmm.wait() == "exited 0"


def test_ignore_ctrl_alt_del(standin, config):
    vmm = standin("--standin-ignore-ctrl-alt-del", "--config-file", config())
    for _ in range(4):
        vmm.ask(CTRL_ALT_DEL, NO_CONTENT)
    vmm.ask(CTRL_ALT_DEL, fault("Internal VMM error: I8042 error: i8042 internal buffer full."))
    with pytest.raises(subprocess.TimeoutExpired):
        vmm.process.wait(0.3)


@pytest.mark.parametrize(("delay", "at_least"), [("--standin-guest-delay=300", 0.3), ("--standin-paused", 0.02)])
def test_guest_delay(standin, config, delay, at_least):
    vmm = standin(delay, "--config-file", config())
    start = time.monotonic()
    vmm.ask(CTRL_ALT_DEL, NO_CONTENT)
    vmm.ask(RESUME, NO_CONTENT)
    assert vmm.wait() == "exited 0"
    assert at_least <= time.monotonic() - start < at_least + 2


def test_pausing_stops_the_keys(standin, config):
    vmm = standin("--standin-guest-delay=200", "--config-file", config())
    vmm.ask(CTRL_ALT_DEL, NO_CONTENT)
    vmm.ask(PAUSE, NO_CONTENT)
    with pytest.raises(subprocess.TimeoutExpired):
        vmm.process.wait(0.5)
    vmm.ask(RESUME, NO_CONTENT)
    assert vmm.wait() == "exited 0"


@pytest.mark.parametrize(("switch", "how"), [("50", "exited 0"), ("50:7", "exited 7"), ("0:148", "exited 148")])
def test_exit_after(standin, switch, how):
    assert standin(f"--standin-exit-after={switch}").wait() == how


def test_drip(standin):
    with standin("--standin-drip").connect() as s:
        start = time.monotonic()
        s.sendall(VERSION)
        pieces = [s.recv(4096) for _ in range(5)]
        assert b"".join(pieces) == b"HTTP/"
        assert time.monotonic() - start >= 0.4


@pytest.mark.parametrize(
    ("switch", "first", "line"),
    [
        ("endless-continue", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("endless-headers", b"HTTP/1.1 200 \r\n", b"X-And-Another: of as many bytes as it takes to fill somebody's memory in the end\r\n"),
    ],
)
def test_endless(standin, switch, first, line):
    with standin(f"--standin-{switch}").connect() as s:
        s.sendall(CTRL_ALT_DEL)
        assert receive(s, len(first)) == first
        assert receive(s, len(line) * 50000) == line * 50000


def test_redirect(standin):
    expected = b"HTTP/1.1 302 Found\r\nLocation: http://localhost/x\r\nContent-Length: 0\r\n\r\n"
    standin("--standin-redirect=http://localhost/x").ask(CTRL_ALT_DEL, expected)


def test_http09(standin):
    with standin("--standin-http09").connect() as s:
        s.sendall(CTRL_ALT_DEL)
        assert receive_all(s) == b'{"fault_message":"no status line"}'


def test_close_mid_body(standin):
    with standin("--standin-close-mid-body").connect() as s:
        s.sendall(CTRL_ALT_DEL)
        head, body = receive_all(s).split(b"\r\n\r\n")
    assert b"Content-Length: 60" in head
    assert 0 < len(body) < 60


def test_huge_body(standin):
    with standin("--standin-huge-body").connect() as s:
        s.sendall(CTRL_ALT_DEL)
        expected = fault("A" * 10_000_000)
        assert receive(s, len(expected)) == expected


def test_unlink(standin):
    vmm = standin("--standin-unlink")
    assert not vmm.path.exists()
    assert vmm.process.poll() is None


def test_stop_listening(standin):
    vmm = standin("--standin-stop-listening")
    with pytest.raises(ConnectionRefusedError):
        vmm.connect()
    assert vmm.process.poll() is None


def test_fork(standin):
    vmm = standin("--standin-fork")
    word, pid = vmm.line().split()
    assert word == b"child"
    vmm.children.append(int(pid))
    assert vmm.wait() == "exited 0"
    with vmm.connect() as s:
        assert struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == vmm.process.pid
        s.sendall(VERSION)
        assert b"200" in s.recv(4096)


@pytest.mark.parametrize(("switch", "room"), [("no-accept", 1), ("no-accept=1", 2), ("no-accept=128", 129)])
def test_no_accept(standin, switch, room):
    vmm = standin(f"--standin-{switch}")
    queued = [connect(vmm.path, nonblocking=True) for _ in range(room)]
    with pytest.raises(BlockingIOError):
        connect(vmm.path, nonblocking=True)
    for s in queued:
        s.close()


def test_vsock(standin, tmp_path):
    log = tmp_path / "log"
    vmm = standin(f"--standin-vsock={tmp_path / 'vsock'}", f"--standin-log={log}")
    with connect(tmp_path / "vsock") as s:
        assert struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == vmm.process.pid
        s.sendall(INFO)
        assert still_open(s, 0.2)
    vmm.ask(VERSION, answer(200, {"firecracker_version": "1.16.1"}))
    vmm.process.kill()
    vmm.process.wait()
    assert f"{len(INFO)} bytes from uid {os.geteuid()} on vsock\n" in log.read_text()


def test_exec_lets_the_tap_go(standin, config, tap):
    file = config(vm_config(**{"network-interfaces": [{"iface_id": "e", "host_dev_name": tap}]}))
    vmm = standin("--config-file", file, "--standin-exec=/bin/sh", after=["--", "-c", "echo here; exec sleep 1000"])
    assert [vmm.line(), vmm.line()] == [b"u\n", b"here\n"]
    assert not carrier(tap)
    assert vmm.process.poll() is None


def test_exec_waits_for_the_start(standin, tap):
    vmm = standin("--standin-exec=/bin/echo", after=["--", "gone", "over"])
    vmm.ask(put("/network-interfaces/e", {"iface_id": "e", "host_dev_name": tap}), NO_CONTENT)
    assert carrier(tap)
    vmm.ask(boot_source(), NO_CONTENT)
    vmm.ask(START, NO_CONTENT)
    assert [vmm.line(), vmm.line()] == [b"u\n", b"gone over\n"]
    assert not carrier(tap)


def test_log(standin, tmp_path):
    log = tmp_path / "log"
    vmm = standin(f"--standin-log={log}")
    vmm.connect().close()
    vmm.ask(VERSION, answer(200, {"firecracker_version": "1.16.1"}))
    with vmm.connect() as s:
        # Sent, and gone before it could be answered: it counts as received all the same.
        s.sendall(b"GET")
    # Connections are looked at in turn: when this one is answered, the others are closed and written down.
    with vmm.connect() as s:
        s.sendall(VERSION)
        assert s.recv(4096)
        assert log.read_text().splitlines() == [
            f"{n} bytes from uid {os.geteuid()}" for n in (0, len(VERSION), 3)
        ]
