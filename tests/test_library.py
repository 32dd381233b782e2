# SPDX-License-Identifier: MIT
"""libfcproc: the installed tree, its error domain, and the examples, run as an ordinary user."""

import os
import queue
import re
import shutil
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import machines
from daemons import deny, grant
from fcproc import BUILD, CHECKOUT, FCPROCD, SECOND, WORK, XML, acting_as, eventually, sanitized

STAGED = WORK / "installed"
ERRORS = "org.banger.FcProc.Error."
EXAMPLES = ("vm", "watch")
USUAL = grant("alice", "create-tap", "manage-bridge")


def run(*command, **options):
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}"
    return result.stdout


def upper(name):
    """NotAVmm: NOT_A_VMM"""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()


def lower(name):
    """FindPID: find_pid"""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class Installed:
    """What `meson install` installs, below a directory."""

    def __init__(self):
        assert (BUILD / "client" / "lib" / "fcproc" / "libfcproc.so").exists(), "the library was not built: -Dlibfcproc=enabled says why"
        run("meson", "install", "-C", str(BUILD), "--no-rebuild", "--destdir", str(STAGED))
        (self.pc,) = STAGED.rglob("fcproc.pc")
        self.libdir = self.pc.parent.parent
        (self.header,) = STAGED.rglob("fcproc-error.h")

    def pkg_config(self, *arguments, package="fcproc", sysroot=STAGED):
        environment = dict(os.environ, PKG_CONFIG_PATH=str(self.pc.parent))
        if sysroot:
            environment["PKG_CONFIG_SYSROOT_DIR"] = str(sysroot)
        return run("pkg-config", *arguments, package, env=environment).split()

    def compile(self, source, program):
        """As its users would. GLib is not below the directory: where it is, it says without it."""
        compiler = ["clang", "-fsanitize=address,undefined"] if sanitized() else ["cc"]
        flags = self.pkg_config("--cflags", "--libs") + self.pkg_config("--cflags", "--libs", sysroot=None, package="gio-unix-2.0")
        run(*compiler, "-std=gnu17", "-O1", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", str(source),
            "-o", str(program), *flags)  # fmt: skip
        program.chmod(0o755)

    def codes(self):
        """The names of the header's codes, by number."""
        (body,) = re.findall(r"typedef enum \{(.*?)\} FcprocError;", self.header.read_text(), re.DOTALL)
        return re.findall(r"^ *FCPROC_ERROR_([A-Z_]+),", body, re.MULTILINE)


@pytest.fixture(scope="session")
def installed(programs):
    installed = Installed()
    installed.compile(CHECKOUT / "tests" / "library-client.c", programs / "library-client")
    for name in EXAMPLES:
        shutil.copy(BUILD / "client" / "examples" / name, programs / name)
        (programs / name).chmod(0o755)
    return installed


@pytest.fixture
def begin(bus, start, installed):
    """begin(user, program, arguments…): a program that uses the installed library, under way."""

    def spawn(who, program, *arguments, **options):
        with acting_as(who) as account:
            pass
        environment = dict(bus.environment, LD_LIBRARY_PATH=str(installed.libdir), **options.pop("env", {}))
        return start(
            str(WORK / "bin" / program), *arguments, env=environment, text=True, user=account.uid, group=account.gid,
            extra_groups=account.groups, start_new_session=True, cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)  # fmt: skip

    return spawn


@pytest.fixture
def ended(begin):
    """ended(user, program, arguments…): its output; code= is what it must exit with."""

    def spawn(*command, code=0, **options):
        process = begin(*command, **options)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == code and "Sanitizer" not in output, output
        return output

    return spawn


class Lines:
    """A program's lines as they come."""

    def __init__(self, process):
        self.process, self.seen, self.queue = process, [], queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.queue.put(line.rstrip("\n"))
        self.queue.put(None)

    def next(self, within=20):
        """The next line, None at the end."""
        try:
            line = self.queue.get(timeout=within)
        except queue.Empty:
            raise AssertionError(f"nothing more after {self.seen}") from None
        self.seen += [line] if line is not None else []
        return line

    def until(self, pattern):
        """The next line that the pattern matches."""
        while (line := self.next()) is not None:
            if match := re.fullmatch(pattern, line):
                return match
        raise AssertionError(f"no line like '{pattern}' in {self.seen}")

    def end(self, number):
        """Sends the signal; the rest of the lines, and how it ended."""
        self.process.send_signal(number)
        rest = []
        while (line := self.next(60)) is not None:
            rest.append(line)
        return rest, self.process.wait(10)


