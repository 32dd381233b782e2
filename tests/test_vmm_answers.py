# SPDX-License-Identifier: MIT
"""What a VMM may answer, in good faith and in bad: each costs at most two seconds and no memory."""

import http.server
import os
import socket
import threading
import time

import pytest

from conftest import ensure_directory
from fcproc import SECOND, eventually, pause, refused, sanitized
from machines import spawn_vmm

BOUND = 2.2  # seconds: hostile-cases.md
UNREACHABLE = ["--standin-no-answer", "--standin-drip", "--standin-endless-continue", "--standin-endless-headers", "--standin-http09",
               "--standin-close-mid-body"]  # fmt: skip


def timed(client, *what, **options):
    """The call, which must be over in time; the error is the caller's to look at."""
    begun = time.monotonic()
    try:
        return client.do(*what, **options)
    finally:
        took = time.monotonic() - begun
        assert took < BOUND, f"{took:.2f} s"


def assert_flat(service, before):
    if not sanitized():
        assert service.private_memory() - before < 1 << 20


@pytest.mark.parametrize("switch", UNREACHABLE)
def test_bad_answers(service, alice, vmm, switch):
    """Hostile case 26."""
    good = vmm(alice, "good", "--standin-ignore-ctrl-alt-del")
    alice.do("SendCtrlAltDel", good.sock)
    vm = vmm(alice, "web", switch, "--standin-ignore-ctrl-alt-del")
    before = service.private_memory()
    for _ in range(2):
        with refused("VmmUnreachable", says=vm.sock):
            timed(alice, "SendCtrlAltDel", vm.sock)
    assert_flat(service, before)
    assert vm.alive() and alice.do("FindPID", vm.sock) == vm.pid


class Counting(http.server.BaseHTTPRequestHandler):
    requests = []

    def do_PUT(self):
        self.requests.append(self.path)
        self.send_response(204)
        self.end_headers()

    do_GET = do_CONNECT = do_PUT

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    """A web server of this machine's that must hear nothing."""
    Counting.requests.clear()
    server = http.server.HTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    assert Counting.requests == []


@pytest.mark.parametrize("target", ["file:///etc/shadow", "web", "gopher://127.0.0.1:1/"])
def test_redirects_are_not_followed(service, alice, vmm, web, target):
    """Hostile case 26: one request, and no other to anybody."""
    ensure_directory(alice.account)
    log = alice.directory / "requests.log"
    vm = vmm(alice, "web", f"--standin-redirect={web if target == 'web' else target}", f"--standin-log={log}")
    with refused("VmmUnreachable", "VmmRefused"):
        timed(alice, "SendCtrlAltDel", vm.sock)

    def requests():
        return [line for line in log.read_text().splitlines() if not line.startswith("0 bytes")] if log.exists() else []

    eventually(requests, 5, "a line in the log")  # a look at who listens has 0 bytes
    assert len(requests()) == 1


