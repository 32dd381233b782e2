# SPDX-License-Identifier: MIT
"""One user does what they can to keep the service busy; what others are owed comes as when it is idle.

Each flood of floods.py is poured for FLOOD_SECONDS (3) while bob and root look at each kind of thing that the loop
serves. The latencies are printed beside those of an idle service. Nothing of theirs may be refused or unanswered, and
the 99th percentile stays below the bound of hostile case 36. Both cores are busy, so the best of three is held to it.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import ensure_directory
from fcproc import FOREVER, SECOND, WORK, eventually, pause, run_until, sanitized
from floods import FLOODS, PRELUDE

SECONDS = float(os.environ.get("FLOOD_SECONDS", "3"))
BOUND = 0.1
FLAT = {"memory": 32 << 20, "descriptors": 64}


LISTENER = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
path = sys.stdin.readline().strip()
listener.bind(path)
listener.listen()
print(time.monotonic(), flush=True)
sys.stdin.read()
"""


class Probes:
    """What others are owed, one look at each: seconds from when it was due until it came."""

    def __init__(self, root, bob, start):
        self.root, self.bob, self.start = root, bob, start
        self.directory = ensure_directory(bob.account)
        self.program = WORK / "probe" / "firecracker"  # called like a VMM, so that it may be waited for
        self.program.parent.mkdir(exist_ok=True)
        shutil.copy("/bin/sleep", self.program)
        self.program.chmod(0o755)
        self.sleeper = self.spawn()
        self.number = 0

    def spawn(self, *command, **options):
        account = self.bob.account
        return self.start(*(command or (self.program, "3600")), **options, user=account.uid, group=account.gid, extra_groups=account.groups, cwd="/")

    def a_call_of_the_bus(self):
        """Nothing of ours: what the bus itself costs while it is flooded."""
        begun = time.monotonic()
        call = self.bob.start("GetId", destination="org.freedesktop.DBus", path="/org/freedesktop/DBus", interface="org.freedesktop.DBus")
        call.result()
        return call.at - begun

    def a_call(self):
        begun = time.monotonic()
        call = self.bob.begin("GetUsage")
        call.result()
        return call.at - begun

    def a_call_of_roots(self):
        begun = time.monotonic()
        call = self.root.begin("GetUsage")
        call.result()
        return call.at - begun

    def an_exit(self):
        process = self.spawn()
        self.bob.do("WatchExit", process.pid, "", FOREVER)
        begun = time.monotonic()
        process.kill()
        process.wait()
        return self.bob.wait_signal("ProcessExited", process.pid).at - begun

    def a_deadline(self):
        before = len(self.bob.seen("WaitTimedOut"))
        self.bob.do("WatchExit", self.sleeper.pid, "", 20_000)
        begun = time.monotonic()
        run_until(lambda: len(self.bob.seen("WaitTimedOut")) > before, 10, "WaitTimedOut")
        return max(0.0, self.bob.seen("WaitTimedOut")[-1].at - begun - 0.02)

    def a_socket(self):
        self.number += 1
        path = f"{self.directory}/probe{self.number}.sock"
        # One process for each: the service holds what a living process listens on.
        listener = self.spawn(sys.executable, "-SEc", LISTENER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        call = self.bob.begin("EnsureSocketAccess", path, "probe", timeout_usec=10 * SECOND)
        pause(0.02)
        listener.stdin.write(path.encode() + b"\n")
        listener.stdin.flush()
        begun = float(listener.stdout.readline())
        call.result()
        listener.kill()
        listener.communicate()
        return max(0.0, call.at - begun)

    def a_tap(self):
        begun = time.monotonic()
        call = self.root.begin("CreateTap", "taproot")
        call.result()
        return call.at - begun

    ALL = (a_call_of_the_bus, a_call, a_call_of_roots, an_exit, a_deadline, a_socket, a_tap)

    def look(self, seconds, sample=lambda: None):
        """All of them, over and over: {name: sorted seconds}, and what sample() said each time."""
        found, samples = {probe.__name__: [] for probe in self.ALL}, []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for probe in self.ALL:
                found[probe.__name__].append(probe(self))
            samples.append(sample())
        return {name: sorted(times) for name, times in found.items()}, samples


def p(times, share):
    return times[min(len(times) - 1, int(len(times) * share))]


def said(what, found):
    cells = "  ".join(f"{name[2:].replace('_', ' ')} {p(t, 0.5) * 1000:5.1f}/{p(t, 0.99) * 1000:5.1f}" for name, t in found.items())
    return f"{what:32} {cells}"


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def size(service):
    return service.private_memory(), service.descriptors(), threads(service.pid)


def largest(samples):
    return [max(column) for column in zip(*samples)]


def grown(samples):
    """The largest of the first third and of the last one: they are the same where nothing grows."""
    third = max(1, len(samples) // 3)
    first, last = largest(samples[:third]), largest(samples[-third:])
    return f"{first[0] >> 10}→{last[0] >> 10} KiB, {first[1]}→{last[1]} descriptors, {first[2]}→{last[2]} threads"


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood(service, bridge, polkit, root, alice, bob, bus, start, capsys, name):
    directory = ensure_directory(alice.account)
    alice.do("CreateTap", "tapalice")
    root.introspect()
    probes = Probes(root, bob, start)
    idle, _ = probes.look(0.5)
    before = size(service)
    rounds = 1 if sanitized() else 3
    for attempt in range(rounds):
        account = alice.account
        flood = start(sys.executable, "-c", PRELUDE + FLOODS[name], bus.address, str(SECONDS), directory, "tapalice",
                      user=account.uid, group=account.gid, extra_groups=account.groups, stdout=subprocess.PIPE, cwd="/", start_new_session=True)  # fmt: skip
        assert flood.stdout.readline() == b"ready\n"
        used, begun = cpu(service.pid), time.monotonic()
        found, samples = probes.look(SECONDS * 0.8, lambda: size(service))
        share = (cpu(service.pid) - used) / (time.monotonic() - begun)
        os.killpg(flood.pid, signal.SIGKILL)
        flood.wait()
        flood.stdout.close()
        subprocess.run(["find", directory, "-mindepth", "1", "-delete"], check=True)
        with capsys.disabled():
            if attempt == 0:
                print("\n" + said("idle (p50/p99, ms)", idle))
            print(said(name[:31], found) + f"  cpu {share * 100:.0f} %  {grown(samples)}", end="\n" if attempt < rounds - 1 else "")
        # A call that polkit is asked about crosses the bus some ten times.
        bound = BOUND + 10 * p(found.pop("a_call_of_the_bus"), 0.99)
        if sanitized() or max(p(times, 0.99) for times in found.values()) < bound:
            break
    else:
        pytest.fail(f"others waited longer than {bound:.2f} s in each of {rounds} rounds")
    eventually(lambda: service.descriptors() <= before[1] + FLAT["descriptors"], 15, "the descriptors' going down")
    assert threads(service.pid) <= before[2] + 1
    assert sanitized() or service.private_memory() <= before[0] + FLAT["memory"]