# --- what is installed ---


def test_pkg_config(installed):
    assert set(installed.pkg_config("--print-requires")) == {"gio-2.0", "gio-unix-2.0"}
    assert {"-lfcproc", "-lgio-2.0", "-lglib-2.0"} <= set(installed.pkg_config("--libs"))
    (interfaces,) = installed.pkg_config("--variable=interfacesdir")
    assert (Path(interfaces) / XML.name).read_bytes() == XML.read_bytes()
    assert interfaces.endswith("/share/dbus-1/interfaces")


def test_the_library(installed):
    dynamic = run("readelf", "--dynamic", "--wide", str(installed.libdir / "libfcproc.so"))
    assert re.search(r"SONAME.*\[libfcproc\.so\.0\]", dynamic) and "NODELETE" in dynamic
    assert "RUNPATH" not in dynamic and "RPATH" not in dynamic
    assert (installed.libdir / "libfcproc.so.0").resolve().name.startswith("libfcproc.so.0.")


def test_exported_symbols(installed):
    """Nothing but fcproc_…, and all that the interface has."""
    symbols = run("nm", "--dynamic", "--defined-only", str(installed.libdir / "libfcproc.so"))
    names = {line.split()[2].split("@")[0] for line in symbols.splitlines() if line.split()[1] != "A"}
    assert [name for name in names if not name.startswith("fcproc_")] == []
    wanted = {"fcproc_error_quark", "fcproc_service_proxy_new_for_bus", "fcproc_service_skeleton_new"}
    for node in ElementTree.parse(XML).find("interface"):
        name = lower(node.get("name")) if node.get("name") else None
        if node.tag == "method":
            wanted |= {f"fcproc_service_call_{name}{suffix}" for suffix in ("", "_finish", "_sync")}
        elif node.tag == "property":
            wanted |= {f"fcproc_service_get_{name}"}
        elif node.tag == "signal":
            wanted |= {f"fcproc_service_emit_{name}"}
    assert len(wanted) > 60 and wanted - names == set()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_installed_example_compiles(installed, name, tmp_path):
    (source,) = STAGED.rglob(f"share/doc/fcproc/examples/{name}.c")
    assert source.read_bytes() == (CHECKOUT / "client" / "examples" / f"{name}.c").read_bytes()
    installed.compile(source, tmp_path / name)
    assert not list(STAGED.rglob(f"bin/{name}"))


# --- the error domain ---


def test_every_error_of_the_service_is_a_code(installed, ended):
    """Taken from the daemon's binary: the library has each of its names, and no other, as the code of that name."""
    names = {m.decode() for m in re.findall(rb"org\.banger\.FcProc\.Error\.(\w+)\0", FCPROCD.read_bytes())}
    assert len(names) >= 15
    found = {}
    for line in ended("alice", "library-client", "errors", *[ERRORS + name for name in sorted(names)]).splitlines():
        domain, code, name, _ = line.split()
        assert domain == "fcproc-error-quark", f"{line}: the service has a name that the library lacks"
        found[installed.codes()[int(code)]] = name
    assert found == {upper(name): f"{ERRORS}{name}:" for name in names}
    assert set(installed.codes()) == set(found), "the library has a code for what the service never says"


