# SPDX-License-Identifier: MIT
"""Hostile case 37: memory runs out at each place where the service's own code asks for some.

fcprocd-failing-malloc is the service with allocations that fail when fail-malloc.c is told to. Each method
runs once with its first allocation failing, once with its second, and so on until none is left to fail:
it is answered with success or NoMemory, the service lives on, and nothing half-made stays."""

import mmap
import os
import struct

import pytest

import daemons
from fcproc import BUILD, FOREVER, SECOND, WORK, BusError, Client, error_name, eventually, refused, run_until
from machines import fdb, links, taps

PROGRAM = BUILD / "tests" / "fcprocd-failing-malloc"
ALIAS = "org.banger.FcProc uid="
MOST = 150  # allocations of one call; more would be a loop


class Memory:
    """The page that is shared with fail-malloc.c."""

    def __init__(self, path):
        path.write_bytes(bytes(mmap.PAGESIZE))
        path.chmod(0o666)
        with open(path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.sites = set()

    def fail(self, at=0, every=0):
        self.page[0:8] = bytes(8)
        self.page[8:24] = bytes(16)
        self.page[0:8] = struct.pack("=II", at, every)

    def failed(self):
        """How many have failed since then; none will from now on."""
        self.page[0:8] = bytes(8)
        _, failed, site = struct.unpack("=IIQ", self.page[8:24])
        if failed:
            self.sites.add(site)
            print(f"failed at {PROGRAM.name}+{site:#x}")
        return failed


@pytest.fixture
def memory():
    WORK.mkdir(exist_ok=True)
    memory = Memory(WORK / "fail-control")
    yield memory
    print(f"{len(memory.sites)} places failed")


@pytest.fixture
def launch(monkeypatch, make_service, memory):
    """A function that makes a service with failing memory, not started yet."""
    if not PROGRAM.exists():
        pytest.skip(f"{PROGRAM} is not built")
    monkeypatch.setattr(daemons, "FCPROCD", PROGRAM)
    return lambda **config: make_service(environment={"FCPROC_FAIL_CONTROL": str(WORK / "fail-control")}, **config)


@pytest.fixture
def service(launch, memory):
    service = launch().start()
    yield service
    memory.failed()  # no more failures: a build with coverage crashes in gcov when it exits without memory
    assert service.process.poll() is None, f"fcprocd ended, with {service.process.poll()}:\n{service.log()[-5000:]}"


def answered(pending, *others, within=15.0):
    """The call was answered: its value, or None for NoMemory (or one of the other errors)."""
    run_until(lambda: pending.done, within, f"the reply to {pending.what}")
    if pending.error:
        assert pending.error.name in [error_name(name) for name in ("NoMemory", *others)], pending.error
        return None
    for fd in pending.fds:
        os.close(fd)
    return pending


def assert_whole(owner, bridge=True):
    """Every tap that there is has its owner's mark and is up on the bridge; nothing under a reserved name."""

    def settled():
        return all(not name.startswith("_fc") for name in links())

    eventually(settled, 10, "the reserved names' end")
    for name, link in taps().items():
        assert link.get("ifalias", "").startswith(f"{ALIAS}{owner.uid}"), (name, link)
        assert link.get("master") == "br-fc" and "UP" in link["flags"], (name, link)


def exhaust(service, memory, client, run, check=lambda: None, who="alice"):
    """run(a new client) with the n-th allocation failing, for n = 1, 2, … until it does not get that far."""
    first = client(who)
    run(first)  # what is loaded once, is
    first.close()
    check()
    for n in range(1, MOST):
        caller = client(who)
        memory.fail(at=n)
        try:
            run(caller)
        finally:
            failed = memory.failed()
        assert service.process.poll() is None, f"fcprocd died at allocation {n}:\n{service.log()[-5000:]}"
        check()
        caller.close()
        if not failed:
            assert n > 1
            return
    raise AssertionError(f"more than {MOST} allocations")


def test_create_tap(service, memory, client, root):
    root.do("EnsureBridge")
    keeper = client("alice")

    def run(alice):
        call = answered(alice.begin("CreateTap", "tap0", guest_mac="02:fc:00:00:00:01", mtu=1400))
        if call:
            assert links()["tap0"]["ifindex"] == call.value[0]

    def check():
        assert_whole(keeper)
        assert {t[0] for t in keeper.do("ListTaps")} == set(taps())
        for tap in taps():
            keeper.do("DeleteTap", tap)
        assert not taps() and keeper.do("GetUsage")["taps"] == 0

    exhaust(service, memory, client, run, check)


def test_replace_tap(service, memory, client, root):
    root.do("EnsureBridge")
    keeper = client("alice")

    def check():
        keeper.do("CreateTap", "tap0")  # or a run would have nothing to replace
        assert_whole(keeper)
        assert {t[0] for t in keeper.do("ListTaps")} == set(taps()) == {"tap0"}

    check()
    exhaust(service, memory, client, lambda alice: answered(alice.begin("CreateTap", "tap0")), check)


def test_auto_delete(service, memory, client, root):
    """The creator goes: his tap, too, though memory is short just then."""
    root.do("EnsureBridge")
    keeper = client("alice")

    def run(alice):
        answered(alice.begin("CreateTap", "tap0", auto_delete=True))
        alice.close()
        try:
            eventually(lambda: "tap0" not in links(), 1.5, "the tap's end")
        except TimeoutError:
            memory.failed()
            answered(keeper.begin("DeleteTap", "tap0"))

    exhaust(service, memory, client, run, lambda: assert_whole(keeper))
    keeper.do("CreateTap", "tap0")
    keeper.do("DeleteTap", "tap0")


def test_a_taken_address(service, memory, client, root, hold):
    """A neighbour is protected, if a second later, though memory is short just then."""
    root.do("EnsureBridge")
    keeper, mac = client("bob"), "02:fc:00:00:00:01"
    keeper.do("CreateTap", "tap1", guest_mac=mac)
    holders = []

    def check():
        if holders:
            holders.pop().close()
        root.do("CreateTap", "tap0")
        holders.append(hold("root", "tap0"))

    def run(_):
        holders[0].set_mac(mac)
        eventually(lambda: links()["tap0"].get("master") != "br-fc", 3, "tap0's leaving the bridge")
        eventually(lambda: [e for e in fdb("tap1") if e["mac"] == mac and e["state"] == "static"], 3, "the neighbour's entry")

    check()
    exhaust(service, memory, client, run, check)


def test_delete_tap(service, memory, client, root):
    root.do("EnsureBridge")
    keeper = client("alice")

    def run(alice):
        if answered(alice.begin("DeleteTap", "tap0")):
            assert "tap0" not in links()

    def check():
        assert_whole(keeper)
        if "tap0" not in links():
            keeper.do("CreateTap", "tap0")

    check()
    exhaust(service, memory, client, run, check)
    keeper.do("DeleteTap", "tap0")
    assert not taps()


def test_ensure_bridge(service, memory, client):
    def run(root):
        answered(root.begin("EnsureBridge"))

    def check():
        keeper.do("EnsureBridge")
        assert links()["br-fc"]["ifalias"] == "org.banger.FcProc bridge"
        keeper.do("RemoveBridge")
        assert set(links()) == {"lo"}

    keeper = client("root")
    exhaust(service, memory, client, run, check, "root")


def test_remove_bridge(service, memory, client):
    keeper = client("root")

    def run(root):
        if answered(root.begin("RemoveBridge")):
            assert "br-fc" not in links()

    keeper.do("EnsureBridge")
    exhaust(service, memory, client, run, lambda: keeper.do("EnsureBridge"), "root")


def test_ensure_socket_dir(service, memory, client):
    def run(alice):
        call = answered(alice.begin("EnsureSocketDir"))
        if call:
            assert alice.directory.stat().st_uid == alice.uid
        if alice.directory.exists():
            assert alice.directory.stat().st_mode & 0o7777 == 0o700
            alice.directory.rmdir()

    exhaust(service, memory, client, run)


# Those that look, or change nothing that would have to be made again.
LOOKS = {
    "ResolveBinary": lambda vm: (),
    "FindPID": lambda vm: (vm.sock,),
    "ResolvePID": lambda vm: (vm.sock, vm.pid),
    "OpenProcess": lambda vm: (vm.sock,),
    "ListProcesses": lambda vm: (),
    "ListTaps": lambda vm: (),
    "GetUsage": lambda vm: (),
    "EnsureSocketAccess": lambda vm: (vm.sock, "web"),
    "WatchExit": lambda vm: (vm.pid, vm.sock, FOREVER),
    "CancelWait": lambda vm: (vm.pid, vm.sock),
    "Subscribe": lambda vm: (),
    "Unsubscribe": lambda vm: (),
}


@pytest.mark.parametrize("method", LOOKS)
def test_looks(service, memory, client, vmm, method):
    keeper = client("alice")
    vm = vmm(keeper, "web")
    others = ["NoSuchProcess"] if method == "ResolvePID" else []

    def run(alice):
        answered(alice.begin(method, *LOOKS[method](vm)), *others)

    def check():
        assert vm.alive()
        assert keeper.do("FindPID", vm.sock) == vm.pid

    exhaust(service, memory, client, run, check)
    assert keeper.do("ListProcesses")[0][:3] == (vm.pid, keeper.uid, vm.sock)
    eventually(lambda: keeper.do("GetUsage")["waits"] == 0, 5, "the end of the waits of those who went")


def test_wait_for_exit(service, memory, client, vmm):
    """Memory fails when the wait is armed, and when the process ends: it is answered, and never lied to."""
    number = 0

    def run(alice):
        nonlocal number
        number += 1
        vm = vmm(alice, f"vm{number}")
        call = alice.begin("WaitForExit", vm.pid, vm.sock, FOREVER)
        try:
            run_until(lambda: call.done or client_usage(alice) > 0, 5, tick=0.02)
        except (TimeoutError, BusError):
            pass
        assert not call.done or call.error, "said to have ended while it lived"
        vm.end()
        done = answered(call)
        if done:
            assert done.value[0] in ("signaled", "unknown")

    exhaust(service, memory, client, run)


def client_usage(client):
    try:
        return client.do("GetUsage")["waits"]
    except BusError as error:
        assert error.name == error_name("NoMemory"), error
        return 0


def test_an_event(service, memory, client, vmm):
    """A watched process ends, and a tap and a VMM appear, while memory is short: later events arrive."""
    keeper = client("alice")
    keeper.do("Subscribe")
    number = 0

    def run(alice):
        nonlocal number
        number += 1
        vm = vmm(alice, f"vm{number}")
        vm.end()
        answered(alice.begin("GetUsage"))

    exhaust(service, memory, client, run)
    vm = vmm(keeper, "last")
    keeper.wait_signal("ProcessAppeared", vm.pid)
    vm.end()
    keeper.wait_signal("ProcessExited", vm.pid)


def test_ctrl_alt_del(service, memory, client, vmm):
    keeper = client("alice")
    number = 0
    vms = []

    def run(alice):
        nonlocal number
        if not vms or not vms[-1].alive():
            number += 1
            vms.append(vmm(keeper, f"vm{number}"))
        answered(alice.begin("SendCtrlAltDel", vms[-1].sock), "VmmUnreachable", "SocketNotReady")

    exhaust(service, memory, client, run)


def test_kill(service, memory, client, vmm):
    keeper = client("alice")
    vms = []

    def run(alice):
        if not vms or not vms[-1].alive():
            vms.append(vmm(keeper, f"vm{len(vms)}"))
        call = answered(alice.begin("Kill", vms[-1].pid, vms[-1].sock))
        if call:
            eventually(lambda: not vms[-1].alive(), 5, "the VMM's end")

    exhaust(service, memory, client, run)


def test_shutdown(service, memory, client, vmm):
    keeper = client("alice")
    vms = []

    def run(alice):
        if not vms or not vms[-1].alive():
            vms.append(vmm(keeper, f"vm{len(vms)}"))
        # AccessDenied: the last one's Ctrl-Alt-Del arrives, and it ends while polkit is asked
        call = answered(alice.begin("Shutdown", vms[-1].sock, 5 * SECOND), "AccessDenied")
        if call:
            eventually(lambda: not vms[-1].alive(), 5, "the VMM's end")

    exhaust(service, memory, client, run)


def test_start(launch, memory, client, bus):
    """At each allocation of the start: it starts, or ends with a status and says why; never without its eyes."""
    started = 0
    for n in range(1, 400):
        service = launch()
        memory.fail(at=n)
        service.launch()
        running = daemons.wait_for_name(service.watcher, daemons.NAME, service.process)
        if running:
            started += 1
            failed = memory.failed()
            jailed = Client(bus, "jailed")
            with refused("AccessDenied", says="container"):  # /etc/subuid was read
                jailed.do("GetUsage")
            jailed.close()
        else:
            failed = memory.failed()
            assert service.process.wait(10) > 0 and service.log().strip(), f"at allocation {n}: {service.log()}"
            service.expected_to_die = True
        service.stop()
        service.watcher.close_sync(None)
        if not failed:
            break
    assert started > 1


def test_reload(service, memory, client):
    """A reload that runs out of memory leaves what was in force."""
    alice = client("alice")
    for n in range(1, 100):
        service.write_config(max_taps_per_user=64 + n)
        before = alice.do("GetUsage")["taps-max"]
        memory.fail(at=n)
        service.reload()
        eventually(lambda: service.log().count("eload") + service.log().count("onfiguration") >= n, 5, "the reload")
        alice.ping()
        failed = memory.failed()
        assert service.process.poll() is None
        assert alice.do("GetUsage")["taps-max"] in (before, 64 + n)
        if not failed:
            assert alice.do("GetUsage")["taps-max"] == 64 + n
            return


def test_first_jobs(service, memory, client, root):
    """The workers open their sockets with their first jobs; what fails then is tried again."""
    root.do("EnsureBridge")
    for n in range(1, MOST):
        alice = client("alice")
        alice.do("CreateTap", "tap0")
        memory.fail(at=n)
        answered(alice.begin("DeleteTap", "tap0"))
        failed = memory.failed()
        if "tap0" in taps():
            alice.do("DeleteTap", "tap0")
        alice.close()
        if not failed:
            assert n > 1
            return
        service.restart()
    raise AssertionError(f"more than {MOST} allocations")


@pytest.mark.parametrize("every", [2, 3, 7, 50])
def test_never_enough(service, memory, client, root, vmm, every):
    """Every n-th allocation fails, with many calls at once; afterwards all is well."""
    root.do("EnsureBridge")
    alice = client("alice")
    vm = vmm(alice, "web")
    memory.fail(every=every)
    calls = []
    for n in range(10):
        calls.append(alice.begin("CreateTap", f"tap{n}"))
        calls.append(alice.begin("FindPID", vm.sock))
        calls.append(alice.begin("ListTaps"))
        calls.append(alice.begin("ListProcesses"))
    for call in calls:
        answered(call)
    for call in [alice.begin("DeleteTap", f"tap{n}") for n in range(10)]:
        answered(call, "NoSuchTap")
    assert memory.failed()
    assert service.process.poll() is None
    assert_whole(alice)
    keeper = client("alice")
    assert {t[0] for t in keeper.do("ListTaps")} == set(taps())
    for tap in taps():
        keeper.do("DeleteTap", tap)
    assert keeper.do("FindPID", vm.sock) == vm.pid and vm.alive()
