# SPDX-License-Identifier: MIT
"""A list is whole, or says that it is cut, or is an error (hostile cases 47, 48, 50)."""

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ensure_directory
from fcproc import RUNTIME, eventually, pause, refused

# Listens on as many sockets as are named, and never accepts.
SILENT = """
import socket, sys
sockets = []
for path in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(1)
    sockets.append(s)
print("listening", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def silent(start):
    """silent(client, paths…): a process of the client's that listens there and says nothing."""

    def run(client, *paths):
        account = client.account
        process = start(sys.executable, "-c", SILENT, *paths, user=account.uid, group=account.gid, extra_groups=account.groups,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")  # fmt: skip
        assert process.stdout.readline()
        return process

    return run


def stale(client, count, name="stale"):
    """As many sockets that nobody listens on."""
    directory = ensure_directory(client.account)
    for n in range(count):
        with socket.socket(socket.AF_UNIX) as each:
            each.bind(f"{directory}/{name}{n}.sock")
        os.chown(f"{directory}/{name}{n}.sock", client.uid, -1)


@pytest.mark.parametrize("what", ["directory", "socket", "one's own directory"])
def test_a_mount_that_does_not_answer(service, alice, bob, root, vmm, fuse, what):
    """It is not asked: others' lists and starts go on (hostile case 47)."""
    hers, his = vmm(alice, "hers"), vmm(bob, "his")
    directory = Path(ensure_directory(alice.account))
    if what == "directory":
        (directory / "hang").mkdir()
        fuse(directory / "hang", stat.S_IFDIR | 0o755)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as each:  # so that its name says that it is a socket
            each.bind(str(directory / "hang.sock"))
        fuse(directory / "hang.sock", stat.S_IFSOCK | 0o644)
    else:
        fuse(directory, stat.S_IFDIR | 0o755)
    assert [p[0] for p in bob.do("ListProcesses")] == [his.pid]
    listed = [p[0] for p in root.do("ListProcesses")]
    assert his.pid in listed and (what == "one's own directory" or hers.pid in listed)
    bob.do("Subscribe")
    alice.do("Subscribe")
    another = vmm(bob, "another")
    bob.wait_signal("ProcessAppeared", another.pid)


@pytest.mark.config(max_waits_per_user=2)
def test_more_vms_than_waits(service, alice, root, vmm):
    """max_waits_per_user is for waits."""
    vms = [vmm(alice, f"web{n}") for n in range(5)]
    for client in (alice, root):
        assert sorted(p[0] for p in client.do("ListProcesses")) == sorted(vm.pid for vm in vms)


def test_more_sockets_than_are_looked_at(service, alice, bob, root, vmm):
    """The list ends in an entry that says so, for their owner and for root, and not for others."""
    his = vmm(bob, "his")
    stale(alice, 4200)
    cut = (0, alice.uid, str(alice.directory), {"cut": True})
    assert cut in alice.do("ListProcesses")
    listed = root.do("ListProcesses")
    assert cut in listed and his.pid in [p[0] for p in listed]
    assert [p[0] for p in bob.do("ListProcesses")] == [his.pid]


def test_fcprocctl_says_that_it_is_cut(service, alice, vmm, ctl, fcprocctl):
    stale(alice, 4200)
    result = ctl("alice", "list", code=1)
    assert f"not every VM of uid {alice.uid} is listed" in result.err
    assert ctl("alice", "list", "--json=short", code=1).out.strip() == "[]"


def test_more_entries_than_are_read(service, alice, root):
    directory = Path(ensure_directory(alice.account))
    for n in range(16500):
        os.close(os.open(directory / f"file{n}", os.O_CREAT))
    assert (0, alice.uid, str(directory), {"cut": True}) in root.do("ListProcesses")


def limit_descriptors(service, soft):
    """Under the service's own uid: for another's, CAP_SYS_RESOURCE would be needed (prlimit(2))."""
    account = os.environ.get("FCPROC_AS") or "root"
    subprocess.run(
        ["setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups", "--",
         "prlimit", f"--pid={service.pid}", f"--nofile={soft}:"], check=True)  # fmt: skip


@pytest.mark.parametrize("spare", [1, 6, 10])  # too few to read the directories, to look at the sockets
def test_no_descriptors_left(service, alice, root, vmm, spare):
    """An error, neither "none" nor a part."""
    vms = [vmm(alice, f"web{n}") for n in range(6)]
    limits = Path(f"/proc/{service.pid}/limits").read_text()
    soft = re.search(r"Max open files +(\d+)", limits)[1]
    limit_descriptors(service, service.descriptors() + spare)
    try:
        for client in (alice, root):
            with refused("KernelRefused", says="open files"):
                client.do("ListProcesses")
    finally:
        limit_descriptors(service, soft)
    assert sorted(p[0] for p in alice.do("ListProcesses")) == sorted(vm.pid for vm in vms)


def test_another_runtime_directory(service, alice, root, vmm):
    """What a reload has left is not listed any more."""
    vm = vmm(alice, "web")
    assert [p[0] for p in root.do("ListProcesses")] == [vm.pid]
    other = Path("/run/fcproc-test/elsewhere")
    service.write_config(runtime_dir=other)
    service.reload()
    eventually(lambda: root.get("RuntimeDir") == str(other), 5, "the reload")
    try:
        assert root.do("ListProcesses") == [] and alice.do("ListProcesses") == []
    finally:
        shutil.rmtree(other, ignore_errors=True)


def test_silent_listeners_delay_nobody(service, alice, bob, root, vmm, silent):
    """A thousand of alice's: root's list and bob's come within a second or so, with bob's VM in them (hostile case 48)."""
    directory = ensure_directory(alice.account)
    for part in range(5):
        silent(alice, *[f"{directory}/silent{part}-{n}.sock" for n in range(200)])
    his = vmm(bob, "his")
    begun = time.monotonic()
    listed = root.do("ListProcesses")
    took = time.monotonic() - begun
    print(f"root's list took {took:.2f} s")
    assert took < 3 and his.pid in [p[0] for p in listed]
    assert [p[0] for p in bob.do("ListProcesses")] == [his.pid]
    # each process once, as what is known of it
    assert sorted({tuple(p[3].items()) for p in listed if p[1] == alice.uid and "pidfd-inode" not in p[3]}) in ([], [(("state", "unknown"),)])
    assert len([p for p in listed if p[1] == alice.uid]) == 5
    assert all(p[3].get("state") == "unknown" for p in listed if p[1] == alice.uid)


def test_a_vmm_that_is_stopped_when_first_asked(service, alice, root, vmm):
    """It is listed as what is known of it, and as itself when it goes on (hostile case 50)."""
    import signal

    vm = vmm(alice, "web")
    vm.signal(signal.SIGSTOP)
    for client in (alice, root):
        assert [(p[0], p[2], p[3].get("state")) for p in client.do("ListProcesses")] == [(vm.pid, vm.sock, "unknown")]
    alice.do("Subscribe")
    vm.signal(signal.SIGCONT)
    alice.wait_signal("ProcessAppeared", vm.pid, within=30)
    assert [(p[0], p[3].get("state")) for p in alice.do("ListProcesses")] == [(vm.pid, None)]


def test_a_vm_that_starts_while_a_list_is_under_way(service, alice, root, vmm, silent):
    """Who calls afterwards is not served by a look that had begun before."""
    directory = ensure_directory(alice.account)
    silent(alice, *[f"{directory}/silent{n}.sock" for n in range(200)])
    first = root.begin("ListProcesses")
    pause(0.05)
    vm = vmm(alice, "web")
    assert vm.pid in [p[0] for p in root.do("ListProcesses")]
    first.result()
