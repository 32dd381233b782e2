# SPDX-License-Identifier: MIT
"""fcprocctl run: a VM's whole life as an ordinary user, on the stand-in and, where FIRECRACKER names one, on a real Firecracker."""

import fcntl
import json
import os
import select
import signal
import termios

import pytest

import fcproc
from ctl import DENIED, DONE, FAILED, NO_SERVICE, USAGE
from daemons import deny, grant
from fcproc import eventually
from machines import links, taps
from running import NOTHING, VMM, configuration, firecracker, left, run, standin, up  # noqa: F401

pytestmark = pytest.mark.config(firecracker_bin=str(VMM))


# --- a whole life ---


def test_console_and_ctrl_c(firecracker, run, alice):
    """The console shows, what is typed arrives, Ctrl-C shuts the guest down, and the terminal is as before."""
    web = up(run("alice", "web", "--config-file", configuration("web", ("tap0", "06:00:ac:10:00:02"))))
    assert [(p[0], p[2]) for p in alice.do("ListProcesses")] == [(web.vmm(), alice.sock("web"))]
    assert [(t[0], t[3]["guest-mac"], t[3]["auto-delete"], t[3]["carrier"]) for t in alice.do("ListTaps")] == [
        ("tap0", "06:00:ac:10:00:02", True, True)]  # fmt: skip
    web.type("hello")
    web.expect("hello")
    web.type("\x1a\x1c")  # Ctrl-Z and Ctrl-\ are the guest's
    web.expect("\x1a\x1c")
    web.seen = ""
    web.type("\x03")
    web.expect("web is asked to shut down, and killed after 30s")
    assert web.wait() == 0 and "web: exited, status 0: ended by its guest" in web.seen
    assert left(alice) == NOTHING
    assert termios.tcgetattr(web.slave) == web.before
    assert fcntl.fcntl(web.slave, fcntl.F_GETFL) == web.flags, "the terminal is left non-blocking"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_without_a_terminal(firecracker, run, alice, number):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0"), terminal=False))
    web.process.send_signal(number)
    assert web.wait() == 0 and left(alice) == NOTHING


def test_signal_for_all(firecracker, run, alice):
    """As a unit with KillMode=control-group is stopped: the VMM lives to be shut down."""
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(web.vmm(), number)
    web.process.terminate()
    assert web.wait() == 0 and left(alice) == NOTHING


def test_the_guest_ends_it(firecracker, run, alice):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    alice.do("SendCtrlAltDel", alice.sock("web"))
    assert web.wait() == 0 and left(alice) == NOTHING


def test_killed_itself(firecracker, run, alice):
    """SIGKILL of fcprocctl: no VMM, no tap; the socket goes with the next run."""
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    pid = os.pidfd_open(web.vmm())
    web.process.kill()
    assert select.select([pid], [], [], 10)[0], "the VMM lives on"
    os.close(pid)
    eventually(lambda: taps() == {}, 5, "the tap's end")
    assert left(alice) == (set(), ["web.sock"])
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    web.type("\x03")
    assert web.wait() == 0 and left(alice) == NOTHING


def test_killed_before_a_vmm(standin, run, alice, polkit, service, bus):
    """And when it has a tap, but no VMM yet: the service removes the tap."""
    VMM.write_text("#!/bin/sh\nexec sleep 60\n")
    web = run("alice", "web", "--config-file", configuration("web", "tap0"))
    web.expect("runs, pid")
    assert set(taps()) == {"tap0"}
    web.process.kill()
    eventually(lambda: taps() == {}, 5, "the tap's end")


def test_two_on_one_bridge(firecracker, run, alice, bridge):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    db = up(run("alice", "db", "--config-file", configuration("db", "tap1", "tap2")))
    assert {name: link["master"] for name, link in taps().items()} == {"tap0": bridge, "tap1": bridge, "tap2": bridge}
    web.type("\x03")
    assert web.wait() == 0 and left(alice) == ({"tap1", "tap2"}, ["db.sock"])
    db.type("\x03")
    assert db.wait() == 0 and left(alice) == NOTHING


def test_without_a_network(firecracker, run, alice):
    web = up(run("alice", "web", "--config-file", configuration("web")))
    assert links().keys() == {"lo"}, "a bridge for nobody"
    web.type("\x03")
    assert web.wait() == 0 and left(alice) == NOTHING


