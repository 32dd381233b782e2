# SPDX-License-Identifier: MIT
"""What the tests of fcprocctl run share: both VMMs, configuration files, and a run on a terminal of its own or on pipes."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import subprocess
import termios
import time

import pytest

import fcproc
import machines
from ctl import FCPROCCTL
from fcproc import WORK, acting_as
from machines import taps

VMM = WORK / "run" / "firecracker"
without = machines.unusable("FIRECRACKER")

def install_vmm(path):
    VMM.parent.mkdir(exist_ok=True)
    VMM.unlink(missing_ok=True)  # one that still runs could not be written to
    shutil.copy(path, VMM)
    VMM.chmod(0o755)


@pytest.fixture
def standin(programs):
    install_vmm(fcproc.STANDIN)


@pytest.fixture(params=["stand-in", pytest.param("real", marks=[
    pytest.mark.real, pytest.mark.skipif(bool(without), reason=f"no real Firecracker: {without}")])])  # fmt: skip
def firecracker(request, programs):
    """Both VMMs boot the tests' guest, which says "u" and sends back what is typed."""
    install_vmm(fcproc.STANDIN if request.param == "stand-in" else os.environ["FIRECRACKER"])
    return request.param


def configuration(name, *interfaces, **more):
    """A Firecracker configuration file that everybody can read; an interface is a tap or (tap, guest MAC)."""
    network = []
    for n, interface in enumerate(interfaces):
        tap, mac = interface if isinstance(interface, tuple) else (interface, None)
        network.append({"iface_id": f"eth{n}", "host_dev_name": tap, **({"guest_mac": mac} if mac else {})})
    path = VMM.parent / f"{name}.json"
    path.write_text(json.dumps({
        "boot-source": {"kernel_image_path": str(WORK / "bin" / "guest"), "boot_args": "reboot=k"}, "drives": [],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}, "network-interfaces": network, **more}))  # fmt: skip
    path.chmod(0o644)
    return str(path)


class Run:
    """fcprocctl run, on a terminal of its own or on pipes."""

    def __init__(self, bus, who, *arguments, terminal=True, environment=None, **options):
        with acting_as(who) as account:
            self.account = account
        self.seen, self.slave = "\n", None
        if terminal:
            self.master, self.slave = pty.openpty()
            os.fchown(self.slave, account.uid, account.gid)
            self.before = termios.tcgetattr(self.slave)
            self.flags = fcntl.fcntl(self.slave, fcntl.F_GETFL)
            # setsid and the open make it the controlling terminal, which Ctrl-C needs
            options = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave,
                       "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **options}  # fmt: skip
        else:
            self.master, writer = os.pipe()
            options = {"stdin": subprocess.DEVNULL, "stdout": writer, "stderr": writer, **options}
        self.process = subprocess.Popen(
            [str(FCPROCCTL), *arguments], env=dict(bus.environment, TERM="xterm", **(environment or {})), user=account.uid,
            group=account.gid, extra_groups=account.groups, start_new_session=True, cwd="/", **options)  # fmt: skip
        if not terminal:
            os.close(writer)

    def expect(self, text, within=20):
        deadline = time.monotonic() + within
        while text not in self.seen:
            assert self.read(max(0, deadline - time.monotonic())), f"no '{text}' in: {self.seen}"

    def read(self, within):
        if not select.select([self.master], [], [], within)[0]:
            return False
        try:
            chunk = os.read(self.master, 65536).decode(errors="replace")
        except OSError:
            return False
        self.seen += chunk
        return bool(chunk)

    def type(self, text):
        os.write(self.master, text.encode())

    def wait(self, within=20):
        status = self.process.wait(within)
        while self.read(0):
            pass
        return status

    def vmm(self):
        """The pid of the VMM."""
        return int(re.search(r"runs, pid (\d+)", self.seen)[1])

    def hang_up(self):
        """The terminal's window is closed."""
        os.close(self.slave)
        os.close(self.master)
        self.slave = self.master = None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.master, self.slave):
            if fd is not None:
                os.close(fd)


@pytest.fixture
def run(bus, service, fcprocctl):
    """run(user, arguments…): under way; a VM that is left is killed with it."""
    running = []

    def begin(who, *arguments, **options):
        running.append(Run(bus, who, "run", *arguments, **options))
        return running[-1]

    yield begin
    for each in running:
        each.close()


def left(user):
    """What a VM of that user has left behind."""
    directory = fcproc.RUNTIME / str(user.uid)
    return set(taps()), sorted(os.listdir(directory)) if directory.exists() else []


NOTHING = set(), []


def up(run):
    """Its guest has said that it is up; Firecracker's own lines come in between."""
    run.expect("\nu")
    return run
