# SPDX-License-Identifier: MIT
"""What the tests of the stand-in for Firecracker share: requests and answers, and the stand-in or the real one as a process."""

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


def run(binary, *args):
    return subprocess.run(
        [str(binary), *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False, preexec_fn=Vmm.no_core
    )


def recorded_request(case):
    """The bytes to send. The recording leaves out the path of the kernel image, which is not the same everywhere."""
    return boot_source() if case["case"] == "boot source" else case["request"].encode()


def case_id(case):
    return f"{case['state']}: {case['case']}"
