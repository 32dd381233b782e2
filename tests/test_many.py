# SPDX-License-Identifier: MIT
"""Many at once: nothing is lost, limits hold, and what a client had is freed when it goes."""

import os
import subprocess
import time

import pytest

from fcproc import FOREVER, SECOND, WORK, Account, Client, eventually, refused, run_until, sanitized

COUNT = 1000


class Nursery:
    """Processes of alice's that are called like a VMM and end all at once.

    bash, under the configured binary's name, forks them and reaps them; each waits for the end of a pipe.
    """

    SCRIPT = "for ((n = 0; n < COUNT; n++)); do (exec 1>&-; read -r _ <&3; exit 0) & echo $!; done; echo; exec 3<&-; wait"

    def __init__(self, count):
        program = WORK / "nursery" / "firecracker"
        program.parent.mkdir(exist_ok=True)
        program.write_bytes(open("/bin/bash", "rb").read())
        program.chmod(0o755)
        reader, self.writer = os.pipe()
        script = f"exec 3<&{reader} {reader}<&-; COUNT={count}; {self.SCRIPT}"
        account = Account("alice")
        self.process = subprocess.Popen([program, "-c", script], pass_fds=[reader], stdout=subprocess.PIPE, cwd="/",
                                        user=account.uid, group=account.gid, extra_groups=account.groups)  # fmt: skip
        os.close(reader)
        self.pids = []
        while line := self.process.stdout.readline().strip():
            self.pids.append(int(line))
        assert len(self.pids) == count

    def end(self):
        if self.writer is not None:
            os.close(self.writer)
            self.writer = None

    def stop(self):
        self.end()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def nursery():
    made = []

    def make(count):
        made.append(Nursery(count))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def in_turns(start, items, width=50):
    """start(item) for all, at most `width` at a time: a user may have 64 calls in flight. Their results."""
    calls = []
    for item in items:
        run_until(lambda: sum(not call.done for call in calls[-width:]) < width, 60, "a free place")
        calls.append(start(item))
    return [call.result() for call in calls]


def park(clients, pids, beside=0):
    """A WaitForExit for each pid, by the clients in turn, until all are parked."""
    waits = []
    for n in range(0, len(pids), 50):
        waits += [clients[i % len(clients)].begin("WaitForExit", pids[i], "", FOREVER) for i in range(n, min(n + 50, len(pids)))]
        eventually(lambda: clients[0].do("GetUsage")["waits"] == beside + len(waits), 20, "parked waits")
        clients[0].do("GetUsage")  # polkit has been asked for all that came before
    return waits


def test_a_thousand_watches(service, alice, nursery, capsys):
    """None lost, each once."""
    many = nursery(COUNT)
    before = service.private_memory()
    assert in_turns(lambda pid: alice.begin("WatchExit", pid, "", FOREVER), many.pids) == many.pids
    assert alice.do("GetUsage")["waits"] == COUNT
    per_watch = (service.private_memory() - before) / COUNT
    begun = time.monotonic()
    many.end()
    run_until(lambda: len(alice.seen("ProcessExited")) >= COUNT, 60, "a thousand signals")
    took = time.monotonic() - begun
    alice.ping()
    assert sorted(s.args[0] for s in alice.seen("ProcessExited")) == sorted(many.pids)
    assert alice.do("GetUsage")["waits"] == 0
    with capsys.disabled():
        print(f"\n1,000 watches: {per_watch:.0f} bytes each, all signals within {took * 1000:.0f} ms", end="")
        print(" (sanitized build: the bytes mean nothing)" if sanitized() else "", end="")


def test_a_thousand_waits(service, client, nursery, capsys):
    """Over ten connections, because the bus allows one of them 128 pending replies."""
    many = nursery(COUNT)
    clients = [client("alice") for _ in range(10)]
    waits = park(clients, many.pids)
    assert not any(wait.done for wait in waits)
    begun = time.monotonic()
    many.end()
    answers = [wait.result() for wait in waits]
    with capsys.disabled():
        print(f"\n1,000 waits: all replies within {(time.monotonic() - begun) * 1000:.0f} ms", end="")
    assert len(answers) == COUNT and all(cause in ("exited", "unknown") for cause, _ in answers)
    assert clients[0].do("GetUsage")["waits"] == 0


