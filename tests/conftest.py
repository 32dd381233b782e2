# SPDX-License-Identifier: MIT
"""Fixtures: one bus and one polkitd for all, a fresh fcprocd, clients and a clean machine for each test."""

import ctypes
import os
import shutil
import signal
import subprocess

import pytest

if not os.environ.get("FCPROC_SANDBOX"):
    pytest.exit("these tests change links, accounts and processes: run them as `sudo tests/sandbox pytest-3 tests`", 2)

import fcproc
import machines
from ctl import BUILT, DONE, FCPROCCTL, Result, Terminal
from daemons import Bus, Polkit, Service, grant
from fcproc import RUNTIME, WORK, Account, Client, acting_as

if not fcproc.FCPROCD.exists():
    pytest.exit(f"{fcproc.FCPROCD} is not built; BUILD_DIR or FCPROCD say where it is", 2)

# A job in the background is started with these ignored, and what it starts inherits that: a test that sends
# one would wait for ever.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

# What most tests take for granted: alice and bob may do what would ask for an administrator, but not touch
# what is another's; carol has only what the actions give by themselves; dave is in the group banger.
USUAL_RULES = [grant(user, "create-tap", "manage-bridge") for user in ("alice", "bob")]


libc = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2


def pytest_configure(config):
    config.addinivalue_line("markers", "config(**keys): fcproc.conf of this test's service")
    config.addinivalue_line("markers", "real: runs on a real Firecracker (FIRECRACKER, JAILER, /dev/kvm)")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the service's log."""
    outcome = yield
    report = outcome.get_result()
    item.failed = report.failed or getattr(item, "failed", False)
    if report.failed:
        for service in getattr(item, "services", []):
            report.sections.append((f"fcprocd {service.directory.name}", service.log()[-20_000:]))


@pytest.fixture(scope="session")
def programs():
    """The stand-in, where every account can run it."""
    (WORK / "bin").mkdir(parents=True, exist_ok=True)
    if fcproc.STANDIN.exists():
        shutil.copy(fcproc.STANDIN, WORK / "bin" / "firecracker")
        (WORK / "bin" / "firecracker").chmod(0o755)
    guest = WORK / "bin" / "guest"
    if fcproc.GUEST.exists():
        shutil.copy(fcproc.GUEST, guest)
    else:
        guest.write_bytes(b"")  # the stand-in only looks whether it is there
    machines.vm_config(WORK / "bin" / "vm.json", guest)
    return WORK / "bin"


@pytest.fixture(scope="session")
def bus():
    bus = Bus()
    yield bus
    bus.stop()


@pytest.fixture(scope="session")
def polkitd(bus):
    polkit = Polkit(bus)
    yield polkit
    polkit.stop()


@pytest.fixture
def polkit(polkitd):
    """polkitd with the usual rules; a test may set others."""
    polkitd.ensure_running()
    polkitd.rules(*USUAL_RULES)
    return polkitd


@pytest.fixture
def make_service(request, bus, polkit, programs):
    """A function that starts another fcprocd; all are stopped, and must have ended well."""
    request.node.services = started = []

    def make(**config):
        environment = config.pop("environment", None)
        service = Service(config.pop("bus", bus), config, environment)
        started.append(service)
        return service

    yield make
    problems = []
    for service in started:
        try:
            service.stop()
        except AssertionError as error:
            problems.append(f"{error}\n{service.log()[-20_000:]}")
        service.watcher.close_sync(None) if not service.watcher.is_closed() else None
    shutil.rmtree(RUNTIME, ignore_errors=True)
    machines.remove_links()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def service(request, make_service):
    """A running fcprocd; its configuration is the test's @pytest.mark.config(key=value)."""
    config = {}
    for mark in request.node.iter_markers("config"):
        config = {**mark.kwargs, **config}
    service = make_service(**config).start()
    yield service
    if not service.expected_to_die:
        status = service.process.poll()
        assert status is None, f"fcprocd ended during the test, with {status}:\n{service.log()[-20_000:]}"


@pytest.fixture
def isolation_rule():
    """Loads the rule that is shipped, for another bridge if that is named; gone afterwards."""
    nft = shutil.which("nft", path="/usr/sbin:/usr/bin")
    if not nft:
        pytest.skip("there is no nft (package nftables)")

    def load(bridge="br-fc"):
        rule = (fcproc.CHECKOUT / "nftables" / "fcproc-isolation.nft").read_text()
        loaded = subprocess.run([nft, "-f", "-"], input=rule.replace('"br-fc"', f'"{bridge}"'), capture_output=True, text=True)
        if "not supported" in loaded.stderr:
            pytest.skip(f"this kernel has no nftables: {loaded.stderr}")
        assert loaded.returncode == 0, loaded.stderr

    yield load
    subprocess.run([nft, "delete", "table", "inet", "fcproc_isolation"], capture_output=True, check=False)


@pytest.fixture
def client(bus):
    """A function that connects as a user (or a bare uid)."""
    clients = []

    def connect(who):
        clients.append(Client(bus, who))
        return clients[-1]

    yield connect
    for each in clients:
        each.close()


@pytest.fixture
def root(service, client):
    return client("root")


@pytest.fixture
def alice(service, client):
    return client("alice")


@pytest.fixture
def bob(service, client):
    return client("bob")