def test_a_proxy_in_the_environment(make_service, client, web):
    """Hostile case 29: for HTTP, for everything, in both spellings."""
    make_service(environment={name: web for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")}).start()
    alice = client("alice")
    ensure_directory(alice.account)
    vm = spawn_vmm("alice", alice.sock("web"))
    try:
        assert alice.do("Shutdown", vm.sock, 10 * SECOND)[0] == "ctrl-alt-del"
    finally:
        vm.end()


def test_a_huge_body(service, alice, vmm):
    """Hostile case 27: ten megabytes."""
    good = vmm(alice, "good", "--standin-ignore-ctrl-alt-del")
    alice.do("SendCtrlAltDel", good.sock)  # the first one loads the HTTP library
    vm = vmm(alice, "web", "--standin-huge-body")
    before = service.private_memory()
    with refused("VmmUnreachable", "VmmRefused") as error:
        timed(alice, "SendCtrlAltDel", vm.sock)
    assert len(error.message) < 5000
    assert_flat(service, before)


@pytest.mark.parametrize("text", ["a\nb", 'she said "no"', "back\\slash", "tab\there", "\x1b[31mred", "nül ✗", "%s%n%1000d", "</error>"], ids=ascii)
def test_the_fault_is_passed_on(service, alice, vmm, text):
    """Hostile case 27: as valid UTF-8, whatever is in it."""
    vm = vmm(alice, "web", f"--standin-refuse={text}")
    lines = len(service.log().splitlines())
    with refused("VmmRefused") as error:
        timed(alice, "SendCtrlAltDel", vm.sock)
    for part in "".join(c if c.isprintable() else "\0" for c in text).split("\0"):
        assert part in error.message
    assert "\x1b" not in error.message
    assert len(service.log().splitlines()) - lines <= 1 and "\x1b" not in service.log()
    assert vm.alive()


def test_the_not_started_fault(service, alice, vmm):
    text = "The requested operation is not supported before starting the microVM."
    vm = vmm(alice, "web", f"--standin-refuse={text}")
    with refused("VmmRefused", says=[text, vm.sock]):
        alice.do("SendCtrlAltDel", vm.sock)


def connected(path, count):
    """Connections that somebody holds."""
    held = []
    for _ in range(count):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].connect(path)
    return held


def test_a_full_backlog(service, alice, vmm):
    """Hostile case 28: retryable, and at once."""
    vm = vmm(alice, "web", "--standin-no-accept")
    queued = []
    try:
        while True:
            queued.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            try:
                queued[-1].connect(vm.sock)
            except BlockingIOError:
                break
        begun = time.monotonic()
        with refused("VmmUnreachable", says=["again"]):
            alice.do("SendCtrlAltDel", vm.sock, timeout_usec=0)
        assert time.monotonic() - begun < 1
        with refused("WaitForExitTimeout"):
            alice.do("WaitForExit", vm.pid, vm.sock, 0)
        assert vm.alive()
    finally:
        for each in queued:
            each.close()


def test_ten_connections_taken(service, alice, vmm):
    """Hostile case 29: said to be busy within 100 ms; FindPID and Kill still work."""
    vm = vmm(alice, "web")
    held = connected(vm.sock, 10)
    try:
        pause(0.1)  # until the VMM has accepted them
        begun = time.monotonic()
        with refused("VmmUnreachable", says="busy"):
            alice.do("SendCtrlAltDel", vm.sock)
        assert time.monotonic() - begun < 0.1
        assert alice.do("FindPID", vm.sock) == vm.pid
        alice.do("Kill", vm.pid, vm.sock)
    finally:
        for each in held:
            each.close()


def test_ten_connections_taken_and_shut_down(service, alice, vmm):
    """Hostile case 29: it ends all the same."""
    vm = vmm(alice, "web")
    held = connected(vm.sock, 10)
    try:
        pause(0.1)
        assert alice.do("Shutdown", vm.sock, SECOND)[0] == "killed"
    finally:
        for each in held:
            each.close()


def test_busy_for_a_while(service, alice, vmm):
    """Shutdown tries again, and does not need to kill."""
    vm = vmm(alice, "web")
    held = connected(vm.sock, 10)
    pause(0.1)
    pending = alice.begin("Shutdown", vm.sock, 10 * SECOND)
    pause(0.3)
    assert not pending.done
    for each in held:
        each.close()
    assert pending.result()[0] == "ctrl-alt-del"


@pytest.mark.parametrize("method,args", [("SendCtrlAltDel", ()), ("Shutdown", (0,)), ("ListProcesses", None), ("Subscribe", None)])
def test_a_peer_of_another_uid_receives_nothing(service, alice, bob, vmm, method, args):
    """Hostile case 30: bob's VMM listens behind a socket in alice's directory."""
    log = f"/run/fcproc-test/standin-{method}.log"
    path = foreign(alice, bob, vmm, log)
    try:
        if args is None:
            alice.do(method)
        else:
            with refused("AccessDenied", "InteractiveAuthorizationRequired"):
                alice.do(method, path, *args)
        alice.ping()
        pause(0.2)
        lines = open(log).read().splitlines() if os.path.exists(log) else []
        assert all(line.startswith("0 bytes") for line in lines), lines
    finally:
        if os.path.exists(log):
            os.unlink(log)


def test_the_log_of_the_stand_in_sees_requests(service, alice, vmm):
    """The control of the test above."""
    ensure_directory(alice.account)
    log = str(alice.directory / "requests.log")
    vm = vmm(alice, "web", f"--standin-log={log}", "--standin-ignore-ctrl-alt-del")
    alice.do("SendCtrlAltDel", vm.sock)

    def has_request():
        return os.path.exists(log) and any(int(line.split()[0]) > 0 for line in open(log).read().splitlines())

    eventually(has_request, 5, "a line in the log for the connection that sent something")


def foreign(alice, bob, vmm, log):
    ensure_directory(alice.account)
    open(log, "w").close()
    os.chown(log, bob.uid, bob.account.gid)
    path = alice.sock("trap")
    os.rename(vmm(bob, "trap", f"--standin-log={log}").sock, path)
    os.chown(path, alice.uid, alice.account.gid)
    return path
