# SPDX-License-Identifier: MIT
"""fcprocctl: sockets and processes, their ends, what is left behind."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

import machines
from ctl import DENIED, DONE, FAILED, NO_OBJECT, NO_SERVICE, TIMED_OUT, USAGE, armed, stale
from daemons import Bus
from fcproc import SECOND, Account, eventually, refused


def test_find(service, ctl, vmm, alice):
    web, db = vmm(alice, "web"), vmm(alice, "db")
    for verb in ("find-pid", "open-process"):
        assert ctl("alice", verb, web.sock).out == ctl("alice", verb, "web").out == ctl("alice", verb, "web.sock").out
        assert ctl("alice", verb, "web").out == f"{web.pid}\n"
        result = ctl("alice", verb, "db", "none", "web", code=NO_OBJECT)
        assert result.out == f"db: {db.pid}\nweb: {web.pid}\n" and "none.sock" in result.err
        assert ctl("alice", verb, "-j", "web").json == [{"api_sock": web.sock, "pid": web.pid}]
        assert ctl("alice", verb, "-j", "none", code=NO_OBJECT).json[0]["error"]["name"].endswith("NoSuchProcess")
    assert ctl("alice", "resolve-pid", "web", "0").out == f"{web.pid}\n"
    assert ctl("alice", "resolve-pid", "none", str(db.pid)).out == f"{db.pid}\n"
    assert ctl("alice", "resolve-pid", "none", "1", "-j").json == {"api_sock": alice.sock("none"), "pid": 0}
    ctl("bob", "find-pid", web.sock, code=DENIED)


def test_list(service, ctl, vmm, alice):
    web, db = vmm(alice, "web"), vmm(alice, "db")
    assert {p["pid"] for p in ctl("alice", "list", "-j").json} == {web.pid, db.pid}
    lines = ctl("alice", "list").out.splitlines()
    assert lines[0].split() == ["VM", "PID", "UID", "SOCKET"] and lines[-1] == "2 VMs"
    assert ["web", str(web.pid), str(alice.uid), web.sock] in [line.split() for line in lines]
    assert ctl("alice", "list-processes", "--no-legend").out.count("\n") == 2
    assert ctl("bob", "list", "-j").json == []
    assert ctl("root", "list", "-j").json == ctl("alice", "list", "-j").json
    assert ctl("bob", "list").out.splitlines()[-1] == "0 VMs"


def test_status(bridge, ctl, vmm, alice):
    vmm(alice)
    alice.do("CreateTap", "tap0")
    status = ctl("alice", "status", "-j").json
    assert status["processes"] == 1 and status["taps"] == 1 and status["uid"] == alice.uid
    assert status["bridge"] == {"name": "br-fc", "address": "172.16.0.1/24", "exists": True, "up": True, "ports": 1}
    assert status["usage"] == ctl("alice", "get-usage", "-j").json and status["usage"]["taps-max"] == 64
    assert set(status["features"]) == set(alice.get("Features")) and status["version"] == alice.get("Version")
    text = ctl("alice", "status").out
    assert "1 of 64" in text and "br-fc 172.16.0.1/24 (up), 1 port\n" in text
    assert "1 of 64" in ctl("alice", "get-usage").out


def test_socket_access(service, ctl, vmm, alice):
    vm = vmm(alice)
    os.chmod(vm.sock, 0o777)
    assert vm.sock in ctl("alice", "ensure-socket-access", "web", "web").out
    assert os.stat(vm.sock).st_mode & 0o777 == 0o600
    assert ctl("alice", "ensure-socket-access", "-j", vm.sock).json == {"api_sock": vm.sock}
    result = ctl("alice", "ensure-socket-access", "none", "my VM", "--timeout=0", code=TIMED_OUT)
    assert "my VM" in result.err
    begun = time.monotonic()
    ctl("alice", "ensure-socket-access", "none", "--timeout=300ms", code=TIMED_OUT)
    assert time.monotonic() - begun >= 0.3


def test_ctrl_alt_del_and_wait(service, ctl, begin, vmm, alice, knows):
    vm = vmm(alice)
    waiting = begin("alice", "wait-for-exit", "-j", "web")
    armed(alice, 1)
    assert "asked" in ctl("alice", "send-ctrl-alt-del", "web").out
    out, err = waiting.communicate(timeout=20)
    cause, status = knows("exited", 0)
    expected = {"api_sock": vm.sock, "pid": vm.pid, "cause": cause, "status": status}
    if cause == "exited":
        expected["meaning"] = "ended by its guest"
    assert json.loads(out) == [expected] and err == "" and waiting.returncode == DONE
    vm = vmm(alice, "db")
    assert ctl("alice", "send-ctrl-alt-del", "-j", "db").json == [{"api_sock": vm.sock, "sent": True}]
    assert "none" in ctl("alice", "send-ctrl-alt-del", "none", "--timeout=0", code=TIMED_OUT).err


def test_kill(service, ctl, vmm, alice, knows):
    web, db = vmm(alice, "web"), vmm(alice, "db")
    assert ctl("alice", "kill", "web", str(db.pid)).out == f"web: killed\n{db.pid}: killed\n"
    result = ctl("alice", "wait-for-exit", str(web.pid), str(db.pid), "--timeout=10")
    assert result.out.startswith(f"{web.pid}: ") and result.out.count("\n") == 2
    ctl("alice", "kill", "web", code=NO_OBJECT)
    vm = vmm(alice, "third")
    assert ctl("alice", "kill", "-j", str(vm.pid)).json == [{"pid": vm.pid, "sent": True}]


def test_not_a_vmm(service, ctl, start):
    process = start("sleep", "60", user=Account("alice").uid)
    ctl("alice", "kill", str(process.pid), code=NO_OBJECT)
    ctl("alice", "wait-for-exit", str(process.pid), code=NO_OBJECT)
    assert process.poll() is None


def test_shutdown(service, ctl, vmm, alice, knows):
    quick, deaf = vmm(alice, "quick"), vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del")
    result = ctl("alice", "shutdown", "--grace=500ms", "deaf", "quick", "gone")
    assert [line.split()[:3] for line in result.out.splitlines()] == [["deaf:", "killed", result.out.split()[2]], ["quick:", "shut", "down"]]
    assert "gone: was not running" in result.err
    assert not quick.alive() and not deaf.alive()
    vm = vmm(alice, "third")
    [answer] = ctl("alice", "shutdown", "-j", "third", "--grace=1min").json
    assert (answer["how"], answer["cause"], answer["status"]) == ("ctrl-alt-del", *knows("exited", 0))
    assert answer["api_sock"] == vm.sock
    assert ctl("alice", "shutdown", "-j", "third").json[0]["how"] == "already-gone"


def test_prune(bridge, ctl, vmm, alice, bob, hold):
    live, dead = vmm(alice, "live"), stale(vmm(alice, "dead"))
    other = stale(vmm(bob, "dead"))
    young = stale(vmm(alice, "young"))
    for path in (dead, other):
        os.chmod(path, 0o700)
    alice.do("CreateTap", "tap0")
    alice.do("CreateTap", "tap1")
    bob.do("CreateTap", "tap2")
    hold("alice", "tap1")
    Path(alice.sock("file")).write_text("no socket")
    assert ctl("alice", "prune", "--dry-run").out == "tap0: would be removed\n"  # the sockets are too young
    time.sleep(6)
    assert {e.get("tap") or e["api_sock"] for e in ctl("alice", "prune", "--dry-run", "-j").json} == {dead, young, "tap0"}
    assert os.path.exists(dead)
    assert all(e["removed"] for e in ctl("alice", "prune", "-j").json)
    assert not os.path.exists(dead) and os.path.exists(live.sock) and os.path.exists(other)
    assert os.path.exists(alice.sock("file")) and machines.taps().keys() == {"tap1", "tap2"}
    result = ctl("alice", "prune")
    assert result.out == "" and "nothing" in result.err


def test_side_by_side(service, ctl, vmm, alice):
    """Three that need their whole grace need it at the same time; and over one connection."""
    names = ["one", "two", "three"]
    for name in names:
        vmm(alice, name, "--standin-ignore-ctrl-alt-del")
    begun = time.monotonic()
    answers = ctl("alice", "shutdown", "-j", *names, "--grace=1s").json
    assert 1 <= time.monotonic() - begun < 2.5 and [a["how"] for a in answers] == ["killed"] * 3


@pytest.mark.parametrize("grace", ["0", "5s"])
def test_shutdown_says_why_it_killed(service, ctl, vmm, alice, grace):
    """A VMM that is not started cannot be asked, and is killed before its time; with no grace each is."""
    vmm(alice, "web", started=False)
    begun = time.monotonic()
    said = "killed" if grace == "0" else "killed at once, as it takes no request to shut down"
    assert ctl("alice", "shutdown", "web", f"--grace={grace}").out == f"web: {said}\n"
    assert time.monotonic() - begun < 4


def test_shutdown_says_what_is_not_usual(service, ctl, vmm, alice, knows):
    """A guest that is asked, and a VMM that ends with an error meanwhile."""
    vmm(alice, "web", "--standin-ignore-ctrl-alt-del", "--standin-exit-after=700:1")
    said = " (exited, status 1: error)" if knows("exited", 1)[0] == "exited" else ""
    assert ctl("alice", "shutdown", "web").out == f"web: shut down by its guest{said}\n"


# --- a shutdown whose service is restarted ---


def interrupt(service, crash):
    if crash:
        service.expected_to_die = True
        service.kill()
    else:
        service.stop()


def asking(begin, user, *arguments):
    """fcprocctl shutdown, once each of these is waited for; the options come last."""
    process = begin(user.account.name, "shutdown", *arguments)
    armed(user, sum(not a.startswith("-") for a in arguments))
    return process


CRASH = pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
AGAIN = "The service was restarted, and is asked again\n"


@CRASH
def test_shutdown_survives_a_restart(service, begin, vmm, alice, crash):
    """It is killed after the rest of the grace: a whole one more would end after six seconds."""
    deaf, over = vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del"), vmm(alice, "over")
    slow = vmm(alice, "slow", "--standin-guest-delay=3000")
    over.signal(signal.SIGSTOP)  # it cannot shut down, and so waits as the others do
    begun = time.monotonic()
    shutdown = asking(begin, alice, "deaf", "over", "slow", "--grace=4s")
    time.sleep(2)
    interrupt(service, crash)
    over.end()  # while nobody watches
    assert deaf.alive() and slow.alive() and shutdown.poll() is None
    service.start()
    out, err = shutdown.communicate(timeout=20)
    took = time.monotonic() - begun
    assert out == ("deaf: killed after 4s, as it had not shut down\nover: ended while the service was restarted, how is not known\n"
                   "slow: shut down by its guest\n") and err == AGAIN and shutdown.returncode == DONE  # fmt: skip
    assert 4 <= took < 6 and not deaf.alive()


@CRASH
def test_shutdown_restarted_in_json(service, begin, vmm, alice, crash, knows):
    deaf, over = vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del"), vmm(alice, "over", "--standin-ignore-ctrl-alt-del")
    shutdown = asking(begin, alice, "deaf", "over", "--grace=1s", "-j")
    interrupt(service, crash)
    over.end()
    time.sleep(1)  # then nothing is left of the grace
    assert deaf.alive()
    service.start()
    out, err = shutdown.communicate(timeout=20)
    cause, status = knows("signaled", 9)
    assert json.loads(out) == [
        {"api_sock": deaf.sock, "how": "killed", "cause": cause, "status": status},
        {"api_sock": over.sock, "how": "already-gone", "cause": "unknown", "status": -1},
    ]  # fmt: skip
    assert err == "" and shutdown.returncode == DONE


def test_shutdown_means_the_first_vm(service, begin, vmm, alice):
    """Its user may start the next one of that name before the service is back."""
    first = vmm(alice, "web", "--standin-ignore-ctrl-alt-del")
    shutdown = asking(begin, alice, "web", "--grace=1s")
    service.stop()
    first.end()
    os.unlink(first.sock)
    second = vmm(alice, "web")
    service.start()
    out, err = shutdown.communicate(timeout=20)
    assert out == "web: ended while the service was restarted, how is not known\n" and err == ""
    assert second.alive()


def test_shutdown_restarted_twice(service, begin, vmm, alice, client, knows):
    """Said once; and a grace without an end has none."""
    web = vmm(alice, "web", "--standin-ignore-ctrl-alt-del")
    shutdown = asking(begin, alice, "web", "--grace=infinity")
    for _ in range(2):
        service.restart()
        armed(client("alice"), 1)
    with refused("WaitForExitTimeout"):
        client("alice").do("WaitForExit", web.pid, web.sock, SECOND // 2)
    web.signal(signal.SIGKILL)
    out, err = shutdown.communicate(timeout=20)
    how = " (killed by SIGKILL)" if knows("signaled", 9)[0] == "signaled" else ""
    assert out == f"web: shut down by its guest{how}\n" and err == AGAIN and shutdown.returncode == DONE


def test_shutdown_starts_the_service(make_service, begin, ctl, tmp_path):
    """Where the bus starts it, nobody else has to."""
    bus = Bus("starting-bus", services=tmp_path)
    service = make_service(bus=bus).start()
    (tmp_path / "org.banger.FcProc.service").write_text(
        f"[D-BUS Service]\nName=org.banger.FcProc\nExec={' '.join(service.command())}\nUser=root\n")  # fmt: skip
    env = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address}
    vm = machines.spawn_vmm("root", f"{ctl('root', 'ensure-socket-dir', env=env).out.strip()}/web.sock", "--standin-ignore-ctrl-alt-del")
    try:
        shutdown = begin("root", "shutdown", vm.sock, "--grace=2s", env=env)
        eventually(lambda: ctl("root", "get-usage", "-j", env=env).json["waits"] == 1, 10, "the wait")
        service.stop()
        out, err = shutdown.communicate(timeout=20)
        assert out == f"{vm.sock}: killed after 2s, as it had not shut down\n" and err == AGAIN
    finally:
        vm.end()
        bus.stop()


def test_the_service_stays_away(service, begin, vmm, alice):
    vmm(alice, "web", "--standin-ignore-ctrl-alt-del")
    shutdown = asking(begin, alice, "web", "--grace=1s")
    begun = time.monotonic()
    service.stop()
    out, err = shutdown.communicate(timeout=60)
    assert shutdown.returncode == NO_SERVICE and out == "" and "service is not running" in err
    assert time.monotonic() - begun >= 30
    service.start()


# --- exit codes ---


def test_each_exit_code(service, ctl, polkit, vmm, alice):
    """0, 1, 2, 4, 7, 10 and 12, each from what really happens; of several failures it is the first one's."""
    vmm(alice)
    ctl("alice", "ensure-bridge", code=DONE)
    ctl("alice", "create-tap", "tap0", code=DONE)
    ctl("alice", "delete-tap", "tap9", code=DONE)  # nothing to do is done
    ctl("alice", "remove-bridge", code=FAILED)  # a tap is on it
    ctl("alice", "lits", code=USAGE)
    ctl("carol", "create-tap", "tap1", code=DENIED)
    ctl("alice", "find-pid", "none", code=NO_OBJECT)
    ctl("alice", "wait-for-exit", "web", "--timeout=10ms", code=TIMED_OUT)
    ctl("alice", "wait-for-exit", "web", "none", "--timeout=10ms", code=TIMED_OUT)
    ctl("alice", "find-pid", "web", "none", alice.sock("x").replace(str(alice.uid), str(Account("bob").uid)), code=NO_OBJECT)
    ctl("alice", "find-pid", alice.sock("x").replace(str(alice.uid), str(Account("bob").uid)), "none", code=DENIED)
    service.stop()
    ctl("alice", "list", code=NO_SERVICE)
    service.start()
