# SPDX-License-Identifier: MIT
"""fcprocctl: waiting for exits, and following the service, over its restarts too."""

import json
import os
import re
import select
import signal
import subprocess
import time

import pytest

import machines
from conftest import ensure_directory
from ctl import DENIED, DONE, NO_OBJECT, NO_SERVICE, TIMED_OUT, armed
from daemons import Bus
from fcproc import eventually


def test_wait_times_out(service, ctl, vmm, alice):
    vm = vmm(alice)
    assert "web" in ctl("alice", "wait-for-exit", "web", "--timeout=0", code=TIMED_OUT).err
    begun = time.monotonic()
    assert "still running after" in ctl("alice", "wait-for-exit", str(vm.pid), "--timeout=0.4s", code=TIMED_OUT).err
    assert 0.4 <= time.monotonic() - begun < 5
    result = ctl("alice", "wait-for-exit", "-j", "web", "--timeout=10ms", code=TIMED_OUT)
    assert result.error["name"].endswith("WaitForExitTimeout") and result.json[0]["error"] == result.error
    ctl("alice", "wait-for-exit", "none", code=NO_OBJECT)
    ctl("bob", "wait-for-exit", str(vm.pid), code=DENIED)


@pytest.mark.parametrize("status, meaning", [(148, "bad syscall"), (152, "bad configuration"), (77, None)])
def test_exit_codes_are_explained(service, ctl, begin, alice, knows, start, status, meaning):
    """A listener of alice's that ends as Firecracker does."""
    if knows("exited", 0)[0] == "unknown":
        pytest.skip("this kernel does not tell how a process ended")
    path = f"{ensure_directory(alice.account)}/web.sock"
    program = f"import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind({path!r}); s.listen(); print(flush=True)"
    vm = start("python3", "-c", f"{program}; sys.stdin.read(); sys.exit({status})", user=alice.uid, group=alice.account.gid,
               extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    vm.stdout.readline()
    waiting = begin("alice", "wait-for-exit", "web")
    armed(alice, 1)
    vm.stdin.close()
    vm.wait()
    out, _ = waiting.communicate(timeout=20)
    assert out == f"web: exited, status {status}{': ' + meaning if meaning else ''}\n"


def test_wait_for_many(service, ctl, begin, vmm, alice, knows):
    """One socket, its pid, another: the order is the command line's; watch-exit's is that of the ends."""
    web, db = vmm(alice, "web"), vmm(alice, "db")
    waiting = begin("alice", "wait-for-exit", "web", "db", str(web.pid))
    watching = begin("alice", "watch-exit", "-j", "web", "db")
    armed(alice, 5)
    db.signal(signal.SIGKILL)
    first = json.loads(watching.stdout.readline())
    assert (first["pid"], first["cause"], first["status"]) == (db.pid, *knows("signaled", 9))
    assert waiting.poll() is None
    web.signal(signal.SIGKILL)
    out, err = waiting.communicate(timeout=20)
    assert [line.split(":")[0] for line in out.splitlines()] == ["web", "db", str(web.pid)] and err == ""
    if knows("signaled", 9)[0] == "signaled":
        assert out.splitlines()[0] == "web: killed by SIGKILL"
    assert json.loads(watching.communicate(timeout=20)[0])["pid"] == web.pid
    assert waiting.returncode == watching.returncode == DONE


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
def test_wait_survives_a_restart(service, begin, vmm, alice, root, client, crash):
    web, db = vmm(alice, "web"), vmm(alice, "db")
    waiting = begin("alice", "wait-for-exit", "web", str(db.pid))
    armed(alice, 2)
    if crash:
        service.expected_to_die = True
        service.kill()
    else:
        service.stop()
    db.end()  # while nobody watches
    time.sleep(0.2)
    assert waiting.poll() is None
    service.start()
    eventually(lambda: client("alice").do("GetUsage")["waits"] == 1, 10, "the second watch")
    assert waiting.poll() is None
    web.signal(signal.SIGKILL)
    out, err = waiting.communicate(timeout=20)
    assert waiting.returncode == DONE and err == ""
    assert out.splitlines()[0].startswith("web: ") and out.splitlines()[1] == f"{db.pid}: ended, how is not known"


def test_monitor(bridge, begin, vmm, alice, service, client):
    web = vmm(alice, "web")
    alice.do("CreateTap", "tap0")
    monitor = begin("alice", "monitor", "-j")

    def event():
        assert select.select([monitor.stdout], [], [], 10)[0], "no event"
        line = os.read(monitor.stdout.fileno(), 65536).decode()
        return [json.loads(part) for part in line.splitlines()]

    seen = []

    def until(**wanted):
        deadline = time.monotonic() + 10
        while not any(wanted.items() <= e.items() for e in seen):
            assert time.monotonic() < deadline, seen
            seen.extend(event())

    until(event="process", pid=web.pid)
    until(event="tap", tap="tap0")
    db = vmm(alice, "db")
    until(event="process-appeared", pid=db.pid, api_sock=db.sock)
    db.end()
    until(event="process-exited", pid=db.pid)
    alice.do("DeleteTap", "tap0")
    until(event="tap-deleted", tap="tap0")
    assert not [e for e in seen if e["event"] == "process-appeared" and e["pid"] == web.pid]
    seen.clear()
    service.restart()
    until(event="service-lost")
    until(event="service-restarted")
    until(event="process", pid=web.pid)
    client("alice").do("CreateTap", "tap1")
    until(event="tap-created", tap="tap1")
    monitor.send_signal(signal.SIGINT)
    assert monitor.wait(10) == -signal.SIGINT


def test_monitor_for_people(service, begin, vmm, alice):
    web = vmm(alice, "web")
    monitor = begin("alice", "monitor")
    assert monitor.stdout.readline().split() == ["process", web.sock, "pid", str(web.pid), "uid", str(alice.uid)]
    web.end()
    assert monitor.stdout.readline().startswith("process-exited")


@pytest.mark.parametrize("arguments", [["wait-for-exit"], ["watch-exit"], ["monitor"], ["shutdown", "--grace=infinity"]],
                         ids=lambda a: a[0])  # fmt: skip
def test_bus_goes_away(make_service, begin, ctl, arguments):
    """Nothing can come any more: exit code 7, at once."""
    bus = Bus("mortal-bus")
    try:
        service = make_service(bus=bus).start()
        env = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address}
        path = f"{ctl('root', 'ensure-socket-dir', env=env).out.strip()}/web.sock"
        vm = machines.spawn_vmm("root", path, "--standin-ignore-ctrl-alt-del")
        following = begin("root", *arguments, *([] if arguments == ["monitor"] else [path]), env=env)
        if arguments == ["monitor"]:
            assert following.stdout.readline().startswith("process ")
        else:
            eventually(lambda: ctl("root", "get-usage", "-j", env=env).json["waits"] == 1, 10, "the wait")
        service.expected_to_die = True
        bus.stop()
        out, err = following.communicate(timeout=10)
        assert following.returncode == NO_SERVICE and re.search("bus|went away", err) and out == "", (out, err)
    finally:
        bus.stop()
        vm.end()