def test_processes_that_end_while_they_are_asked_for(service, alice, nursery):
    """The exit and the call race; each watch still gets its signal."""
    many = nursery(60)
    calls = [alice.begin("WatchExit", pid, "", FOREVER) for pid in many.pids]
    many.end()
    for call in calls:
        call.result()
    run_until(lambda: len(alice.seen("ProcessExited")) >= 60, 30, "the signals")
    assert sorted(s.args[0] for s in alice.seen("ProcessExited")) == sorted(many.pids)


def test_the_limit_of_waits(service, client, alice, nursery):
    """Hostile case 24."""
    many = nursery(1)
    limit = alice.do("GetUsage")["waits-max"]
    assert limit == 1024
    in_turns(lambda pid: alice.begin("WatchExit", pid, "", FOREVER), many.pids * limit)
    for method in ("WatchExit", "WaitForExit"):
        with refused("LimitsExceeded", says="1024"):
            alice.do(method, many.pids[0], "", FOREVER)
    assert alice.do("CancelWait", 0, "") == limit
    alice.do("WatchExit", many.pids[0], "", FOREVER)


@pytest.mark.config(max_waits_per_user=4, max_waits=6)
def test_the_limit_over_all_users(service, alice, bob, root, vmm):
    mine, other = vmm(alice, "web"), vmm(bob, "web")
    for _ in range(4):
        alice.do("WatchExit", mine.pid, "", FOREVER)
    with refused("LimitsExceeded"):
        alice.do("WatchExit", mine.pid, "", FOREVER)
    bob.do("WatchExit", other.pid, "", FOREVER)
    root.do("WatchExit", mine.pid, "", FOREVER)
    for client in (bob, root):
        with refused("LimitsExceeded"):
            client.do("WatchExit", other.pid, "", FOREVER)


def test_a_vanished_client(service, client, bob, nursery, vmm):
    """Hostile case 24: its descriptors are back at the baseline within a second."""
    many = nursery(300)
    first = client("alice")
    first.ping()
    bob.ping()
    baseline = service.descriptors()
    in_turns(lambda pid: first.begin("WatchExit", pid, "", FOREVER), many.pids)
    park([first], many.pids[:50], beside=300)
    for n in range(20):
        first.begin("EnsureSocketAccess", f"/run/banger/{first.uid}/late{n}.sock", "late", timeout_usec=60 * SECOND)
    first.ping()
    assert service.descriptors() > baseline + 100
    first.close()
    eventually(lambda: service.descriptors() <= baseline, 1.0, f"{baseline} descriptors")
    second = client("alice")
    assert second.do("GetUsage")["waits"] == 0


@pytest.mark.config(max_calls_per_user=8)
def test_a_parked_wait_is_no_call(service, alice, vmm):
    vm = vmm(alice, "web")
    waits = []
    for n in range(20):
        waits.append(alice.begin("WaitForExit", vm.pid, "", FOREVER))
        eventually(lambda: alice.do("GetUsage")["waits"] == n + 1, 5, "a parked wait")
    assert not any(wait.done for wait in waits)
    assert alice.do("GetUsage")["calls-max"] == 8
    alice.do("CancelWait", 0, "")


def test_subscribers_that_come_and_go(service, bus, vmm, alice):
    vmm(alice, "web")
    alice.do("ListProcesses")  # the VMM is known, and the HTTP library loaded
    baseline = service.descriptors()
    for _ in range(50):
        other = Client(bus, "alice")
        other.do("Subscribe")
        other.close()
    alice.ping()
    eventually(lambda: service.descriptors() <= baseline + 2, 2, "the descriptors")
