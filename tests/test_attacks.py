# SPDX-License-Identifier: MIT
"""What a hostile user of the machine tried once, and what he must not get: each was found by trying."""

import os
import socket
import subprocess
import sys

import pytest
from conftest import ensure_directory
from fcproc import SECOND, BusError, acting_as, eventually, pause, refused

SLOW_SERVER = """
import socket, sys, threading, time
path, seconds = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
print("listening", flush=True)

def serve(connection):
    if connection.recv(4096):
        time.sleep(float(seconds))
        try:
            connection.sendall(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
        except OSError:
            pass
    connection.close()

while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def slow(start):
    """A server of one's own that takes its time."""

    def run(account, path, seconds):
        process = start(sys.executable, "-c", SLOW_SERVER, path, str(seconds), user=account.uid, group=account.gid,
                        extra_groups=account.groups, stdout=subprocess.PIPE, cwd="/")  # fmt: skip
        assert process.stdout.readline()
        process.stdout.close()
        return process

    return run


def test_the_socket_appears_again_while_it_is_spoken_to(service, alice, slow):
    """A second request under way was freed with the first one's call."""
    directory = ensure_directory(alice.account)
    path = f"{directory}/web.sock"
    call = alice.begin("SendCtrlAltDel", path, timeout_usec=20 * SECOND)
    pause(0.2)
    slow(alice.account, path, 0.7)
    pause(0.3)
    os.unlink(path)
    slow(alice.account, path, 0.7)
    call.result(10)
    pause(1)  # for what the second server might answer
    assert alice.do("GetUsage")["waits"] == 0


def test_a_name_that_is_no_utf8(service, alice, root, vmm):
    """Such a name went into messages, which then could not be sent: root's list failed."""
    good = vmm(alice, "web")
    strange = os.fsencode(ensure_directory(alice.account)) + b"/w\xff\xfeb.sock"
    with acting_as("alice"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(strange)
        listener.listen()
    for client in (alice, root):
        assert [p[0] for p in client.do("ListProcesses")] == [good.pid]
    listener.close()


def test_anothers_socket_is_not_connected_to(service, alice, bob):
    """Asking about it must not load it: a VMM has ten connections, and a backlog."""
    path = f"{ensure_directory(bob.account)}/web.sock"
    with acting_as("bob"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
    listener.setblocking(False)
    for method, args in (("FindPID", ()), ("SendCtrlAltDel", ()), ("Shutdown", (SECOND,))):
        with refused("AccessDenied", "InteractiveAuthorizationRequired"):
            alice.do(method, path, *args)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.close()


def test_subscriptions_are_counted(service, client, alice):
    """Every event costs a message for each of them."""
    clients = [client("alice") for _ in range(17)]
    for each in clients[:16]:
        each.do("Subscribe")
    with refused("LimitsExceeded"):
        clients[16].do("Subscribe")
    clients[0].do("Unsubscribe")
    clients[16].do("Subscribe")


def test_a_mount_over_ones_own_directory(service, alice):
    """A file system of the user's own may never answer; it is not entered."""
    directory = ensure_directory(alice.account)
    subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)
    try:
        for method, args in (("EnsureSocketDir", ()), ("FindPID", (f"{directory}/web.sock",))):
            with refused("AccessDenied"):
                alice.do(method, *args)
    finally:
        subprocess.run(["umount", directory], check=True)


def test_many_stale_sockets_do_not_hold_others_up(service, alice, bob):
    """They are looked at a few at a time; bob's answers in between are printed, and must come."""
    directory = ensure_directory(alice.account)
    for n in range(1500):
        each = socket.socket(socket.AF_UNIX)
        each.bind(f"{directory}/s{n}")
        each.close()
        os.chown(f"{directory}/s{n}", alice.uid, -1)
    listing = alice.begin("ListProcesses")
    answers = 0
    while not listing.done:
        bob.do("GetUsage")
        answers += 1
    assert listing.result() == [] and answers > 0
    with pytest.raises(BusError):
        alice.do("FindPID", f"{directory}/s0")


def test_a_stream_of_files_does_not_delay_the_look(service, alice, vmm):
    """Events of one's own directory are answered at most every 50 ms after the first few."""
    directory = ensure_directory(alice.account)
    storm = "import os, sys\nwhile True:\n    p = sys.argv[1] + '/web.sock'\n    os.close(os.open(p, os.O_CREAT)); os.unlink(p)"
    noise = subprocess.Popen([sys.executable, "-c", storm, directory], user=alice.uid, group=alice.account.gid, cwd="/")
    try:
        call = alice.begin("EnsureSocketAccess", f"{directory}/other.sock", "other", timeout_usec=10 * SECOND)
        vmm(alice, "other")
        call.result(10)
    finally:
        noise.kill()
        noise.wait()
    eventually(lambda: alice.do("GetUsage")["waits"] == 0, 5, "the end")
