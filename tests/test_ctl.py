# SPDX-License-Identifier: MIT
"""fcprocctl: every verb against the running service, its exit codes, its JSON, and what it makes of bad input."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

import machines
from conftest import ensure_directory
from daemons import grant
from fcproc import BUILD, WORK, Account, acting_as, eventually

BUILT = Path(os.environ.get("FCPROCCTL", BUILD / "client" / "fcprocctl")).resolve()
FCPROCCTL = WORK / "bin" / "fcprocctl"
DONE, FAILED, USAGE, DENIED, NO_SERVICE, NO_OBJECT, TIMED_OUT = 0, 1, 2, 4, 7, 10, 12
VERBS = [
    "create-tap", "delete-tap", "doctor", "ensure-bridge", "ensure-socket-access", "ensure-socket-dir", "find-pid",
    "get-usage", "kill", "list", "monitor", "open-process", "prune", "remove-bridge", "resolve-binary", "resolve-pid",
    "send-ctrl-alt-del", "shutdown", "status", "taps", "wait-for-exit", "watch-exit"]  # fmt: skip


class Result:
    def __init__(self, process, out, err):
        self.code, self.out, self.err = process.returncode, out, err

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self):
        """The one error on stderr, as JSON."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return json.loads(lines[0])["error"]


@pytest.fixture(scope="session", autouse=True)
def program(programs):
    """fcprocctl, where every account can run it."""
    shutil.copy(BUILT, FCPROCCTL)
    FCPROCCTL.chmod(0o755)


@pytest.fixture
def begin(bus, start):
    """begin(user, arguments…): fcprocctl under way."""

    def spawn(who, *arguments, **options):
        with acting_as(who) as account:
            pass
        environment = dict(bus.environment, TERM="xterm", **options.pop("env", {}))
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return start(
            str(FCPROCCTL), *arguments, env=environment, text=True, user=account.uid, group=account.gid,
            extra_groups=account.groups, start_new_session=True, cwd="/", **options)  # fmt: skip

    return spawn


@pytest.fixture
def ctl(begin):
    """ctl(user, arguments…): fcprocctl to its end; code= is what it must end with."""

    def run(who, *arguments, code=DONE, **options):
        process = begin(who, *arguments, **options)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, f"{arguments}: {process.returncode}, not {code}\n{out}\n{err}"
        for raw in ("org.freedesktop", "org.banger.FcProc.", "Sanitizer", "runtime error"):
            assert raw not in err or ("-j" in arguments and "Sanitizer" not in err), err
        return Result(process, out, err)

    return run


@pytest.fixture
def knows(service, root):
    """What a cause and status become on this kernel."""
    exact = "exit-status" in root.get("Features")
    return lambda cause, status: (cause, status) if exact else ("unknown", -1)


def armed(user, n):
    """So many waits are under way."""
    eventually(lambda: user.do("GetUsage")["waits"] == n)
    user.do("GetUsage")  # polkit has been asked for all that came before


def stale(vm):
    """Its socket, left behind long enough ago."""
    vm.end()
    return vm.sock


# --- help and usage: no bus is needed ---


