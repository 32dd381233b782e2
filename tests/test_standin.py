# SPDX-License-Identifier: MIT
"""Holds the stand-in for Firecracker to what a real one was seen to do.

The other tests believe in vmm/firecracker-standin.c; these are why they may. What a real Firecracker answered on its API socket is
in vmm/answers-1.16.1.json: each of those answers is asked for again and compared byte for byte, with the state of the connection
afterwards. Where FIRECRACKER names a real binary and /dev/kvm can be used, every test of the shared behaviour runs on that one as
well, with the tests' own guest. Its switches for misbehaviour are in
test_standin_switches.py.
"""

import json
import os
import resource
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from standins import (  # noqa: F401
    AFTER_START, ANSWERS, BEFORE_START, CTRL_ALT_DEL, INFO, NO_CONTENT, PAUSE, RECORDING, RESUME, START, VERSION,
    answer, bad_body, binary, boot_source, carrier, case_id, config, connect, either, fault, http_error, put, receive,
    receive_all, recorded_request, run, spawn, still_open, tap, vm_config,
)

# The recorded answers


@pytest.mark.parametrize("case", ANSWERS, ids=case_id)
def test_recorded_answer(either, case):
    vmm = either()
    others = []
    if case["case"] == "start":
        vmm.ask(boot_source(), NO_CONTENT)
    vmm.bring_to(case["state"])
    if "Ctrl-Alt-Del no." in case["case"] or case["case"].startswith("resume"):
        number = 5 if case["case"].startswith("resume") else int(case["case"].split("no. ")[1][0])
        for _ in range(min(number - 1, 4)):
            vmm.ask(CTRL_ALT_DEL, NO_CONTENT)
    if "11th" in case["case"]:
        others = [vmm.connect() for _ in range(10)]
        # Accepted, all of them, not only queued.
        for s in others:
            s.sendall(VERSION)
            assert s.recv(4096).endswith(b"}")

    with vmm.connect() as s:
        if case["request"]:
            s.sendall(recorded_request(case))
        expected = case["reply"].encode()
        assert receive(s, len(expected)) == expected
        if case["then"] == "kept open":
            assert still_open(s, 0.1)
        else:
            assert receive(s, 1) == b""
    for s in others:
        s.close()
    if case["case"].startswith("resume"):
        assert vmm.wait() == f"exited {RECORDING['after exit']['exit status']}"
        assert vmm.path.exists() == (RECORDING["after exit"]["socket file"] == "still there")