def test_pipes(firecracker, run, alice, start):
    """A console that is a pipe, as in a script, and a VM in the background of a shell."""
    reader, writer = os.pipe()
    web = up(run("alice", "web", "--config-file", configuration("web"), terminal=False, stdin=reader))
    os.close(reader)
    os.write(writer, b"hello\n")
    web.expect("hello")
    os.close(writer)
    web.process.terminate()
    assert web.wait() == 0


def test_flags_of_a_pipe(firecracker, run, alice):
    """A pipe that others write into, too, is not left non-blocking."""
    reader, writer = os.pipe()
    web = run("alice", "web", "--config-file", configuration("web"), terminal=False, stdout=writer, stdin=reader)
    eventually(lambda: not os.get_blocking(writer), what="the VMM's start")
    web.process.terminate()
    assert web.wait() == 0 and os.get_blocking(writer) and os.get_blocking(reader)
    os.close(reader)
    os.close(writer)


def test_json(firecracker, run, alice):
    """The object on stdout; the console and all else on stderr."""
    reader, writer = os.pipe()
    web = run("alice", "-j", "web", "--config-file", configuration("web", "tap0"), terminal=False, stdout=writer)
    os.close(writer)
    up(web)
    pid = alice.do("FindPID", alice.sock("web"))
    web.process.terminate()
    assert web.wait() == 0
    assert json.loads(os.read(reader, 65536)) == {
        "api_sock": alice.sock("web"), "pid": pid, "taps": ["tap0"], "cause": "exited", "status": 0,
        "meaning": "ended by its guest"}  # fmt: skip
    os.close(reader)


def test_vsock(firecracker, run, alice):
    """The vsock's socket is Firecracker's to make and nobody's to remove: stale ones go before and after."""
    path = alice.sock("vsock")
    more = ["--", f"--standin-vsock={path}"] if firecracker == "stand-in" else []
    for _ in range(2):
        web = run("alice", "web", "--config-file", configuration("web", vsock={"guest_cid": 3, "uds_path": path}), *more)
        up(web)
        assert left(alice)[1] == ["vsock.sock", "web.sock"]
        web.type("\x03")
        assert web.wait() == 0 and left(alice) == NOTHING


# --- ends that are no good ---


def test_exit_status(standin, run, alice):
    for code in (0, 3, 148):
        web = run("alice", "web", "--config-file", configuration("web", "tap0"), "--", f"--standin-exit-after=50:{code}")
        assert web.wait() == code and left(alice) == NOTHING
    assert "status 148: bad syscall" in web.seen


def test_vmm_killed(firecracker, run, alice):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    os.kill(web.vmm(), signal.SIGKILL)
    assert web.wait() == 128 + signal.SIGKILL and "web: killed by SIGKILL" in web.seen and left(alice) == NOTHING


def test_second_ctrl_c(standin, run, alice):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0"), "--", "--standin-ignore-ctrl-alt-del"))
    web.type("\x03")
    web.expect("Ctrl-C kills it now")
    web.type("\x03")
    assert web.wait() == 137 and left(alice) == NOTHING


def test_grace(standin, run, alice):
    web = up(run("alice", "web", "--grace=300ms", "--config-file", configuration("web"), "--", "--standin-ignore-ctrl-alt-del"))
    web.type("\x03")
    web.expect("killed after 300ms")
    assert web.wait() == 137 and left(alice) == NOTHING


def test_paused(standin, run, alice):
    """A paused guest cannot shut down: who typed is told, and may insist; SIGTERM comes once."""
    for insist in (True, False):
        web = run("alice", "web", "--config-file", configuration("web"), "--", "--standin-paused")
        web.expect("listening")
        eventually(lambda: os.stat(alice.sock("web")).st_mode & 0o777 == 0o600)
        alice.do("GetUsage")
        if insist:
            web.type("\x03")
            web.expect("web runs on; Ctrl-C kills it")
            web.type("\x03")
        else:
            web.process.terminate()
        assert web.wait() == 137 and "paused" in web.seen and left(alice) == NOTHING