def test_help_names_every_verb(ctl):
    text = ctl("alice", "--help", env={"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}).out
    for verb in VERBS:
        assert f"  {verb} " in text
        page = ctl("alice", verb, "--help").out
        assert verb in page and "JSON: " in page and page == ctl("alice", "-h", verb).out
    assert max(len(line) for line in text.splitlines()) <= 110


def test_version(ctl):
    assert re.fullmatch(r"fcprocctl \d+\.\d+\.\d+\n", ctl("alice", "--version").out)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "verb"),
        (["lits"], "did you mean 'list'"),
        (["crate-tap", "tap0"], "did you mean 'create-tap'"),
        (["wait-fro-exit"], "did you mean 'wait-for-exit'"),
        (["zzzzzzzzzzzz"], "--help"),
        (["x" * 100_000], "no verb"),
        (["create-tap"], "NAME"),
        (["list", "web"], "no arguments"),
        (["resolve-pid", "web"], "SOCKET PID"),
        (["ensure-socket-access", "a", "b", "c"], "SOCKET"),
        (["--nonsense", "list"], "--nonsense"),
        (["list", "-x"], "-x"),
        (["list", "--" + "y" * 100_000], "no option"),
        (["list", "--json=xml"], "short, pretty or off"),
        (["list", "--json"], "value"),
        (["list", "--force"], "does not take"),
        (["kill", "web", "--timeout=3"], "does not take"),
        (["wait-for-exit", "web", "--timeout=soon"], "span"),
        (["wait-for-exit", "web", "--timeout="], "span"),
        (["wait-for-exit", "web", "--timeout=-1"], "span"),
        (["wait-for-exit", "web", "--timeout=99999999999999999999"], "span"),
        (["wait-for-exit", "web", "--timeout=" + "9" * 100_000], "span"),
        (["wait-for-exit", "web", "--timeout=18446744073709551615us"], "span"),
        (["shutdown", "web", "--grace=5 parsecs"], "span"),
        (["create-tap", "tap0", "--mtu=12"], "1280"),
        (["create-tap", "tap0", "--mtu=1e3"], "1280"),
        (["create-tap", "tap0", "--tun-uid=nobody-of-that-name"], "user"),
        (["create-tap", "tap0", "--tun-uid=-1"], "user"),
        (["create-tap", "tap0", "--tun-gid=x"], "group"),
        (["create-tap", "tap0", "--guest-mac=01:02:03:04:05:06"], "guest-mac"),
        (["create-tap", "tap0", "--isolated=maybe"], "yes or no"),
        (["create-tap", "tap0", "tap1", "--guest-mac=06:00:ac:10:00:02"], "one tap"),
        (["create-tap", "tap0", "tap0"], "twice"),
        (["create-tap", "Tap0"], "name for a tap"),
        (["create-tap", "0123"], "name for a tap"),
        (["create-tap", "t" * 100_000], "name for a tap"),
        (["delete-tap", "tap%d"], "name for a tap"),
        (["kill", "0"], "process ID"),
        (["kill", "99999999999"], "process ID"),
        (["kill", ""], "name of a VM"),
        (["kill", "a\nb"], "name of a VM"),
        (["kill", b"\xff\xfe"], "name of a VM"),
        (["kill", "./web.sock"], "absolute"),
        (["kill", "/run/../web.sock"], "absolute"),
        (["find-pid", "4711"], "no socket"),
        (["shutdown", "/" + "x" * 5000], "absolute"),
        (["resolve-pid", "web", "many"], "process ID"),
        (["ensure-socket-access", "web", "<3>"], "label"),
        (["-H", "a", "-M", "b", "list"], "exclude"),
        (["-H", "a", "doctor"], "run it there"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(str(v)[:24] for v in value),
)
def test_usage(ctl, arguments, says):
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    result = ctl("alice", *arguments, code=USAGE, env=nowhere)
    assert says in result.err and result.out == "" and len(result.err) < 400 and result.err.count("\n") == 1
    result = ctl("alice", "-j", *arguments, code=USAGE, env=nowhere)
    if "--json=xml" not in arguments:
        assert says in result.error["message"] and result.error["name"].endswith(".InvalidArgs")


def test_a_megabyte_of_arguments(ctl):
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    ctl("alice", "create-tap", *["T" * 100_000] * 10, code=USAGE, env=nowhere)
    ctl("alice", *["T" * 100_000] * 10, code=USAGE, env=nowhere)


# --- no bus, no service ---


def test_no_bus(ctl):
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    for arguments in (["list"], ["status"], ["wait-for-exit", "web"], ["monitor"], ["prune"], ["create-tap", "tap0"]):
        assert "system bus" in ctl("alice", *arguments, code=NO_SERVICE, env=nowhere).err
    assert ctl("alice", "-j", "list", code=NO_SERVICE, env=nowhere).error["message"]


def test_no_service(ctl, bus):
    for arguments in (["list"], ["status"], ["wait-for-exit", "web"], ["monitor"], ["prune"], ["create-tap", "tap0"]):
        assert "service" in ctl("alice", *arguments, code=NO_SERVICE).err
    assert ctl("alice", "-j", "list", code=NO_SERVICE).error["name"].endswith("ServiceUnknown")


# --- the host ---


def test_bridge(service, ctl, polkit):
    assert ctl("alice", "ensure-bridge").out == "br-fc 172.16.0.1/24\n"
    answer = ctl("alice", "ensure-bridge", "-j").json
    assert answer.keys() == {"bridge", "ifindex", "address"}
    assert (answer["bridge"], answer["address"]) == ("br-fc", "172.16.0.1/24")
    ctl("alice", "create-tap", "tap0")
    assert "br-fc" in ctl("alice", "remove-bridge", code=FAILED).err
    ctl("alice", "delete-tap", "tap0")
    assert "removed" in ctl("alice", "remove-bridge").out
    assert "no bridge" in ctl("alice", "remove-bridge").err
    assert ctl("alice", "remove-bridge", "-j").json == {"removed": False}
    assert ctl("alice", "remove-bridge", "-q").err == ""
    ctl("alice", "ensure-bridge", "-q")
    assert ctl("alice", "remove-bridge", "--json=pretty").json == {"removed": True}


def test_socket_dir_and_binary(service, ctl):
    path = f"/run/banger/{Account('alice').uid}"
    assert ctl("alice", "ensure-socket-dir").out == path + "\n"
    assert ctl("alice", "ensure-socket-dir", "-j").json == {"path": path}
    assert ctl("alice", "resolve-binary").out == f"{WORK}/bin/firecracker\n"
    assert ctl("alice", "resolve-binary", "--json=pretty").json == {"path": f"{WORK}/bin/firecracker"}


@pytest.mark.config(firecracker_bin="/nonexistent/firecracker")
def test_no_binary(service, ctl):
    assert "/nonexistent/firecracker" in ctl("alice", "resolve-binary", code=FAILED).err
    assert ctl("alice", "-j", "resolve-binary", code=FAILED).error["name"].endswith(".BinaryNotFound")


def test_taps(bridge, ctl, alice):
    result = ctl("alice", "create-tap", "tap0", "tap1", "fc2")
    assert re.fullmatch(r"tap0: created, index \d+\ntap1: created, index \d+\nfc2: created, index \d+\n", result.out)
    assert {tap[0] for tap in alice.do("ListTaps")} == {"tap0", "tap1", "fc2"}
    made = ctl("alice", "create-tap", "tap3", "--mtu=1400", "--tun-uid=bob", "--isolated=yes", "-j").json
    assert [m["tap"] for m in made] == ["tap3"] and made[0]["ifindex"] > 0

    table = ctl("alice", "taps").out.splitlines()
    assert table[0].split()[:3] == ["TAP", "INDEX", "UID"] and table[-1] == "4 taps"
    assert len(ctl("alice", "taps", "--no-legend").out.splitlines()) == 4
    listed = {tap["tap"]: tap for tap in ctl("alice", "taps", "--json=short").json}
    assert listed.keys() == {"tap0", "tap1", "fc2", "tap3"}
    assert listed["tap3"]["mtu"] == 1400 and listed["tap3"]["tun-uid"] == Account("bob").uid
    assert ctl("alice", "list-taps", "-j").json == ctl("alice", "taps", "-j").json
    assert ctl("bob", "taps", "-j").json == []

    result = ctl("alice", "delete-tap", "tap0", "tap9", "tap1")
    assert result.out == "tap0: deleted\ntap1: deleted\n" and "tap9" in result.err
    assert ctl("alice", "delete-tap", "-q", "tap0").err == ""
    assert ctl("alice", "delete-tap", "-j", "fc2", "tap0", "tap3").json == [
        {"tap": "fc2", "deleted": True}, {"tap": "tap0", "deleted": False}, {"tap": "tap3", "deleted": True}]  # fmt: skip
    assert alice.do("ListTaps") == []


def test_guest_mac(bridge, ctl, alice, root):
    if "locked-port" not in root.get("Features"):
        pytest.skip("this kernel has no locked ports")
    ctl("alice", "create-tap", "tap0", "--guest-mac=06:00:ac:10:00:02")
    assert ctl("alice", "taps", "-j").json[0]["guest-mac"] == "06:00:ac:10:00:02"


def test_first_failure_counts(bridge, ctl, bob):
    """In the order given, one status each: bob's tap is refused, the others are made."""
    bob.do("CreateTap", "tap1")
    result = ctl("alice", "create-tap", "tap0", "tap1", "tap2", "wrong", code=DENIED)
    assert [line.split(":")[0] for line in result.out.splitlines()] == ["tap0", "tap2"]
    assert len(result.err.splitlines()) == 2 and "tap1" in result.err
    result = ctl("alice", "create-tap", "-j", "wrong", "tap1", "tap2", code=USAGE)
    assert [e.get("tap") for e in result.json] == ["wrong", "tap1", "tap2"]
    assert result.json[0]["error"]["name"].endswith(".InvalidArgs") and "ifindex" in result.json[2]
    assert [json.loads(line)["error"] for line in result.err.splitlines()] == [e["error"] for e in result.json[:2]]


def test_many_taps_at_once(bridge, ctl, alice):
    names = [f"tap{n}" for n in range(60)]
    assert [t["tap"] for t in ctl("alice", "create-tap", "-j", *names).json] == names
    assert all(t["deleted"] for t in ctl("alice", "delete-tap", "-j", *names).json)
    assert alice.do("ListTaps") == []


def test_auto_delete_lives_with_the_command(bridge, ctl, begin, alice, hold):
    process = begin("alice", "create-tap", "tap0", "--auto-delete")
    assert process.stdout.readline().startswith("tap0: created")
    assert alice.do("ListTaps")[0][0] == "tap0"
    process.terminate()
    process.wait()
    eventually(lambda: alice.do("ListTaps") == [], 10, "the tap's end")
    process = begin("alice", "create-tap", "tap1", "--auto-delete")
    assert process.stdout.readline().startswith("tap1: created")
    holder = hold("alice", "tap1")
    holder.close()
    assert process.wait(10) == DONE


def test_denied(bridge, ctl, carol):
    result = ctl("carol", "create-tap", "tap0", code=DENIED)
    assert "create-tap" in result.err
    assert ctl("carol", "-j", "create-tap", "tap0", code=DENIED).error["message"]
    ctl("carol", "--no-ask-password", "create-tap", "tap0", code=DENIED)
    assert machines.taps() == {}


# --- sockets and processes ---


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
    assert "1 of 64" in text and "br-fc 172.16.0.1/24 (up), 1 ports" in text
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


# --- waiting ---


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


# --- following ---


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


# --- prune and doctor ---


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


def test_doctor(bridge, ctl, bus, polkit):
    code = DONE if all(os.access(f"/dev/{d}", os.R_OK | os.W_OK) for d in ("kvm", "net/tun")) else FAILED
    process = ctl("alice", "doctor", "-j", code=code)
    found = {check["check"]: check for check in process.json}
    assert {"kvm", "tun", "service", "polkit", "group", "firecracker", "bridge", "swap", "ksm", "smt"} <= found.keys()
    assert all(found[name]["result"] == "ok" for name in ("service", "polkit", "firecracker", "bridge"))
    assert found["group"]["result"] == "warn" and "usermod" in found["group"]["next"]
    assert {c["check"]: c for c in ctl("dave", "doctor", "-j", code=code).json}["group"]["result"] == "ok"
    assert all("next" in check for check in found.values() if check["result"] != "ok")
    assert "ok    service" in ctl("alice", "doctor", code=code).out


def test_doctor_without_a_service(ctl, bus):
    found = {check["check"]: check for check in ctl("alice", "doctor", "-j", code=FAILED).json}
    assert found["service"]["result"] == "fail" and "systemctl" in found["service"]["next"]
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    assert "system bus" in ctl("alice", "doctor", code=FAILED, env=nowhere).out


# --- output ---


def test_closed_and_broken_stdout(service, begin, vmm, alice, start, bus):
    vmm(alice)
    for arguments in ("list", "status", "--help", "list -j", "ensure-socket-dir", "find-pid web"):
        command = f"exec {FCPROCCTL} {arguments}"
        closed = start("sh", "-c", command + " >&-", env=bus.environment, user=alice.uid, stderr=subprocess.PIPE)
        assert "Cannot write" in closed.communicate(timeout=20)[1].decode() and closed.returncode == FAILED
        full = start("sh", "-c", command + " >/dev/full", env=bus.environment, user=alice.uid, stderr=subprocess.PIPE)
        assert "Cannot write" in full.communicate(timeout=20)[1].decode() and full.returncode == FAILED
        reader, writer = os.pipe()
        os.close(reader)
        broken = begin("alice", *arguments.split(), stdout=writer)
        os.close(writer)
        assert broken.communicate(timeout=20)[1] == "" and broken.returncode == DONE


class Terminal:
    """fcprocctl on a terminal of its own."""

    def __init__(self, who, bus, *arguments, **env):
        with acting_as(who) as account:
            pass
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, b"\x18\x00\x60\x00\x00\x00\x00\x00")
                os.setgroups(account.groups)
                os.setgid(account.gid)
                os.setuid(account.uid)
                os.execve(FCPROCCTL, ["fcprocctl", *arguments], {**bus.environment, "TERM": "xterm", **env})
            finally:
                os._exit(126)
        self.seen = ""
        self.status = None

    def read(self, within=0.1):
        if select.select([self.fd], [], [], within)[0]:
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                return False
        return True

    def expect(self, text, within=20):
        deadline = time.monotonic() + within
        while text not in self.seen:
            assert self.read() and time.monotonic() < deadline, self.seen

    def write(self, text):
        os.write(self.fd, text.encode())

    def settings(self):
        return termios.tcgetattr(self.fd)

    def end(self, within=30):
        deadline = time.monotonic() + within
        while self.read() and time.monotonic() < deadline:
            pass
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return self.status


