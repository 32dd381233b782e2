# SPDX-License-Identifier: MIT
"""The same on the real program, with a real virtual machine: the tiny guest of tests/vmm, which resets on
Ctrl-Alt-Del. Runs where FIRECRACKER (and JAILER) name the programs and /dev/kvm can be opened."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

import fcproc
import machines
from conftest import ensure_directory, parked
from fcproc import FOREVER, SECOND, WORK, Account, eventually, pause, refused
from machines import Vm, links, request, taps, vm_config

REAL = WORK / "real"
JAIL = WORK / "jail"
JAIL_UID = 200_005

without = machines.unusable("FIRECRACKER")
without_jailer = machines.unusable("FIRECRACKER", "JAILER")
pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(without), reason=f"no real Firecracker: {without}"),
              pytest.mark.config(firecracker_bin=str(REAL / "firecracker"), socket_roots=str(JAIL))]  # fmt: skip


@pytest.fixture
def ended(root):
    knows = "exit-status" in root.get("Features")
    return lambda cause, status: (cause, status) if knows else ("unknown", -1)


@pytest.fixture
def real(service):
    """real(client, name, *taps): a microVM of that user; with started=False only its VMM."""
    REAL.mkdir(exist_ok=True)
    shutil.copy(os.environ["FIRECRACKER"], REAL / "firecracker")
    (REAL / "firecracker").chmod(0o755)
    shutil.copy(fcproc.GUEST, REAL / "guest")
    made = []

    def start(client, name="web", *tap_names, started=True):
        path = os.path.join(ensure_directory(client.account), f"{name}.sock")
        config = ["--config-file", vm_config(REAL / f"{name}.json", REAL / "guest", *tap_names)] if started else []
        made.append(Vm(client.account.name, [REAL / "firecracker", "--api-sock", path, "--id", name, *config], path))
        eventually(lambda: answers(path, "Running" if started else "Not started"), 20, f"{name}'s start")
        return made[-1]

    yield start
    for vm in made:
        vm.end()


def answers(path, state):
    try:
        return json.loads(request(path, "GET", "/")[1])["state"] == state
    except OSError:
        return False


def test_pid_and_shutdown(real, alice, bob, ended):
    """Its pid, and Ctrl-Alt-Del with `exited 0` as reply and signal."""
    alice.do("Subscribe")
    vm = real(alice)
    assert alice.do("FindPID", vm.sock) == vm.pid
    assert alice.wait_signal("ProcessAppeared", vm.pid).args[1:3] == (alice.uid, vm.sock)
    assert [p[:3] for p in alice.do("ListProcesses")] == [(vm.pid, alice.uid, vm.sock)]
    alice.do("EnsureSocketAccess", vm.sock, "web")
    assert os.stat(vm.sock).st_mode & 0o777 == 0o600
    with refused("AccessDenied", "InteractiveAuthorizationRequired"):
        bob.do("Shutdown", vm.sock, 0)
    wait = parked(alice, vm.pid, vm.sock, FOREVER)
    assert alice.do("Shutdown", vm.sock, 10 * SECOND) == ("ctrl-alt-del", *ended("exited", 0))
    assert wait.result() == ended("exited", 0)
    assert alice.wait_signal("ProcessExited", vm.pid).args[3:5] == ended("exited", 0)
    with refused("NoSuchProcess"):
        alice.do("FindPID", vm.sock)


def test_send_ctrl_alt_del(real, alice, ended):
    vm = real(alice)
    assert alice.do("WatchExit", 0, vm.sock, FOREVER) == vm.pid
    alice.do("SendCtrlAltDel", vm.sock)
    assert alice.wait_signal("ProcessExited", vm.pid).args[3:5] == ended("exited", 0)


def test_kill(real, alice, ended):
    vm = real(alice)
    wait = parked(alice, vm.pid, vm.sock, FOREVER)
    alice.do("Kill", vm.pid, vm.sock)
    assert wait.result() == ended("signaled", 9)


def test_refused_before_the_start(real, alice, ended):
    vm = real(alice, started=False)
    with refused("VmmRefused", says="not supported before starting the microVM"):
        alice.do("SendCtrlAltDel", vm.sock)
    assert vm.alive()
    assert alice.do("Shutdown", vm.sock, 20 * SECOND) == ("killed", *ended("signaled", 9))


def test_paused(real, alice, ended):
    vm = real(alice)
    assert request(vm.sock, "PATCH", "/vm", {"state": "Paused"})[0] == 204
    with refused("VmmRefused", says="esume"):
        alice.do("Shutdown", vm.sock, SECOND // 2)
    assert vm.alive()
    pending = alice.begin("Shutdown", vm.sock, 2 * SECOND, force=True)
    with refused("WaitForExitTimeout"):
        alice.do("WaitForExit", vm.pid, vm.sock, SECOND)
    assert pending.result() == ("killed", *ended("signaled", 9))


def test_paused_forced_and_resumed(real, alice, ended):
    """The request that it took while it was paused is acted upon."""
    vm = real(alice)
    assert request(vm.sock, "PATCH", "/vm", {"state": "Paused"})[0] == 204
    pending = alice.begin("Shutdown", vm.sock, 20 * SECOND, force=True)
    with refused("WaitForExitTimeout"):
        alice.do("WaitForExit", vm.pid, vm.sock, SECOND)
    assert request(vm.sock, "PATCH", "/vm", {"state": "Resumed"})[0] == 204
    assert pending.result() == ("ctrl-alt-del", *ended("exited", 0))


def test_paused_and_resumed(real, alice, ended):
    vm = real(alice)
    request(vm.sock, "PATCH", "/vm", {"state": "Paused"})
    request(vm.sock, "PATCH", "/vm", {"state": "Resumed"})
    assert alice.do("Shutdown", vm.sock, 10 * SECOND) == ("ctrl-alt-del", *ended("exited", 0))


def test_ten_connections_taken(real, alice, ended):
    vm = real(alice)
    held = []
    for _ in range(10):
        held.append(socket.socket(socket.AF_UNIX))
        held[-1].connect(vm.sock)
    pause(0.2)  # until the VMM has accepted them
    with refused("VmmUnreachable", says="busy"):
        alice.do("SendCtrlAltDel", vm.sock)
    assert alice.do("FindPID", vm.sock) == vm.pid
    assert [p[0] for p in alice.do("ListProcesses")] == [vm.pid]
    assert alice.do("Shutdown", vm.sock, SECOND) == ("killed", *ended("signaled", 9))
    for each in held:
        each.close()


def test_a_tap_is_attached_and_deleted(real, bridge, alice):
    alice.do("Subscribe")
    alice.do("CreateTap", "tap0", guest_mac="02:fc:00:00:00:01", auto_delete=True)
    alice.do("CreateTap", "tap1")
    vm = real(alice, "web", "tap0", "tap1")
    eventually(lambda: [t[3]["carrier"] for t in alice.do("ListTaps")] == [True, True], 2, "the carriers")
    assert alice.do("Shutdown", vm.sock, 10 * SECOND)[0] == "ctrl-alt-del"
    eventually(lambda: "tap0" not in links(), 1.0, "the end of tap0")
    assert alice.wait_signal("TapDeleted", "tap0")
    assert set(taps()) == {"tap1"}
    eventually(lambda: alice.do("ListTaps")[0][3]["carrier"] is False, 2, "the end of the carrier")


def test_a_tap_whose_vmm_is_killed(real, bridge, alice):
    alice.do("CreateTap", "tap0", auto_delete=True)
    vm = real(alice, "web", "tap0")
    alice.do("Kill", 0, vm.sock)
    eventually(lambda: "tap0" not in links(), 1.0, "the end of tap0")


def test_an_unlinked_socket(real, alice, ended):
    vm = real(alice)
    os.unlink(vm.sock)
    wait = parked(alice, vm.pid, vm.sock, FOREVER)
    assert not wait.done
    alice.do("Kill", vm.pid, vm.sock)
    assert wait.result() == ended("signaled", 9)


# --- jailed ---


class Jailed:
    """The real jailer, under a uid of alice's /etc/subuid range."""

    def __init__(self, ident, *switches):
        self.root = JAIL / "firecracker" / ident / "root"
        self.sock = str(self.root / "run" / "firecracker.socket")
        self.root.mkdir(parents=True)
        shutil.copy(fcproc.GUEST, self.root / "guest")
        vm_config(self.root / "vm.json", "/guest")
        for path in (self.root, *self.root.iterdir()):
            os.chown(path, JAIL_UID, JAIL_UID)
        self.root.chmod(0o700)
        command = [os.environ["JAILER"], "--id", ident, "--exec-file", REAL / "firecracker", "--uid", JAIL_UID, "--gid", JAIL_UID,
                   "--chroot-base-dir", JAIL, *switches, "--", "--config-file", "vm.json"]  # fmt: skip
        self.vm = Vm("root", [str(part) for part in command], self.sock)
        self.pid_file = self.root / "firecracker.pid"
        eventually(lambda: answers(self.sock, "Running"), 20, "the jailed VM's start")
        self.pid = int(self.pid_file.read_text()) if self.pid_file.exists() else self.vm.pid

    def end(self):
        if Path(f"/proc/{self.pid}").exists():
            try:
                if os.readlink(f"/proc/{self.pid}/root").startswith(str(self.root)):
                    os.kill(self.pid, 9)
            except OSError:
                pass
        self.vm.end()


