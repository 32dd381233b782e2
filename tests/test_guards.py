# SPDX-License-Identifier: MIT
"""Guards against one user's keeping the service busy, each looked at by itself: a service that is stopped for a moment
finds everything at once when it goes on."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import MNT_DETACH, ensure_directory, libc
from daemons import grant
from fcproc import FOREVER, NAME, SECOND, WORK, Gio, eventually, pause, run_until

SYS_PIDFD_GETFD = 438  # the same number everywhere but on alpha
DRIVER = {"destination": "org.freedesktop.DBus", "path": "/org/freedesktop/DBus", "interface": "org.freedesktop.DBus"}


def state(task):
    """The letter that the kernel has for it: R, S, T…"""
    return Path(f"/proc/{task}/stat").read_text().rpartition(") ")[2][0]


@contextlib.contextmanager
def stopped(daemon):
    """The daemon does nothing within the block, and then finds what has come meanwhile."""
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: all(state(task) == "T" for task in os.listdir(f"/proc/{daemon.process.pid}/task")), 5, "its stop")
        yield
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def spent(service):
    """Seconds of a processor."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{service.pid}/task").glob("*/schedstat")) / 1e9


def pings(client, count):
    """So many calls that are answered without a look at anything."""
    return [client.start("Ping", interface="org.freedesktop.DBus.Peer", timeout=None) for _ in range(count)]


def introspect(client, count):
    return [client.start("Introspect", interface="org.freedesktop.DBus.Introspectable", timeout=None) for _ in range(count)]


def quietly(client, member, count, interface=NAME):
    """So many calls that want no answer, and have gone to the bus."""
    for _ in range(count):
        message = Gio.DBusMessage.new_method_call(NAME, "/org/banger/FcProc", interface, member)
        message.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
        client.connection.send_message(message, Gio.DBusSendMessageFlags.NONE)
    client.connection.flush_sync(None)


def refusals(calls, says):
    return [call for call in calls if call.done and call.error and says in call.error.message]


@contextlib.contextmanager
def order_of(client):
    """A list of what the service sends to the client within the block: signals' names, and "answer"."""
    owner = client.call("GetNameOwner", "(s)", (NAME,), **DRIVER)
    order = []

    def look(connection, message, incoming):
        if incoming and message.get_sender() == owner:
            order.append(message.get_member() or "answer")
        return message

    number = client.connection.add_filter(look)
    yield order
    client.connection.remove_filter(number)


# --- the loop ---


def test_ends_come_before_messages(service, root, alice, vmm):
    """What was promised is told before what is asked: one connection hears it in this order."""
    vms = [vmm(alice, f"web{n}") for n in range(12)]
    for vm in vms:
        root.do("WatchExit", vm.pid, "", FOREVER)
    with order_of(root) as order:
        with stopped(service):
            calls = pings(root, 100)
            root.call("GetId", **DRIVER)  # the bus has them
            for vm in vms:
                vm.end()
        for call in calls:
            call.result()
        run_until(lambda: len(root.seen("ProcessExited")) == len(vms), 10, "the signals")
    assert order[: len(vms)] == ["ProcessExited"] * len(vms)


def test_deadlines_come_before_messages(service, root, alice, vmm):
    vm = vmm(alice, "web")
    for _ in range(12):
        root.do("WatchExit", vm.pid, "", SECOND)
    with order_of(root) as order:
        with stopped(service):
            calls = pings(root, 100)
            root.call("GetId", **DRIVER)  # the bus has them
            pause(1.1)  # until the last is over
        for call in calls:
            call.result()
        run_until(lambda: len(root.seen("WaitTimedOut")) == 12, 10, "the signals")
    assert order[:12] == ["WaitTimedOut"] * 12