def test_colour_only_on_a_terminal(service, bus, ctl, vmm, alice):
    vmm(alice)
    assert "\033" not in ctl("alice", "list").out
    coloured, plain = Terminal("alice", bus, "list", "--no-pager"), Terminal("alice", bus, "list", NO_COLOR="1", PAGER="cat")
    assert coloured.end() == plain.end() == DONE
    assert "\033[4m" in coloured.seen and "\033" not in plain.seen and "web.sock" in plain.seen


def test_pager(service, bus, vmm, alice):
    vmm(alice)
    terminal = Terminal("alice", bus, "list", PAGER="sed 's/^/paged: /'")
    assert terminal.end() == DONE and "paged: web" in terminal.seen.replace("\033[0m", "").replace("\033[4m", "")


def test_waiting_shows_on_a_terminal(service, bus, vmm, alice):
    vm = vmm(alice)
    terminal = Terminal("alice", bus, "wait-for-exit", "web")
    terminal.expect(f"Waiting for web (pid {vm.pid}), for 1s")
    vm.end()
    assert terminal.end() == DONE and "\r\033[Kweb: " in terminal.seen


# --- the question for a password ---


@pytest.fixture
def admins(polkit, bus):
    """Questions are for root, whose password is known."""
    usual = Path("/run/dbus/system_bus_socket")  # polkit's helper, being setuid, takes no other
    usual.symlink_to(bus.path)
    rule = Path("/etc/polkit-1/rules.d/01-fcproc-admin.rules")
    rule.write_text('polkit.addAdminRule(function(action, subject) { return ["unix-user:root"]; });\n')
    rule.chmod(0o644)
    subprocess.run(["chpasswd"], input="root:sesame\n", text=True, check=True)
    polkit.rules(grant("bob", "create-tap"))
    yield polkit
    rule.unlink()
    usual.unlink()