MORE_ANSWERS = {
    "start without a boot source": (START, fault("Start microvm error: Cannot start microvm without kernel configuration.")),
    "flush before the start": (put("/actions", {"action_type": "FlushMetrics"}), BEFORE_START),
    "resume before the start": (RESUME, BEFORE_START),
    "unknown state": (put("/vm", {"state": "X"}, "PATCH"), bad_body("unknown variant `X`, expected `Paused` or `Resumed` at line 1 column 12")),
    "unknown field of vm": (put("/vm", {"x": 1}, "PATCH"), bad_body("unknown field `x`, expected `state` at line 1 column 4")),
    "empty object": (put("/actions", {}), bad_body("missing field `action_type` at line 1 column 2")),
    "string": (put("/actions", "x"), bad_body('invalid type: string "x", expected struct ActionBody at line 1 column 3')),
    "number": (put("/actions", 17), bad_body("invalid type: integer `17`, expected struct ActionBody at line 1 column 2")),
    "null": (put("/actions", b"null"), bad_body("invalid type: null, expected struct ActionBody at line 1 column 4")),
    "number for the action": (put("/actions", {"action_type": 1}), bad_body("expected value at line 1 column 16")),
    "field twice": (
        put("/actions", b'{"action_type":"SendCtrlAltDel","action_type":"SendCtrlAltDel"}'),
        bad_body("duplicate field `action_type` at line 1 column 45"),
    ),
    "blanks": (put("/actions", b' { "action_type" : "SendCtrlAltDel" } '), BEFORE_START),
    "trailing characters": (put("/actions", b'{"action_type":"SendCtrlAltDel"} x'), bad_body("trailing characters at line 1 column 34")),
    "trailing comma": (put("/actions", b'{"action_type":"SendCtrlAltDel",}'), bad_body("trailing comma at line 1 column 33")),
    "cut in a string": (put("/actions", b'{"action_type":"SendCtrlAl'), bad_body("EOF while parsing a string at line 1 column 26")),
    "cut in an object": (put("/actions", b'{"action_type":"SendCtrlAltDel"'), bad_body("EOF while parsing an object at line 1 column 31")),
    "cut before a value": (put("/actions", b'{"action_type":'), bad_body("EOF while parsing a value at line 1 column 15")),
    "open brace": (put("/actions", b"{"), bad_body("EOF while parsing an object at line 1 column 1")),
    "no comma": (put("/actions", b'{"action_type":"SendCtrlAltDel" "x":1}'), bad_body("expected `,` or `}` at line 1 column 33")),
    "no colon": (put("/actions", b'{"action_type" "a"}'), bad_body("expected `:` at line 1 column 16")),
    "key without quotes": (put("/actions", b'{action_type:"a"}'), bad_body("key must be a string at line 1 column 2")),
    "second line": (
        put("/actions", b'{\n"action_type":"Nope"}'),
        bad_body("unknown variant `Nope`, expected one of `FlushMetrics`, `InstanceStart`, `SendCtrlAltDel` at line 2 column 20"),
    ),
    "escapes": (
        put("/actions", b'{"action_type":"No\\u0041\\"pe"}'),
        bad_body('unknown variant `NoA"pe`, expected one of `FlushMetrics`, `InstanceStart`, `SendCtrlAltDel` at line 1 column 29'),
    ),
    "control character": (
        put("/actions", b'{"action_type":"a\tb"}'),
        bad_body("control character (\\u0000-\\u001F) found while parsing a string at line 1 column 18"),
    ),
    "bad escape": (put("/actions", b'{"action_type":"\\q"}'), bad_body("invalid escape at line 1 column 18")),
    "empty patch": (b"PATCH /vm HTTP/1.1\r\n\r\n", fault("Empty PATCH request.")),
    "get with a body": (put("/", {}, "GET"), fault("GET request cannot have a body.")),
    "delete with a body": (put("/", {}, "DELETE"), fault("Empty Delete request.")),
    "unknown path with a body": (put("/nope", {}), fault("Invalid request method and/or path: PUT nope.")),
    "post": (put("/", {}, "POST"), http_error("Invalid HTTP Method: Unsupported HTTP method.")),
    "absolute target": (b"GET http://localhost/version HTTP/1.1\r\n\r\n", answer(200, {"firecracker_version": "1.16.1"})),
    "slashes": (b"GET //version/ HTTP/1.1\r\n\r\n", answer(200, {"firecracker_version": "1.16.1"})),
    "query": (b"GET /?a HTTP/1.1\r\n\r\n", fault("Invalid request method and/or path: GET ?a.")),
    "empty target": (b"GET  HTTP/1.1\r\n\r\n", http_error("Invalid URI: Empty URI not allowed.")),
    "no length": (
        b"PUT /actions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        http_error("Invalid header. Reason: Invalid value. Key:Content-Length; Value: x"),
    ),
    "header without a colon": (
        b"GET / HTTP/1.1\r\nfoo\r\n\r\n",
        http_error("Invalid header. Reason: Header is incorrectly formatted. Key: foo"),
    ),
    "request line too long": (b"GET /" + b"a" * 1019, http_error("Invalid request.")),
    "header too long": (
        b"GET / HTTP/1.1\r\nX: " + b"a" * 1021,
        http_error("Invalid header. Reason: Invalid content length. Header: X: " + "a" * 1021),
    ),
    "body and another request": (CTRL_ALT_DEL + VERSION, BEFORE_START + answer(200, {"firecracker_version": "1.16.1"})),
    "body a request later": (
        b"PUT /actions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 32\r\n\r\n" + CTRL_ALT_DEL[-32:],
        b"HTTP/1.1 100 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n" + BEFORE_START,
    ),
    "machine without memory": (
        put("/machine-config", {"vcpu_count": 2}),
        bad_body("missing field `mem_size_mib` at line 1 column 16"),
    ),
    "machine of the wrong type": (
        put("/machine-config", {"vcpu_count": "2", "mem_size_mib": 256}),
        bad_body('invalid type: string "2", expected u8 at line 1 column 17'),
    ),
    "machine with a fraction": (
        put("/machine-config", {"vcpu_count": 2.5, "mem_size_mib": 256}),
        bad_body("invalid type: floating point `2.5`, expected u8 at line 1 column 17"),
    ),
    "machine with minus one processor": (
        put("/machine-config", {"vcpu_count": -1, "mem_size_mib": 256}),
        bad_body("invalid value: integer `-1`, expected u8 at line 1 column 16"),
    ),
    "machine with too many": (
        put("/machine-config", {"vcpu_count": 300, "mem_size_mib": 256}),
        bad_body("invalid value: integer `300`, expected u8 at line 1 column 17"),
    ),
    "machine with none": (
        put("/machine-config", {"vcpu_count": 0, "mem_size_mib": 256}),
        fault(
            "Machine config error: The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT "
            "is enabled."
        ),
    ),
    "no kernel": (
        put("/boot-source", {"kernel_image_path": "/nonexistent"}),
        fault("Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)"),
    ),
    "no initrd": (
        put("/boot-source", {"kernel_image_path": "/dev/null", "initrd_path": "/nonexistent"}),
        fault(
            "Boot source error: The initrd file cannot be opened due to invalid path or invalid permissions. No such file or "
            "directory (os error 2)"
        ),
    ),
    "unknown field of boot source": (
        put("/boot-source", {"x": 2}),
        bad_body("unknown field `x`, expected one of `kernel_image_path`, `initrd_path`, `boot_args` at line 1 column 4"),
    ),
    "drive": (
        put("/drives/r", {"drive_id": "r", "path_on_host": "/dev/null", "is_root_device": False, "is_read_only": True}),
        NO_CONTENT,
    ),
    "no drive": (
        put("/drives/r", {"drive_id": "r", "path_on_host": "/nonexistent", "is_root_device": False, "is_read_only": True}),
        fault(
            "Drive config error: Unable to create the virtio block device: Virtio backend error: Error manipulating the backing file: "
            "No such file or directory (os error 2) /nonexistent"
        ),
    ),
    "another drive": (
        put("/drives/q", {"drive_id": "r", "path_on_host": "/dev/null", "is_root_device": False}),
        fault("The id from the path does not match the id from the body!"),
    ),
    "drive without a name": (put("/drives", {"drive_id": "r", "is_root_device": False}), fault("The ID cannot be empty.")),
    "interface of the wrong name": (
        put("/network-interfaces/e-0", {"iface_id": "e-0", "host_dev_name": "x"}),
        fault("API Resource IDs can only contain alphanumeric characters and underscores."),
    ),
    "another interface": (
        put("/network-interfaces/f", {"iface_id": "e", "host_dev_name": "x"}),
        fault("The id from the path [f] does not match the id from the body [e]!"),
    ),
    "interface without a tap": (
        put("/network-interfaces/e", {"iface_id": "e"}),
        bad_body("missing field `host_dev_name` at line 1 column 16"),
    ),
    "tap of 16 bytes": (
        put("/network-interfaces/e", {"iface_id": "e", "host_dev_name": "sixteen-bytes-it"}),
        fault("Network config error: Could not create the network device: Open tap device failed: Invalid interface name"),
    ),
}