def test_messages_are_read_in_gulps(service, alice, vmm, elsewhere):
    """Between two looks at anything else there are several messages."""
    vm, directory = vmm(alice, f"{elsewhere}/web.sock"), ensure_directory(alice.account)
    waiting = alice.begin("EnsureSocketAccess", f"{directory}/web.sock", "web", timeout_usec=60 * SECOND)
    alice.do("GetUsage")  # polkit has been asked for all that came before
    pause(0.2)  # until it has looked once more, as it does where a watch is new
    with stopped(service):
        calls = pings(alice, 100)
        alice.call("GetId", **DRIVER)  # the bus has them
        os.rename(vm.sock, f"{directory}/web.sock")
    run_until(lambda: waiting.done, 10, "the socket")
    first = sum(call.done and call.at <= waiting.at for call in calls)
    for call in calls:
        call.result()
    waiting.result()
    print(f"{first} messages came first")
    assert first >= 8


# --- directories ---


def appears(vm, directory, name, noise):
    """Many files, and the VM's socket behind them."""
    for n in range(noise):
        os.close(os.open(f"{directory}/noise{n}", os.O_CREAT))
    os.rename(vm.sock, f"{directory}/{name}")


@pytest.fixture
def elsewhere(alice):
    """A directory of alice's beside what is watched."""
    directory = os.path.join(ensure_directory(alice.account), "beside")
    os.mkdir(directory)
    os.chown(directory, alice.uid, alice.account.gid)
    return directory


@pytest.mark.parametrize("how", ["subscribed", "waiting"])
def test_what_appears_while_a_directory_is_left_alone(service, alice, vmm, elsewhere, how):
    """It is looked through afterwards; no event is needed."""
    vm, directory = vmm(alice, f"{elsewhere}/web.sock"), ensure_directory(alice.account)
    alice.do("Subscribe")
    if how == "waiting":
        call = alice.begin("EnsureSocketAccess", f"{directory}/web.sock", "web", timeout_usec=60 * SECOND)
        alice.do("GetUsage")  # polkit has been asked for all that came before
        pause(0.2)  # until it has looked once more, as it does where a watch is new
    appears(vm, directory, "web.sock", 400)
    if how == "waiting":
        call.result(10)
    else:
        alice.wait_signal("ProcessAppeared", vm.pid)


@pytest.mark.parametrize("how", ["subscribed", "waiting"])
def test_events_that_the_kernel_drops(service, alice, bob, vmm, elsewhere, how):
    """Where alice fills the queue bob's directory is looked through as well."""
    beside = os.path.join(ensure_directory(bob.account), "beside")
    os.mkdir(beside)
    os.chown(beside, bob.uid, bob.account.gid)
    his, directory = vmm(bob, f"{beside}/web.sock"), ensure_directory(bob.account)
    hers = vmm(alice, f"{elsewhere}/web.sock")
    alice.do("Subscribe")
    if how == "waiting":
        call = bob.begin("EnsureSocketAccess", f"{directory}/web.sock", "web", timeout_usec=60 * SECOND)
        bob.do("GetUsage")  # polkit has been asked for all that came before
        pause(0.2)  # until it has looked once more, as it does where a watch is new
    else:
        bob.do("Subscribe")
    with stopped(service):
        appears(hers, ensure_directory(alice.account), "web.sock", int(open("/proc/sys/fs/inotify/max_queued_events").read()) + 100)
        appears(his, directory, "web.sock", 0)
    if how == "waiting":
        call.result(10)
    else:
        bob.wait_signal("ProcessAppeared", his.pid)