def asked(terminal):
    """What is typed before the echo is off would be thrown away."""
    terminal.expect("Password:")
    eventually(lambda: not terminal.settings()[3] & termios.ECHO, 5, "the echo's end")


def test_right_password(service, bus, bridge, admins):
    terminal = Terminal("carol", bus, "create-tap", "tap0")
    before = terminal.settings()
    asked(terminal)
    terminal.write("sesame\n")
    terminal.expect("tap0: created")
    fd = os.dup(terminal.fd)
    after = termios.tcgetattr(fd)
    os.close(fd)
    assert terminal.end() == DONE and "sesame" not in terminal.seen
    assert machines.taps().keys() == {"tap0"} and before[3] & termios.ECHO and after[3] & termios.ICANON


def test_wrong_password(service, bus, bridge, admins):
    terminal = Terminal("carol", bus, "create-tap", "tap0")
    asked(terminal)
    terminal.write("open\n")
    assert terminal.end() == DENIED and machines.taps() == {}


def test_interrupted_question(service, bus, bridge, admins):
    """Ctrl-C: exit code 4, no agent left, and the terminal echoes again."""
    terminal = Terminal("carol", bus, "create-tap", "tap0")
    before = terminal.settings()
    asked(terminal)
    number = struct.unpack("i", fcntl.ioctl(terminal.fd, 0x80045430, bytes(4)))[0]  # TIOCGPTN
    keep = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    terminal.write("half a pass\x03")
    terminal.expect("interrupted")
    status = os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1])
    assert status == DENIED and terminal.settings() == before
    assert not select.select([keep], [], [], 0)[0], "what was typed ahead is still there"
    os.close(keep)
    os.close(terminal.fd)
    assert machines.taps() == {}
    assert subprocess.run(["pgrep", "-x", "pkttyagent"], capture_output=True).stdout == b""