@pytest.mark.parametrize("name", MORE_ANSWERS)
def test_more_answers_before_the_start(either, name):
    request, expected = MORE_ANSWERS[name]
    with either().connect() as s:
        s.sendall(request)
        assert receive(s, len(expected)) == expected
        assert still_open(s, 0.1)


def test_goes_on_after_a_refused_request(either):
    with either().connect() as s:
        expected = http_error("Invalid request.")
        s.sendall(b"garbage\r\n\r\n" + VERSION)
        assert receive(s, len(expected)) == expected
        expected = answer(200, {"firecracker_version": "1.16.1"})
        s.sendall(VERSION)
        assert receive(s, len(expected)) == expected


def test_machine_configuration_is_kept(either):
    vmm = either()
    vmm.ask(put("/machine-config", {"vcpu_count": 2, "mem_size_mib": 256}), NO_CONTENT)
    expected = {"vcpu_count": 2, "mem_size_mib": 256, "smt": False, "track_dirty_pages": False, "huge_pages": "None"}
    vmm.ask(b"GET /machine-config HTTP/1.1\r\n\r\n", answer(200, expected))
    vmm.bring_to("running")
    vmm.ask(put("/machine-config", {"vcpu_count": 1, "mem_size_mib": 128}), AFTER_START)
    vmm.ask(b"GET /machine-config HTTP/1.1\r\n\r\n", answer(200, expected))