@pytest.fixture
def jailed(real):
    if not os.path.exists(JAIL):
        JAIL.mkdir(mode=0o755)
    made = []

    def start(ident, *switches):
        made.append(Jailed(ident, *switches))
        return made[-1]

    yield start
    for each in made:
        each.end()
    subprocess.run(["rm", "-rf", JAIL], check=True)


@pytest.mark.skipif(bool(without_jailer), reason=f"no real jailer: {without_jailer}")
@pytest.mark.parametrize("switches", [[], ["--new-pid-ns"], ["--daemonize"], ["--new-pid-ns", "--daemonize"]], ids=lambda s: " ".join(s) or "plain")
def test_jailed(jailed, alice, bob, root, ended, switches):
    """It is alice's, though it runs under another uid; its pid is the host's."""
    vm = jailed("web", *switches)
    for client in (alice, bob, root):  # outside the runtime directory, only what is there then is announced
        client.do("Subscribe")
    assert Account(JAIL_UID).uid == os.stat(f"/proc/{vm.pid}").st_uid
    assert alice.do("FindPID", vm.sock) == vm.pid
    assert alice.wait_signal("ProcessAppeared", vm.pid).args[1:3] == (alice.uid, vm.sock)
    assert [p[:3] for p in alice.do("ListProcesses")] == [(vm.pid, alice.uid, vm.sock)]
    with refused("AccessDenied", "InteractiveAuthorizationRequired"):
        bob.do("Kill", vm.pid, vm.sock)
    wait = parked(alice, vm.pid, "", FOREVER)
    assert not wait.done
    assert alice.do("Shutdown", vm.sock, 10 * SECOND) == ("ctrl-alt-del", *ended("exited", 0))
    assert wait.result() == ended("exited", 0)
    assert alice.wait_signal("ProcessExited", vm.pid).args[3:5] == ended("exited", 0)
    assert root.wait_signal("ProcessExited", vm.pid)
    bob.ping()
    assert bob.signals == []


@pytest.mark.skipif(bool(without_jailer), reason=f"no real jailer: {without_jailer}")
def test_kill_jailed(jailed, alice, ended):
    """SIGTERM would be ignored by the first process of a namespace; SIGKILL is not."""
    vm = jailed("web", "--new-pid-ns")
    wait = parked(alice, vm.pid, vm.sock, FOREVER)
    alice.do("Kill", vm.pid, vm.sock)
    assert wait.result() == ended("signaled", 9)