def test_refused_configuration(firecracker, run, alice):
    """Firecracker's own words and status; nothing is left."""
    web = run("alice", "web", "--config-file", configuration("web", "tap0", **{"machine-config": {"vcpu_count": 0, "mem_size_mib": 128}}))
    assert web.wait() == 1 and "vCPUs" in web.seen and "web: exited, status 1: error" in web.seen
    assert left(alice) == NOTHING


def test_service_away(standin, run, alice, service):
    """The VM does not need it to run, nor to be killed; its taps go when the service is back."""
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    eventually(lambda: os.stat(alice.sock("web")).st_mode & 0o777 == 0o600)
    alice.do("GetUsage")
    service.stop()
    web.type("\x03")
    web.expect("The FcProc service is not there")
    web.type("\x03")
    assert web.wait() == 137 and left(alice) == ({"tap0"}, [])
    assert web.seen.count("The FcProc service is not there") == 1 and "removes its taps when it is back" in web.seen
    service.start()
    eventually(lambda: taps() == {}, 5, "the tap's end")


def test_restarted_service(standin, run, alice, service):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    service.restart()
    assert set(taps()) == {"tap0"}
    web.type("\x03")
    assert web.wait() == 0 and left(alice) == NOTHING


# --- what is refused before ---


def refused(run, alice, who, *arguments, code, says, remains=NOTHING):
    web = run(who, *arguments)
    assert web.wait() == code and says in web.seen, web.seen
    assert "org.freedesktop" not in web.seen and left(alice) == remains


def test_name_in_use(standin, run, alice):
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    refused(run, alice, "alice", "web", "--config-file", configuration("other", "tap1"), code=FAILED,
            says="web.sock is in use: a VM runs there already", remains=({"tap0"}, ["web.sock"]))  # fmt: skip
    os.rename(alice.sock("web"), alice.sock("moved"))
    (fcproc.RUNTIME / str(alice.uid) / "web.sock").write_text("no socket")
    refused(run, alice, "alice", "web", "--config-file", configuration("other", "tap1"), code=FAILED,
            says="is in the way", remains=({"tap0"}, ["moved.sock", "web.sock"]))  # fmt: skip
    assert web.process.poll() is None


def test_tap_in_use(standin, run, alice, bob, bridge, client, hold):
    """Another user's, one that a VM of one's own holds, and one that it is about to hold."""
    bob.do("CreateTap", "tap0")
    refused(run, alice, "alice", "web", "--config-file", configuration("web", "tap1", "tap0"), code=DENIED, says="tap0",
            remains=({"tap0"}, []))  # fmt: skip
    db = up(run("alice", "db", "--config-file", configuration("db", "tap1")))
    before = links()["tap1"]["ifindex"]
    refused(run, alice, "alice", "web", "--config-file", configuration("web", "tap2", "tap1"), code=FAILED,
            says="tap1 is in use by another VM of yours", remains=({"tap0", "tap1"}, ["db.sock"]))  # fmt: skip
    assert links()["tap1"]["ifindex"] == before and db.process.poll() is None
    alice.do("CreateTap", "tap3", auto_delete=True)
    refused(run, alice, "alice", "web", "--config-file", configuration("web", "tap3"), code=FAILED, says="tap3 is in use",
            remains=({"tap0", "tap1", "tap3"}, ["db.sock"]))  # fmt: skip


def test_own_unused_tap(standin, run, alice, bridge):
    """One that nobody holds is replaced, as by create-tap, and goes with the VM."""
    alice.do("CreateTap", "tap0")
    web = up(run("alice", "web", "--config-file", configuration("web", "tap0")))
    web.type("\x03")
    assert web.wait() == 0 and left(alice) == NOTHING


def test_two_at_once(standin, run, alice):
    """Of two with the same name one runs, and the other has not harmed it."""
    path = configuration("web", "tap0")
    both = [run("alice", "web", "--config-file", path) for _ in range(2)]
    eventually(lambda: any(r.process.poll() is not None for r in both), 20, "one's end")
    loser, winner = both if both[0].process.poll() is not None else reversed(both)
    assert loser.wait() == FAILED and "in use" in loser.seen
    up(winner)
    assert left(alice) == ({"tap0"}, ["web.sock"]) and alice.do("ListTaps")[0][3]["carrier"]
    winner.type("\x03")
    assert winner.wait() == 0 and left(alice) == NOTHING