def test_errors_of_calls(service, vmm, root, alice, installed, ended):
    """What a call fails with is in the domain, and nobody had to ask for that."""

    def code(who, *arguments):
        domain, number, *text = ended(who, "library-client", *arguments, code=1).split(" ", 3)
        return installed.codes()[int(number)] if domain == "fcproc-error-quark" else domain, " ".join(text)

    web = vmm(alice, "web")
    assert code("alice", "wait", web.sock, "0")[0] == "WAIT_FOR_EXIT_TIMEOUT"
    assert code("alice", "wait", web.sock, str(SECOND // 10))[0] == "WAIT_FOR_EXIT_TIMEOUT"
    assert code("alice", "find-pid", alice.sock("nobody"))[0] == "NO_SUCH_PROCESS"
    assert code("alice", "create-tap", "tap0")[0] == "NO_SUCH_BRIDGE"
    root.do("EnsureBridge")
    assert code("alice", "delete-tap", "tap0")[0] == "NO_SUCH_TAP"
    machines.add_link("tap1")
    assert code("alice", "delete-tap", "tap1")[0] == "NOT_OURS"
    # The standard ones are GLib's, as the header says.
    assert code("alice", "find-pid", "/nowhere/web.sock")[0] == "g-dbus-error-quark"
    domain, text = code("carol", "create-tap", "tap0")
    assert domain == "g-io-error-quark" and "InteractiveAuthorizationRequired" in text


def test_a_wait_that_ends(service, vmm, alice, begin):
    web = vmm(alice, "web")
    waiting = begin("alice", "library-client", "wait", web.sock)
    eventually(lambda: alice.do("GetUsage")["waits"] == 1)
    web.end()
    assert waiting.communicate(timeout=20)[0].split()[0] in ("signaled", "unknown") and waiting.returncode == 0


# --- watch ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch(bridge, vmm, alice, bob, begin, number):
    watch = Lines(begin("alice", "watch"))
    watch.until(r"watching, version \d+\.\d+\.\d+")
    bob.do("CreateTap", "tap9")
    web = vmm(alice, "web")
    watch.until(rf"process {web.pid} of uid {alice.uid} listens on {web.sock}")
    alice.do("CreateTap", "tap0")
    watch.until(rf"tap tap0 of uid {alice.uid} was made")
    alice.do("DeleteTap", "tap0")
    watch.until(rf"tap tap0 of uid {alice.uid} is gone")
    web.end()
    watch.until(rf"process {web.pid} of uid {alice.uid} is gone since [\d:]+: (signaled, 9|unknown, -1)")
    assert watch.end(number) == ([], 0)
    assert not [line for line in watch.seen if "tap9" in line]


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
def test_watch_survives_a_restart(service, vmm, begin, alice, client, root, crash):
    watch = Lines(begin("alice", "watch"))
    watch.until("watching, .*")
    web = vmm(alice, "web")
    watch.until(rf"process {web.pid} .*")
    if crash:
        service.expected_to_die = True
        service.kill()
    else:
        service.stop()
    watch.until("the service is not there")
    service.start()
    watch.until("watching, .*")
    watch.until(rf"process {web.pid} .* listens on {web.sock}")
    client("root").do("EnsureBridge")
    client("alice").do("CreateTap", "tap0")
    watch.until("tap tap0 .* was made")
    assert watch.end(signal.SIGTERM) == ([], 0)


def test_watch_before_the_service(make_service, begin):
    watch = Lines(begin("alice", "watch"))
    watch.until("the service is not there")
    make_service().start()
    watch.until("watching, .*")
    assert watch.end(signal.SIGTERM) == ([], 0)


def test_watch_fails(service, polkit, ended):
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    assert ended("alice", "watch", env=nowhere, code=1).startswith("watch: ")
    polkit.rules(deny("alice", "wait-for-exit"))
    assert ended("alice", "watch", code=1).startswith("watch: ")


# --- vm ---


@pytest.fixture
def config(tmp_path_factory, programs):
    """A configuration with the interface tap0."""
    return machines.vm_config(programs / "with-tap0.json", programs / "guest", "tap0")


def script(name, text):
    """A program in place of Firecracker."""
    path = WORK / "bin" / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def firecrackers():
    return [pid for pid, comm in machines.processes().items() if comm == "firecracker"]


@pytest.fixture
def untouched(bridge, alice):
    """The machine is as before when the test ends."""
    alice.do("EnsureSocketDir")
    alice.do("CreateTap", "tap0")  # a bridge keeps what it learns of its first port's abilities
    alice.do("DeleteTap", "tap0")
    before = machines.snapshot()
    yield
    machines.assert_unchanged(before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_vm(untouched, begin, alice, config, number):
    vm = Lines(begin("alice", "vm", "web", "tap0", config))
    pid = int(vm.until(r"web runs as process (\d+)")[1])
    assert alice.do("FindPID", alice.sock("web")) == pid
    (tap,) = alice.do("ListTaps")
    assert tap[0] == "tap0" and tap[3]["carrier"]
    assert vm.end(number) == (["web: ctrl-alt-del", "web: exited, status 0"], 0)


def test_vm_that_ends_by_itself(untouched, begin, alice, config, programs):
    program = script("short", f'exec {programs}/firecracker "$@" --standin-exit-after=300:148')
    vm = Lines(begin("alice", "vm", "web", "tap0", config, program))
    vm.until("web: already-gone")
    vm.until("web: exited, status 148")
    assert vm.process.wait(10) == 148


def test_vm_that_is_killed(untouched, begin, alice, config):
    vm = Lines(begin("alice", "vm", "web", "tap0", config))
    os.kill(int(vm.until(r"web runs as process (\d+)")[1]), signal.SIGKILL)
    vm.until("web: killed by signal 9")
    assert vm.process.wait(10) == 1


def test_vm_does_not_outlive_the_program(bridge, begin, alice, config):
    vm = Lines(begin("alice", "vm", "web", "tap0", config))
    vm.until("web runs .*")
    assert vm.end(signal.SIGKILL) == ([], -signal.SIGKILL)
    eventually(lambda: not firecrackers() and "tap0" not in machines.links())
    # What is left is the socket, and the next one takes it away.
    assert os.path.exists(alice.sock("web"))
    again = Lines(begin("alice", "vm", "web", "tap0", config))
    again.until("web runs .*")
    assert again.end(signal.SIGINT)[1] == 0


def test_vm_that_runs_already(untouched, begin, ended, alice, config):
    first = Lines(begin("alice", "vm", "web", "tap0", config))
    pid = first.until(r"web runs as process (\d+)")[1]
    assert ended("alice", "vm", "web", "tap0", config, code=1) == f"vm: web runs already, as process {pid}\n"
    assert alice.do("FindPID", alice.sock("web")) == int(pid) and alice.do("ListTaps")[0][3]["carrier"]
    assert first.end(signal.SIGINT) == (["web: ctrl-alt-del", "web: exited, status 0"], 0)


@pytest.fixture
def fails(ended, config):
    """fails(…): vm's output where it cannot start the VM; for people, so without names of errors."""

    def spawn(*arguments, tap="tap0", config=config):
        output = ended("alice", "vm", "web", tap, config, *arguments, code=1)
        assert "tap0" not in machines.links()
        (why,) = re.findall("^vm: .*", output, re.MULTILINE)  # the rest is Firecracker's
        assert "GDBus" not in why and "Error" not in why and firecrackers() == []
        return output

    return spawn


@pytest.mark.config(socket_timeout_sec=1)
def test_vm_cleans_up(untouched, service, fails, programs):
    (programs / "bad.json").write_text("{}")
    why, *how = fails(script("deaf", "exec sleep 1000")).splitlines()
    assert "did not appear in time" in why and how == ["web: already-gone", "web: killed by signal 9"]
    assert service.log().count("DeleteTap tap0 ") == 2  # the fixture's, and vm's own: it is not left to auto-delete
    assert "web: exited, status 1\n" in fails(config=str(programs / "bad.json"))
    assert "/nonexistent" in fails("/nonexistent")
    assert "eth0" in fails(tap="eth0")


@pytest.mark.parametrize(
    "action, method",
    [("inspect", "ResolveBinary"), ("ensure-socket-dir", "EnsureSocketDir"), ("inspect", "FindPID"),
     ("create-tap", "CreateTap"), ("ensure-socket-access", "EnsureSocketAccess"), ("inspect", "OpenProcess")])  # fmt: skip
def test_vm_that_may_not(untouched, polkit, fails, action, method):
    """Each step is refused once; nothing is left of those before."""
    polkit.rules(deny("alice", action, method=method), USUAL)
    assert f"{method} " in fails()


def test_vm_that_may_not_shut_down(untouched, polkit, begin, config):
    polkit.rules(deny("alice", "shutdown"), USUAL)
    vm = Lines(begin("alice", "vm", "web", "tap0", config))
    vm.until("web runs .*")
    (why, how), status = vm.end(signal.SIGINT)
    assert why.startswith("vm: Shutdown ") and how == "web: killed by signal 9" and status == 1


@pytest.mark.config(firecracker_bin="/nonexistent/firecracker")
def test_vm_without_firecracker(untouched, fails):
    assert "/nonexistent/firecracker" in fails()


def test_vm_usage(ended):
    assert ended("alice", "vm", "web", code=2).startswith("Usage: ")