def test_states(either):
    vmm = either()
    vmm.ask(boot_source(), NO_CONTENT)
    vmm.ask(boot_source(), NO_CONTENT)
    vmm.ask(START, NO_CONTENT)
    vmm.ask(boot_source(), AFTER_START)
    vmm.ask(put("/drives/r", {"drive_id": "r", "path_on_host": "/dev/null", "is_root_device": False}), fault("PCI is not enabled"))
    vmm.ask(put("/network-interfaces/e", {"iface_id": "e", "host_dev_name": "x"}), fault("PCI is not enabled"))
    vmm.ask(put("/actions", {"action_type": "FlushMetrics"}), NO_CONTENT)
    vmm.ask(RESUME, NO_CONTENT)
    vmm.ask(PAUSE, NO_CONTENT)
    vmm.ask(PAUSE, NO_CONTENT)
    vmm.ask(START, AFTER_START)
    vmm.ask(RESUME, NO_CONTENT)
    vmm.ask(CTRL_ALT_DEL, NO_CONTENT)
    assert vmm.wait() == "exited 0"


# The socket


def test_mode_and_owner(binary, spawn, tmp_path):
    before = os.umask(0o026)
    try:
        vmm = spawn(binary)
    finally:
        os.umask(before)
    status = os.stat(vmm.path)
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o751, os.geteuid(), os.getegid())


def test_peer_is_the_listener(either):
    vmm = either()
    with vmm.connect() as s:
        pid, uid, gid = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    assert (pid, uid, gid) == (vmm.process.pid, os.geteuid(), os.getegid())
    assert Path(f"/proc/{pid}/comm").read_text() == "firecracker\n"