def test_no_question(service, bus, bridge, admins):
    """Neither when it is not wanted, nor where none is needed."""
    terminal = Terminal("carol", bus, "--no-ask-password", "create-tap", "tap0")
    assert terminal.end() == DENIED and "Password" not in terminal.seen
    terminal = Terminal("bob", bus, "create-tap", "tap1")
    assert terminal.end() == DONE and "AUTHENTICATING" not in terminal.seen


def test_two_questions(service, bus, bridge, admins):
    """Two taps, two answers, one after the other."""
    terminal = Terminal("carol", bus, "create-tap", "tap0", "tap1")
    asked(terminal)
    terminal.write("sesame\n")
    terminal.expect("tap0: created")
    terminal.seen = terminal.seen.split("tap0: created")[1]
    asked(terminal)
    terminal.write("sesame\n")
    assert terminal.end() == DONE and machines.taps().keys() == {"tap0", "tap1"}


# --- another host ---


def test_remote(service, bus, ctl, vmm, bridge, alice):
    """-H through a stand-in for ssh, that runs the bridge to the bus here."""
    directory = WORK / "ssh"
    directory.mkdir(exist_ok=True)
    ssh = directory / "ssh"
    ssh.write_text(f"#!/bin/sh\nexec systemd-stdio-bridge -p {bus.address.split(',')[0]}\n")
    ssh.chmod(0o755)
    env = {"PATH": f"{directory}:{os.environ['PATH']}"}
    vm = vmm(alice)
    assert ctl("alice", "-H", "there", "list", "-j", env=env).json[0]["pid"] == vm.pid
    assert ctl("alice", "-H", "there", "open-process", "web", env=env).out == f"{vm.pid}\n"
    assert "created" in ctl("alice", "-H", "there", "create-tap", "tap0", env=env).out
    assert ctl("alice", "-H", "there", "wait-for-exit", "web", "--timeout=100ms", code=TIMED_OUT, env=env)
    ssh.write_text("#!/bin/sh\nexit 255\n")
    ctl("alice", "-H", "there", "list", code=NO_SERVICE, env=env)