@pytest.fixture
def carol(service, client):
    return client("carol")


@pytest.fixture
def dave(service, client):
    return client("dave")


@pytest.fixture
def bridge(root):
    """The configured bridge, made by the service."""
    return root.do("EnsureBridge")[0]


@pytest.fixture
def vmm(service):
    """vmm(owner, name or path, switches…): a stand-in VMM of the client's user, listening in his own directory."""
    if not fcproc.STANDIN.exists():
        pytest.fail(f"{fcproc.STANDIN} is not built")
    started = []

    def spawn(owner, name="web", *switches, **options):
        account = owner.account if isinstance(owner, Client) else Account(owner)
        path = name if str(name).startswith("/") else os.path.join(ensure_directory(account), f"{name}.sock")
        started.append(machines.spawn_vmm(account.name or account.uid, path, *switches, **options))
        return started[-1]

    yield spawn
    for vm in started:
        vm.end()


def ensure_directory(account):
    """The user's socket directory as EnsureSocketDir makes it, where the test has not called that."""
    RUNTIME.mkdir(mode=0o711, exist_ok=True)
    RUNTIME.chmod(0o711)
    directory = RUNTIME / str(account.uid)
    if not directory.exists():
        directory.mkdir(mode=0o700)
        directory.chmod(0o700)
        os.chown(directory, account.uid, account.gid)
    return str(directory)


def parked(client, pid, path, timeout):
    """A WaitForExit that is under way: polkit has been asked, the wait counts."""
    before = client.do("GetUsage")["waits"]
    wait = client.begin("WaitForExit", pid, path, timeout)
    fcproc.eventually(lambda: wait.done or client.do("GetUsage")["waits"] > before, 5, "the wait")
    client.do("GetUsage")  # polkit has been asked for all that came before
    assert not wait.done, wait.error or wait.value
    return wait


@pytest.fixture
def start():
    """Starts any program; it is ended, by its pid, with the test."""
    started = []

    def begin(*command, **options):
        started.append(subprocess.Popen(command, **options))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def hold():
    """hold(user, tap): the guest's end of a tap."""
    held = []

    def attach(who, name):
        held.append(machines.Holder(who, name))
        return held[-1]

    yield attach
    for holder in held:
        holder.close()


@pytest.fixture
def fuse():
    """fuse(path): a file system that never answers is mounted there."""
    mounted = []

    def mount(path, mode):
        fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fd},rootmode={mode:o},user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"hang", str(path).encode(), b"fuse", 0, options) < 0:
            os.close(fd)
            pytest.skip(f"no FUSE here: {os.strerror(ctypes.get_errno())}")
        mounted.append((path, fd))

    yield mount
    for path, fd in mounted:
        libc.umount2(str(path).encode(), MNT_DETACH)
        os.close(fd)


# --- fcprocctl ---


@pytest.fixture(scope="session")
def fcprocctl(programs):
    """fcprocctl, where every account can run it."""
    FCPROCCTL.unlink(missing_ok=True)
    shutil.copy(BUILT, FCPROCCTL)
    FCPROCCTL.chmod(0o755)
    return FCPROCCTL


@pytest.fixture
def environment(bus):
    """Of a user who types fcprocctl."""
    return dict(bus.environment, TERM="xterm", LC_ALL="C.UTF-8", LANGUAGE="")


@pytest.fixture
def begin(environment, start, fcprocctl):
    """begin(user, arguments…): fcprocctl under way; within= is a command in front of it, run as root."""

    def spawn(who, *arguments, within=(), **options):
        with acting_as(who) as account:
            pass
        command = [str(fcprocctl), *arguments]
        env = {**environment, **options.pop("env", {})}
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        if within:
            groups = ",".join(str(group) for group in account.groups)
            command = [*within, "setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", f"--groups={groups}", "--", *command]
        else:
            options = {"user": account.uid, "group": account.gid, "extra_groups": account.groups, **options}
        return start(*command, env=env, text=True, start_new_session=True, cwd="/", **options)

    return spawn


@pytest.fixture
def ctl(begin):
    """ctl(user, arguments…): fcprocctl to its end; code= is what it must end with, None: anything."""

    def run(who, *arguments, code=DONE, **options):
        process = begin(who, *arguments, **options)
        out, err = process.communicate(timeout=60)
        assert code in (None, process.returncode), f"{arguments}: {process.returncode}, not {code}\n{out}\n{err}"
        json = any(str(argument).startswith(("-j", "--json")) for argument in arguments)
        for raw in ("Sanitizer", "runtime error") if json else ("Sanitizer", "runtime error", "org.freedesktop", "org.banger.FcProc."):
            assert raw not in err, err
        return Result(process, out, err)

    return run


@pytest.fixture
def terminal(environment, fcprocctl):
    """terminal(user, arguments…, variables=…): fcprocctl on a terminal."""
    shown = []

    def spawn(who, *arguments, **variables):
        shown.append(Terminal(who, {**environment, **variables}, *arguments))
        return shown[-1]

    yield spawn
    for each in shown:
        each.close()


@pytest.fixture
def knows(root):
    """What a cause and status become on this kernel."""
    exact = "exit-status" in root.get("Features")
    return lambda cause, status: (cause, status) if exact else ("unknown", -1)