def watched(service, directory):
    """Whether the service watches it at the moment."""
    mark = f" ino:{os.stat(directory).st_ino:x} "
    for each in Path(f"/proc/{service.pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):  # it may be closed meanwhile
            if mark in each.read_text():
                return True
    return False


FILES = """
import itertools, os, sys, time
for n in itertools.count():
    os.close(os.open(f"{sys.argv[1]}/file{n % 50}", os.O_CREAT))
    os.unlink(f"{sys.argv[1]}/file{n % 50}")
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def files(alice, start):
    """files(pause): a process of alice's makes one after the other, with such a pause between them."""
    directory, who = ensure_directory(alice.account), {"user": alice.uid, "group": alice.account.gid}
    return lambda pause: start(sys.executable, "-c", FILES, directory, str(pause), **who, cwd="/")


def test_a_busy_directory_is_left_alone(service, alice, files):
    """It is not watched for a moment, and then again."""
    directory = ensure_directory(alice.account)
    alice.do("Subscribe")
    eventually(lambda: watched(service, directory), 10, "the watch")
    storm = files(0)
    eventually(lambda: not watched(service, directory), 10, "the rest")
    storm.kill()
    eventually(lambda: watched(service, directory), 10, "the watch again")


def test_files_are_heard_of_in_gulps(service, alice, files):
    """With five milliseconds between them: 400 are less than a second's 500 files, which are too few for a longer rest."""

    def reads():
        return int(Path(f"/proc/{service.pid}/io").read_text().split("syscr: ")[1].split()[0])

    alice.begin("EnsureSocketAccess", alice.sock("never"), "never", timeout_usec=60 * SECOND)
    alice.do("GetUsage")  # polkit has been asked for all that came before
    files(0.002)
    begun, before = time.monotonic(), reads()
    pause(1.5)
    took, read = time.monotonic() - begun, reads() - before
    print(f"{read} reads in {took:.2f} s")
    # of the directories' descriptor, and of the timer's that ends the rest
    assert read < 2 * took / 0.005 + 50


# --- messages ---


def test_messages_before_the_bus_has_said_whose_they_are(service, client, alice):
    """64 of them, as many refusals."""
    other = client("alice")
    with stopped(service):
        calls = pings(other, 100)
        other.call("GetId", **DRIVER)  # the bus has them
    for call in calls:
        run_until(lambda: call.done, 10, "an answer")
    assert len(refusals(calls, "before the bus told")) == 36
    other.ping()


def test_messages_of_a_second(service, root, alice, bob):
    """2,000 are taken and the rest is refused; the next second is another."""
    for client in (root, alice, bob):
        client.ping()  # whose they are is known
    pause(1.1)
    calls = {}
    with stopped(service):
        for client in (root, alice):
            quietly(client, "Nonsense", 2000)
            calls[client] = pings(client, 100)
            client.call("GetId", **DRIVER)
    bob.ping()
    for call in calls[root]:
        call.result()
    run_until(lambda: len(refusals(calls[alice], "too many messages")) == 100, 10, "the refusals")
    pause(1.1)
    alice.ping()
    assert service.log().count(f"uid {alice.uid} sends too many messages") == 1


def test_a_call_that_goes_on_is_no_message(service, alice, polkit):
    """It was counted when it came."""
    alice.ping()  # whose she is is known
    with stopped(polkit):
        call = alice.begin("GetUsage")
        quietly(alice, "Nonsense", 2100)
        eventually(lambda: f"uid {alice.uid} sends too many messages" in service.log(), 10, "a flood")
    call.result(10)


@pytest.fixture
def narrow(service, bus):
    """What the service writes to the bus soon waits in the service: sd-bus has the kernel hold 8 MiB."""
    process = os.pidfd_open(service.pid)
    narrowed = 0
    for number in os.listdir(f"/proc/{service.pid}/fd"):
        fd = libc.syscall(SYS_PIDFD_GETFD, process, int(number), 0)
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            with socket.socket(fileno=fd) as each:
                if each.family == socket.AF_UNIX and each.getpeername() == str(bus.path):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                    narrowed += 1
        else:
            os.close(fd)
    os.close(process)
    assert narrowed == 1


def test_answers_that_pile_up(service, narrow, client, alice, bus):
    """While they do a user has 100 messages in a second, not 2,000."""
    clients, calls = [client("alice") for _ in range(2)], []
    for each in clients:
        each.ping()  # whose they are is known
    with stopped(service):
        for each in clients:
            calls += introspect(each, 120)
            each.call("GetId", **DRIVER)
        eventually(lambda: state(bus.process.pid) == "S", 10, "the bus's rest: it has given the service what it takes")
        bus.process.send_signal(signal.SIGSTOP)
    try:
        eventually(lambda: f"uid {alice.uid} sends too many messages" in service.log(), 5, "the refusals")
    finally:
        bus.process.send_signal(signal.SIGCONT)
    client("bob").ping()  # all that was answered has come by then
    pause(0.2)
    assert any(not call.done for call in calls), "a flood is answered though the bus is slow"


def test_calls_that_want_no_answer(service, alice):
    """Nothing comes of them, so that they are not even counted."""
    alice.ping()
    with stopped(service):
        for member, interface in (("Ping", "org.freedesktop.DBus.Peer"), ("Introspect", "org.freedesktop.DBus.Introspectable"),
                                  ("GetAll", "org.freedesktop.DBus.Properties")):  # fmt: skip
            quietly(alice, member, 1000, interface)
        call = pings(alice, 1)[0]
        alice.call("GetId", **DRIVER)
    call.result(10)


def test_signals_do_not_pass_the_bus(service, alice, root):
    """The bus says so to who sends them."""
    answers = []

    def look(connection, message, incoming):
        if incoming and message.get_message_type() == Gio.DBusMessageType.ERROR:
            answers.append((message.get_reply_serial(), message.get_error_name()))
        return message

    number = alice.connection.add_filter(look)
    message = Gio.DBusMessage.new_signal("/x", NAME, "ProcessExited")
    message.set_destination(NAME)
    serial = alice.connection.send_message(message, Gio.DBusSendMessageFlags.NONE)[1]
    alice.call("GetId", **DRIVER)
    alice.connection.remove_filter(number)
    assert answers == [(serial, "org.freedesktop.DBus.Error.AccessDenied")]


# --- polkit ---


@pytest.fixture
def questions(bus, polkit, start):
    """A function: whom polkit has been asked about so far, a unique name for each question."""
    monitor = start("dbus-monitor", "--address", bus.address, "type=method_call,member=CheckAuthorization", stdout=subprocess.PIPE)
    seen = b""
    while b"NameLost" not in seen:  # it hears and cannot speak from here on
        seen += os.read(monitor.stdout.fileno(), 4096)
    os.set_blocking(monitor.stdout.fileno(), False)
    text = [b""]

    def asked():
        while chunk := monitor.stdout.read():
            text[0] += chunk
        words = text[0].decode().split('string "')
        return [word.split('"')[0] for word in words if word.startswith(":")]

    yield asked
    monitor.stdout.close()


def has_gone(client, who):
    return not client.call("NameHasOwner", "(s)", (who.name,), **DRIVER)


def test_questions_of_callers_that_hang_up(service, client, root, bob, polkit, questions):
    """They keep their places until polkit has answered: no more of a user's than max_polkit_per_user get there."""
    bob.ping()
    with stopped(polkit):
        for _ in range(4):
            vandal = client("alice")
            for _ in range(40):
                vandal.begin("GetUsage")
            vandal.call("GetId", **DRIVER)
            vandal.close()
            eventually(lambda: has_gone(root, vandal), 10, "the connection's end")
        root.ping()  # the service has heard of it
        his = bob.begin("GetUsage")
        eventually(lambda: bob.name in questions(), 10, "bob's question")
        asked = questions()
    assert asked.count(bob.name) == 1 and len(asked) <= 1 + 16
    his.result()


def test_run_again_while_polkit_is_asked(service, alice, bob, polkit, vmm, questions):
    """A call that waits for a socket, and then for polkit's word, goes on waiting for that whatever happens to the name."""
    path = f"{ensure_directory(alice.account)}/web.sock"
    his, other = vmm(bob, "his"), vmm(bob, "other")  # bob's, so that polkit is asked once more
    polkit.rules(grant("alice"))
    call = alice.begin("EnsureSocketAccess", path, "web", timeout_usec=60 * SECOND)
    alice.do("GetUsage")  # polkit has been asked for all that came before
    with stopped(polkit):
        before = len(questions())
        os.rename(his.sock, path)
        eventually(lambda: len(questions()) > before, 10, "the second question")
        os.rename(other.sock, path)
        pause(0.3)
        assert not call.done, call.error
    call.result(10)


# --- lists ---


def test_a_mount_over_a_socket(service, alice, bob, root, vmm, fuse):  # noqa: F811
    """Its name is a socket's, and what is there now does not answer (hostile case 47)."""
    his = vmm(bob, "his")
    path = f"{ensure_directory(alice.account)}/hang.sock"
    with socket.socket(socket.AF_UNIX) as each:
        each.bind(path)
    fuse(path, stat.S_IFREG | 0o644)
    for client in (bob, root):
        assert [p[0] for p in client.do("ListProcesses")] == [his.pid]
    assert alice.do("ListProcesses") == []


@pytest.fixture
def dead():
    """A directory whose file system's server has ended."""
    directory = WORK / "dead"
    directory.mkdir()
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40755,user_id=0,group_id=0,allow_other".encode()
    mounted = libc.mount(b"dead", str(directory).encode(), b"fuse", 0, options) == 0
    os.close(fd)
    if not mounted:
        pytest.skip("no FUSE here")
    yield directory
    libc.umount2(str(directory).encode(), MNT_DETACH)
    directory.rmdir()


@pytest.mark.config(socket_roots="/run/fcproc-test/dead")
def test_a_root_that_cannot_be_read(dead, service, alice, root, vmm):
    """root's list says so, and has what is elsewhere; in it there is nothing of alice's that she could miss."""
    vm = vmm(alice, "web")
    listed = root.do("ListProcesses")
    assert (0, 0, str(dead), {"cut": True}) in listed and vm.pid in [p[0] for p in listed]
    assert [p[0] for p in alice.do("ListProcesses")] == [vm.pid]


def test_users_take_turns_on_the_link_writer(service, bridge, root, alice):
    """alice's tap is made after some of root's, not after all of them."""
    alice.ping()  # whose she is is known
    with stopped(service):
        mine = [root.begin("CreateTap", f"tap{n}") for n in range(80)]
        root.call("GetId", **DRIVER)  # the bus has them
        hers = alice.begin("CreateTap", "tapalice")
        alice.call("GetId", **DRIVER)
    hers.result()
    before = sum(call.done for call in mine)
    print(f"{before} of root's were made before")
    for call in mine:
        call.result()
    assert before < 40


def test_introspection_is_not_made_anew_each_time(service, root):
    """It costs the service little more than sending it."""
    root.introspect()

    def cost(ask):
        before = spent(service)
        for call in ask(root, 100):
            call.result()
        return spent(service) - before

    text, nothing = [min(cost(ask) for _ in range(5)) for ask in (introspect, pings)]
    print(f"{text * 10_000:.0f} µs, a Ping {nothing * 10_000:.0f} µs")
    assert text < 5 * nothing


def test_a_silent_one_is_asked_again(service, alice, root, vmm):
    """After ten seconds: it was stopped for longer than one that is asked is waited for."""
    vm = vmm(alice, "web")
    vm.signal(signal.SIGSTOP)
    alice.do("Subscribe")
    assert [p[3].get("state") for p in alice.do("ListProcesses")] == ["unknown"]
    asking = service.descriptors()
    eventually(lambda: service.descriptors() < asking, 10, "the end of the asking")
    vm.signal(signal.SIGCONT)
    alice.wait_signal("ProcessAppeared", vm.pid, within=30)
    assert [p[3].get("state") for p in alice.do("ListProcesses")] == [None]
