# SPDX-License-Identifier: MIT
"""fcprocctl -H and -M: the service of another host, or of a container."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import machines
from ctl import NO_SERVICE, TIMED_OUT
from daemons import Bus
from fcproc import WORK

MACHINES = Path("/run/systemd/machines")


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


# --- a container ---


@pytest.fixture
def container(start):
    """container(bus): the name of a machine that machined would know, in which that is the system bus."""
    made = []

    def begin(bus, name="there"):
        leader = start(
            "unshare", "--mount", "--propagation", "private", "sh", "-c",
            "mount -t tmpfs run /run/dbus && touch /run/dbus/system_bus_socket && "
            f"mount --bind {bus.path} /run/dbus/system_bus_socket && echo up && exec sleep 1000", stdout=subprocess.PIPE)  # fmt: skip
        assert leader.stdout.readline() == b"up\n"
        made.append(MACHINES / name)
        MACHINES.mkdir(parents=True, exist_ok=True)
        made[-1].write_text(f"CLASS=container\nLEADER={leader.pid}\n")
        return name

    yield begin
    for machine in made:
        machine.unlink()


@pytest.fixture
def other_bus():
    other = Bus("other-bus")
    yield other
    other.stop()


def test_container(other_bus, service, make_service, container, ctl):
    """-M: the service on the bus in there answers, not ours; for root, who may enter it."""
    make_service(bus=other_bus, bridge_name="br-there", bridge_ip="10.9.8.1", runtime_dir="/run/there").start()
    name = container(other_bus)
    assert ctl("root", "status", "-j").json["bridge"]["name"] == "br-fc"
    status = ctl("root", "-M", name, "status", "-j").json
    assert status["runtime_dir"] == "/run/there"
    assert status["bridge"] == {"name": "br-there", "address": "10.9.8.1/24"}  # its links may be others than ours
    assert ctl("root", "-M", name, "ensure-bridge").out == "br-there 10.9.8.1/24\n"
    assert "created" in ctl("root", f"--machine={name}", "create-tap", "tap0").out
    vm = machines.spawn_vmm("root", Path(ctl("root", "-M", name, "ensure-socket-dir").out.strip()) / "web.sock")
    try:
        assert ctl("root", "-M", name, "list", "-j").json[0]["api_sock"] == "/run/there/0/web.sock"
        assert ctl("root", "-M", name, "open-process", "web").out == f"{vm.pid}\n"
        ctl("root", "-M", name, "wait-for-exit", "web", "--timeout=100ms", code=TIMED_OUT)
    finally:
        vm.end()
        shutil.rmtree("/run/there")


def test_container_out_of_reach(service, other_bus, container, ctl):
    """No such container, no service in it, not for this user: exit code 7, and the reason."""
    assert "nowhere" in ctl("root", "-M", "nowhere", "list", code=NO_SERVICE).err
    name = container(other_bus)
    assert "service" in ctl("root", "-M", name, "list", code=NO_SERVICE).err
    assert f"system bus of {name}" in ctl("alice", "-M", name, "list", code=NO_SERVICE).err
    assert "system bus of ../x" in ctl("root", "-M", "../x", "list", code=NO_SERVICE).err
    assert ctl("root", "-j", "-M", "nowhere", "list", code=NO_SERVICE).error["message"]