def test_files(standin, run, alice):
    directory = VMM.parent
    os.mkfifo(directory / "fifo")
    bad = {
        "absent.json": None, "secret.json": "{}", "empty.json": "", "cut.json": '{"drives": [', "list.json": "[]",
        "trailing.json": "{} x", "binary.json": b"\xff\xfe\x00", "deep.json": "[" * 5000}  # fmt: skip
    for name, text in bad.items():
        if text is not None:
            (directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())
            (directory / name).chmod(0o600 if name == "secret.json" else 0o644)
        refused(run, alice, "alice", "web", "--config-file", str(directory / name), code=FAILED, says=name)
    refused(run, alice, "alice", "web", "--config-file", str(directory), code=FAILED, says="no regular file")
    refused(run, alice, "alice", "web", "--config-file", str(directory / "fifo"), code=FAILED, says="no regular file")
    with open(directory / "large.json", "w") as file:
        file.truncate(1024 * 1024 + 1)
    refused(run, alice, "alice", "web", "--config-file", str(directory / "large.json"), code=FAILED, says="1 MiB")


@pytest.mark.parametrize(
    "interfaces, says",
    [
        (("tap0", "tap0"), "two interfaces have the tap 'tap0'"),
        (("../../etc",), "no name for a tap"),
        (("x" * 100_000,), "no name for a tap"),
        (("eth0",), "tap_prefixes"),
        ((("tap0", "01:00:5e:00:00:01"),), "guest-mac '01:00:5e:00:00:01'"),
        ((("tap0", "nonsense"),), "guest-mac 'nonsense'"),
    ],
)
def test_interfaces(standin, run, alice, interfaces, says):
    refused(run, alice, "alice", "web", "--config-file", configuration("web", *interfaces), code=USAGE, says=says)


def test_strange_interfaces(standin, run, alice):
    """What has no tap is for Firecracker to refuse; none of it stops the others from being cleared away."""
    for network in ([{"iface_id": "a"}], [{"host_dev_name": 7}], ["eth0"], {"host_dev_name": "tap0"}, None, 7):
        web = run("alice", "web", "--config-file", configuration("web", **{"network-interfaces": network}))
        assert web.wait() != DONE and "web: " in web.seen and left(alice) == NOTHING


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["web"], "--config-file"),
        (["/run/web.sock", "--config-file=x"], "takes the bare name"),
        (["4711", "--config-file=x"], "no socket"),
        (["web", "db", "--config-file=x"], "behind --"),
        (["web", "db", "--config-file=x", "--", "--level"], "behind --"),
        (["web", "--config-file=x", "--", "--api-sock", "y"], "--api-sock is not for you"),
        (["web", "--config-file=x", "--", "--no-api"], "--no-api is not for you"),
        (["-H", "there", "web", "--config-file=x"], "this host"),
        (["web", "--config-file=x", "--grace=soon"], "no span"),
        (["web", "--config-file=x", "--force"], "does not take"),
        (["web", "--config-file"], "needs a value"),
    ],
)
def test_usage(standin, run, alice, arguments, says):
    refused(run, alice, "alice", *arguments, code=USAGE, says=says)


def test_no_binary(standin, run, alice):
    path = configuration("web", "tap0")
    VMM.chmod(0o600)
    refused(run, alice, "alice", "web", "--config-file", path, code=FAILED, says="firecracker")
    VMM.write_text("#!/nonexistent\n")
    VMM.chmod(0o755)
    refused(run, alice, "alice", "web", "--config-file", path, code=FAILED, says="Cannot start")
    VMM.unlink()
    refused(run, alice, "alice", "web", "--config-file", path, code=FAILED, says="firecracker")


def test_not_permitted(standin, run, alice, polkit, bridge):
    """The second tap is refused: the first one goes again."""
    polkit.rules(deny("alice", "create-tap", tap="tap1"), grant("alice", "create-tap", "manage-bridge"))
    refused(run, alice, "alice", "web", "--config-file", configuration("web", "tap0", "tap1"), code=DENIED, says="tap1")


def test_no_service(standin, run, alice, service):
    service.stop()
    refused(run, alice, "alice", "web", "--config-file", configuration("web", "tap0"), code=NO_SERVICE, says="FcProc service")
    service.start()