def test_backlog_is_as_large_as_the_system_allows(either):
    vmm = either()
    queued = []
    os.kill(vmm.process.pid, signal.SIGSTOP)
    os.waitpid(vmm.process.pid, os.WUNTRACED)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = int(Path("/proc/sys/net/core/somaxconn").read_text()) + 1
    if hard < room + 100:
        pytest.skip(f"a limit of {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, room + 100), hard))
    try:
        for _ in range(room):
            queued.append(connect(vmm.path, nonblocking=True))
        with pytest.raises(BlockingIOError):
            connect(vmm.path, nonblocking=True)
    finally:
        for s in queued:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_closed_connection_makes_room(either):
    vmm = either()
    others = [vmm.connect() for _ in range(10)]
    for s in others:
        s.sendall(VERSION)
        assert s.recv(4096)
    with vmm.connect() as s:
        assert b"503" in receive_all(s)
    # Hanging up is an event of its own to the other side; a full house may be met before it is seen.
    others.pop().close()
    deadline = time.monotonic() + 5
    while True:
        with vmm.connect() as s:
            try:
                s.sendall(VERSION)
            except BrokenPipeError:
                pass
            if b"200" in s.recv(4096):
                break
        assert time.monotonic() < deadline
    for s in others:
        s.close()


def test_half_closed_is_closed(either):
    with either().connect() as s:
        s.sendall(VERSION)
        assert s.recv(4096)
        s.shutdown(socket.SHUT_WR)
        assert receive(s, 1) == b""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_socket_is_left_behind(either, how):
    vmm = either()
    vmm.process.send_signal(how)
    vmm.wait()
    with pytest.raises(ConnectionRefusedError):
        vmm.connect()


# The command line and the ways to end


def test_version(binary):
    result = run(binary, "--version")
    assert result.returncode == 0
    assert result.stdout.startswith(b"Firecracker v1.16.1\n\n")


def test_help(binary):
    assert run(binary, "--help").returncode == 0
    assert run(binary, "--nope", "-h").returncode == 0


@pytest.mark.parametrize(
    "args",
    [["--nope"], ["x"], ["--api-sock"], ["--api-sock=/nonexistent/x"], ["--id", "a", "--id", "b"], ["--no-api"], ["--standin-nope"]],
    ids=" ".join,
)
def test_wrong_arguments(binary, args):
    assert run(binary, *args).returncode == 153


def test_wrong_id(binary):
    assert run(binary, "--id", "a b").returncode == -signal.SIGABRT


def test_socket_exists(either, binary):
    vmm = either()
    result = run(binary, "--api-sock", vmm.path)
    assert f"exited {result.returncode}" == RECORDING["exit status by cause"]["API socket file exists"]
    assert b"Failed to open the API socket at: %s. Check that it is not already used." % bytes(vmm.path) in result.stdout + result.stderr


@pytest.mark.parametrize(("path", "why"), [("/nonexistent/x", b"(os error 2)"), ("/tmp/" + "x" * 103, b"SUN_LEN")])
def test_socket_cannot_be_made(binary, path, why):
    result = run(binary, "--api-sock", path)
    assert result.returncode == 1
    assert why in result.stdout + result.stderr


def test_configuration_file_missing(binary, tmp_path):
    result = run(binary, "--api-sock", tmp_path / "s", "--config-file", tmp_path / "nope")
    assert f"signaled {-result.returncode}" == RECORDING["exit status by cause"]["configuration file missing"]
    assert not (tmp_path / "s").exists()


BAD_CONFIGURATIONS = {
    "no JSON": ("hello", "Invalid JSON: expected value at line 1 column 1"),
    "empty": ("", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
    "nothing in it": ("{}", "Invalid JSON: missing field `drives` at line 1 column 2"),
    "no boot source": ('{"drives":[]}', "Invalid JSON: missing field `boot-source` at line 1 column 13"),
    "no kernel": (
        json.dumps({"boot-source": {"kernel_image_path": "/nonexistent"}, "drives": []}),
        "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)",
    ),
    "wrong tap": (
        json.dumps(vm_config(**{"network-interfaces": [{"iface_id": "e", "host_dev_name": "sixteen-bytes-it"}]})),
        "Network device error: Could not create the network device: Open tap device failed: Invalid interface name",
    ),
}


@pytest.mark.parametrize("name", BAD_CONFIGURATIONS)
def test_bad_configuration_file(binary, tmp_path, config, name):
    text, why = BAD_CONFIGURATIONS[name]
    result = run(binary, "--api-sock", tmp_path / "s", "--config-file", config(text))
    assert f"exited {result.returncode}" == RECORDING["exit status by cause"]["configuration file is no JSON"]
    assert why.encode() in result.stdout + result.stderr
    assert (tmp_path / "s").exists()


def test_configuration_file_starts_it(either, config):
    vmm = either("--config-file", config(vm_config(unknown=1)))
    expected = next(case["reply"] for case in ANSWERS if case_id(case) == "running: instance info").encode()
    vmm.ask(INFO, expected)
    vmm.ask(CTRL_ALT_DEL, NO_CONTENT)
    assert vmm.wait() == RECORDING["exit status by cause"]["guest resets (0xFE to port 0x64)"]
    assert vmm.path.exists()


def test_no_api(either, config):
    vmm = either("--config-file", config(), "--no-api", wait=False)
    line = vmm.line()
    while line != b"running\n" and b"Successfully started microvm" not in line:
        assert line
        line = vmm.line()
    assert not vmm.path.exists()


CAUSES = {cause: how for cause, how in RECORDING["exit status by cause"].items() if cause.startswith("SIG") and " " not in cause}


@pytest.mark.parametrize("cause", CAUSES)
def test_signal(either, cause):
    vmm = either()
    vmm.process.send_signal(getattr(signal, cause))
    if CAUSES[cause] == "ignored, logged":
        vmm.ask(VERSION, answer(200, {"firecracker_version": "1.16.1"}))
        assert vmm.process.poll() is None
    else:
        assert vmm.wait() == CAUSES[cause]


def test_sigterm_as_pid_1_of_its_own_namespace(binary, tmp_path):
    assert RECORDING["exit status by cause"]["SIGTERM as pid 1 of its own pid namespace"] == "ignored"
    path = tmp_path / "s"
    command = ["unshare", "--pid", "--fork", "--kill-child", str(binary), "--api-sock", str(path), "--id", "web"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as wrapper:
        try:
            line = wrapper.stdout.readline()
            if not line and b"unshare failed" in wrapper.stderr.read():
                pytest.skip("no pid namespace of its own")
            while line != b"listening\n" and b"API server started" not in line:
                assert line
                line = wrapper.stdout.readline()
            with connect(path) as s:
                pid = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            os.kill(pid, signal.SIGTERM)
            with connect(path) as s:
                s.sendall(VERSION)
                assert s.recv(4096).endswith(b'{"firecracker_version":"1.16.1"}')
        finally:
            wrapper.kill()


# Taps


def test_tap_by_request(either, tap):
    request = put("/network-interfaces/e", {"iface_id": "e", "host_dev_name": tap})
    busy = fault(
        "Network config error: Could not create the network device: Open tap device failed: Error while creating ifreq structure: "
        f"Device or resource busy (os error 16). Invalid TUN/TAP Backend provided by {tap}. Check our documentation on setting up the "
        "network devices."
    )
    first, second = either(), either()
    first.ask(request, NO_CONTENT)
    assert carrier(tap)
    first.ask(request, NO_CONTENT)
    first.ask(put("/network-interfaces/f", {"iface_id": "f", "host_dev_name": tap}), busy)
    second.ask(request, busy)
    first.process.kill()
    first.process.wait()
    assert not carrier(tap)
    second.ask(request, NO_CONTENT)
    assert carrier(tap)


def test_tap_by_configuration_file(either, config, tap):
    file = config(vm_config(**{"network-interfaces": [{"iface_id": "e", "host_dev_name": tap, "guest_mac": "06:00:AC:10:00:02"}]}))
    vmm = either("--config-file", file)
    # The real one says that it listens before it has read the file; it answers when it has.
    with vmm.connect() as s:
        s.sendall(INFO)
        assert b"Running" in s.recv(4096)
    assert carrier(tap)
    vmm.ask(CTRL_ALT_DEL, NO_CONTENT)
    assert vmm.wait() == "exited 0"
    assert not carrier(tap)
