# SPDX-License-Identifier: MIT
"""Holds the stand-in for Firecracker to what a real one was seen to do.

The other tests believe in vmm/firecracker-standin.c; these are why they may. What a real Firecracker answered on its API socket is
in vmm/answers-1.16.1.json: each of those answers is asked for again and compared byte for byte, with the state of the connection
afterwards. Where FIRECRACKER names a real binary and /dev/kvm can be used, every test of the shared behaviour runs on that one as
well, with the tests' own guest. The switches for misbehaviour are the stand-in's alone.
"""

import array
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
VMM = Path(os.environ.get("BUILD_DIR", HERE.parent / "build")).resolve() / "tests" / "vmm"
STANDIN = VMM / "firecracker"
GUEST = VMM / "guest"
RECORDING = json.loads((HERE / "vmm" / "answers-1.16.1.json").read_text(encoding="utf-8"))
ANSWERS = RECORDING["answers"]

VERSION = b"GET /version HTTP/1.1\r\n\r\n"
INFO = b"GET / HTTP/1.1\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n"


def put(path, body, method="PUT"):
    data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    return b"%s %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (method.encode(), path.encode(), len(data), data)


def answer(status, body):
    data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return (
        b"HTTP/1.1 %d \r\nServer: Firecracker API\r\nConnection: keep-alive\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (status, len(data), data)
    )


def fault(text):
    return answer(400, {"fault_message": text})


def bad_body(text):
    return fault(f"An error occurred when deserializing the json body of a request: {text}.")


def http_error(text):
    return answer(400, b'{ "error": "%s\nAll previous unanswered requests will be dropped." }' % text.encode())


CTRL_ALT_DEL = put("/actions", {"action_type": "SendCtrlAltDel"})
START = put("/actions", {"action_type": "InstanceStart"})
PAUSE = put("/vm", {"state": "Paused"}, "PATCH")
RESUME = put("/vm", {"state": "Resumed"}, "PATCH")
BEFORE_START = fault("The requested operation is not supported before starting the microVM.")
AFTER_START = fault("The requested operation is not supported after starting the microVM.")


def boot_source():
    return put("/boot-source", {"kernel_image_path": str(GUEST), "boot_args": "reboot=k"})


def vm_config(**more):
    return {
        "boot-source": {"kernel_image_path": str(GUEST), "boot_args": "reboot=k"},
        "drives": [],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 128},
        **more,
    }


def real_firecracker():
    """The path of the real one, or why there is none."""
    path = os.environ.get("FIRECRACKER")
    if not path:
        return None, "FIRECRACKER names no real Firecracker"
    if not os.access(path, os.X_OK):
        return None, f"FIRECRACKER={path} cannot be executed"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return None, "/dev/kvm cannot be used"
    if not GUEST.exists():
        return None, f"{GUEST} is not built"
    return path, None


def connect(path, nonblocking=False):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.setblocking(not nonblocking)
    try:
        s.connect(str(path))
    except OSError:
        s.close()
        raise
    s.settimeout(10)
    return s


def receive(s, size):
    """Exactly size bytes, or as many as come before the end."""
    data = b""
    while len(data) < size:
        block = s.recv(size - len(data))
        if not block:
            break
        data += block
    return data


def receive_all(s):
    data = b""
    while True:
        block = s.recv(1 << 20)
        if not block:
            return data
        data += block


def still_open(s, seconds):
    """Nothing arrives and nobody hangs up for that long."""
    return not select.select([s], [], [], seconds)[0]


def carrier(name):
    """Whether somebody holds the tap. Asked of the driver: flags and files in sysfs follow up to a second later, or belong to
    another network namespace."""
    value = array.array("I", [0x0A, 0])  # ETHTOOL_GLINK
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8946, struct.pack("16sP8x", name.encode(), value.buffer_info()[0]))  # SIOCETHTOOL
    return bool(value[1])


class Vmm:
    """One Firecracker, real or not; it is ended by its own pid."""

    def __init__(self, binary, directory, *args, api_sock=None, wait=True, after=()):
        self.real = str(binary) != str(STANDIN)
        self.path = Path(api_sock or directory / f"{len(list(directory.iterdir()))}.sock")
        command = [str(binary), "--api-sock", str(self.path), "--id", "web", *map(str, args), *after]
        self.children = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=self.no_core
        )
        if wait:
            self.wait_until_listening()

    @staticmethod
    def no_core():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def wait_until_listening(self):
        line = self.line()
        if not self.real:
            assert line == b"listening\n", self.process.stderr.read()
            return
        # The real one's own log, on the same stdout.
        while b"API server started" not in line:
            assert line, self.process.stderr.read()
            line = self.line()

    def line(self):
        return self.process.stdout.readline()

    def connect(self):
        return connect(self.path)

    def ask(self, request, expected):
        """On a connection of its own."""
        with self.connect() as s:
            s.sendall(request)
            assert receive(s, len(expected)) == expected

    def bring_to(self, state):
        if state == "not started":
            return
        self.ask(boot_source(), NO_CONTENT)
        self.ask(START, NO_CONTENT)
        if state == "paused":
            self.ask(PAUSE, NO_CONTENT)

    def wait(self):
        """As the recording names the ways to end."""
        status = self.process.wait(10)
        return f"signaled {-status}" if status < 0 else f"exited {status}"

    def end(self):
        for pid in self.children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def spawn(tmp_path):
    started = []

    def start(binary, *args, **more):
        vmm = Vmm(binary, tmp_path, *args, **more)
        started.append(vmm)
        return vmm

    yield start
    for vmm in started:
        vmm.end()


@pytest.fixture
def standin(spawn):
    return lambda *args, **more: spawn(STANDIN, *args, **more)


@pytest.fixture(params=["stand-in", "real"])
def binary(request):
    if request.param == "stand-in":
        return STANDIN
    path, reason = real_firecracker()
    if reason:
        pytest.skip(reason)
    return path


@pytest.fixture
def either(binary, spawn):
    """The stand-in and, where there is one, the real one."""
    return lambda *args, **more: spawn(binary, *args, **more)


@pytest.fixture
def config(tmp_path):
    def write(content=None):
        path = tmp_path / "vm.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content or vm_config()), encoding="utf-8")
        return path

    return write


@pytest.fixture
def tap():
    """A persistent tap in a network namespace of this process's own; whoever is started in the test inherits it."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET
        os.close(before)
        pytest.skip("no network namespace of its own: " + os.strerror(ctypes.get_errno()))
    try:
        try:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            pytest.skip(f"/dev/net/tun: {error.strerror}")
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH14x", b"tapstand", 0x1002 | 0x4000))  # TUNSETIFF
        fcntl.ioctl(fd, 0x400454CB, 1)  # TUNSETPERSIST
        os.close(fd)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"tapstand", 1))  # SIOCSIFFLAGS: up
        assert not carrier("tapstand")
        yield "tapstand"
    finally:
        assert libc.setns(before, 0x40000000) == 0
        os.close(before)


# The recorded answers


def recorded_request(case):
    """The bytes to send. The recording leaves out the path of the kernel image, which is not the same everywhere."""
    return boot_source() if case["case"] == "boot source" else case["request"].encode()


def case_id(case):
    return f"{case['state']}: {case['case']}"


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


def run(binary, *args):
    return subprocess.run(
        [str(binary), *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False, preexec_fn=Vmm.no_core
    )


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


# The stand-in's own switches


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
