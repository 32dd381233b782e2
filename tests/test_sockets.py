# SPDX-License-Identifier: MIT
"""API sockets and their directories: who gets them, which paths are refused, and how they are waited for."""

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest

from conftest import ensure_directory
from fcproc import RUNTIME, SECOND, WORK, Account, acting_as, eventually, pause, refused
from machines import assert_unchanged, snapshot

# The methods that take a path, and the arguments that follow it.
PATH_METHODS = {
    "EnsureSocketAccess": ("web",),
    "FindPID": (),
    "OpenProcess": (),
    "SendCtrlAltDel": (),
    "Shutdown": (0,),
}
every_path_method = pytest.mark.parametrize("method", PATH_METHODS)
NO_ACCESS = ("AccessDenied", "InteractiveAuthorizationRequired")


def use(client, method, path, **options):
    """One look: methods that wait for a socket must not turn a refusal into a time-out."""
    return client.do(method, path, *PATH_METHODS[method], **options)


def owner_and_mode(path):
    status = os.lstat(path)
    return status.st_uid, stat.S_IMODE(status.st_mode)


# --- EnsureSocketDir ---


def test_socket_dir(service, alice, bob):
    path = alice.do("EnsureSocketDir")
    assert path == f"/run/banger/{alice.uid}" and owner_and_mode(path) == (alice.uid, 0o700)
    assert owner_and_mode(RUNTIME)[1] == 0o711 and owner_and_mode(RUNTIME)[0] in (0, Account("fcproc").uid)
    before = snapshot()
    assert alice.do("EnsureSocketDir") == path
    assert_unchanged(before)
    assert bob.do("EnsureSocketDir") == f"/run/banger/{bob.uid}"


def test_socket_dir_is_put_right(service, alice):
    path = alice.do("EnsureSocketDir")
    os.chmod(path, 0o755)
    alice.do("EnsureSocketDir")
    assert owner_and_mode(path) == (alice.uid, 0o700)


@pytest.mark.parametrize("kind", ["file", "symlink", "dangling"])
def test_socket_dir_taken_by_something_else(service, alice, bob, kind):
    bob.do("EnsureSocketDir")
    if kind == "file":
        alice.directory.write_text("")
    else:
        alice.directory.symlink_to(bob.directory if kind == "symlink" else "/etc/nowhere")
    before = snapshot()
    with refused("KernelRefused", "NotOurs", "AccessDenied", says=str(alice.directory)):
        alice.do("EnsureSocketDir")
    assert_unchanged(before)


def test_a_full_runtime_directory(service, alice):
    """Hostile case 18."""
    RUNTIME.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1,mode=711", "full", RUNTIME], check=True)
    try:
        with refused("KernelRefused", "LimitsExceeded", says="/run/banger"):
            alice.do("EnsureSocketDir")
        assert os.listdir(RUNTIME) == []
    finally:
        subprocess.run(["umount", RUNTIME], check=True)


@pytest.mark.config(runtime_dir="/run/fcproc-test/elsewhere")
def test_another_runtime_directory(service, alice):
    assert alice.do("EnsureSocketDir") == f"/run/fcproc-test/elsewhere/{alice.uid}"
    assert alice.get("RuntimeDir") == "/run/fcproc-test/elsewhere"


# --- EnsureSocketAccess ---


def test_socket_access(service, alice, vmm):
    vm = vmm(alice, "web")
    assert owner_and_mode(vm.sock)[1] != 0o600
    alice.do("EnsureSocketAccess", vm.sock, "web")
    assert owner_and_mode(vm.sock) == (alice.uid, 0o600)


def test_socket_access_by_root_is_for_the_directorys_uid(root, alice, vmm):
    vm = vmm(alice, "web")
    root.do("EnsureSocketAccess", vm.sock, "web")
    assert owner_and_mode(vm.sock) == (alice.uid, 0o600)


@pytest.fixture
def elsewhere():
    """Another of socket_roots, with a directory of alice's."""
    top = WORK / "roots"
    (top / "alice").mkdir(parents=True, exist_ok=True)
    account = Account("alice")
    os.chown(top / "alice", account.uid, account.gid)
    yield top / "alice"
    subprocess.run(["rm", "-rf", top], check=True)


@pytest.mark.config(socket_roots="/run/fcproc-test/roots")
def test_socket_access_elsewhere_is_for_the_caller(elsewhere, service, alice, root, vmm):
    vm = vmm(alice, str(elsewhere / "web.sock"))
    alice.do("EnsureSocketAccess", vm.sock, "web")
    assert owner_and_mode(vm.sock) == (alice.uid, 0o600)
    assert alice.do("FindPID", vm.sock) == vm.pid
    with refused("NoSuchProcess", says="none.sock"):
        alice.do("FindPID", str(elsewhere / "none.sock"))
    root.do("EnsureSocketAccess", vm.sock, "web")
    assert owner_and_mode(vm.sock) == (0, 0o600)


@pytest.mark.config(socket_roots="/run/fcproc-test/roots")
def test_a_name_that_is_missing_elsewhere(elsewhere, service, alice, bob):
    """It is the owner's of the nearest directory that exists."""
    with refused("NoSuchProcess"):
        alice.do("FindPID", str(elsewhere / "not" / "there" / "web.sock"))
    with refused(*NO_ACCESS):
        bob.do("FindPID", str(elsewhere / "not" / "there" / "web.sock"))


def test_the_socket_appears_in_time(service, alice, vmm):
    """Hostile case 15."""
    ensure_directory(alice.account)
    pending = alice.begin("EnsureSocketAccess", alice.sock("web"), "web")
    pause(0.5)
    assert not pending.done
    vm = vmm(alice, "web")
    pending.result()
    assert owner_and_mode(vm.sock) == (alice.uid, 0o600)


def test_the_socket_appears_with_its_directory(service, alice, vmm):
    """Nothing is there yet, not even the directory to watch."""
    alice.do("EnsureSocketDir")
    pending = alice.begin("EnsureSocketAccess", str(alice.directory / "sub" / "web.sock"), "web")
    pause(0.2)
    os.mkdir(alice.directory / "sub")
    os.chown(alice.directory / "sub", alice.uid, alice.account.gid)
    vm = vmm(alice, str(alice.directory / "sub" / "web.sock"))
    pending.result()
    assert owner_and_mode(vm.sock) == (alice.uid, 0o600)


def test_bound_but_not_yet_listening(service, alice, vmm):
    """The file exists before the listener does."""
    vm = vmm(alice, "web", "--standin-listen-after=600", listening=False)
    eventually(lambda: os.path.exists(vm.sock), 5)
    pending = alice.begin("EnsureSocketAccess", vm.sock, "web")
    pause(0.1)
    assert not pending.done
    vm.wait_listening()
    pending.result()
    assert owner_and_mode(vm.sock) == (alice.uid, 0o600)


def test_the_socket_appears_too_late(service, alice):
    """Hostile case 15."""
    ensure_directory(alice.account)
    begun = time.monotonic()
    with refused("SocketNotReady", says=["web-7", alice.sock("late")]):
        alice.do("EnsureSocketAccess", alice.sock("late"), "web-7", timeout_usec=SECOND // 2)
    assert time.monotonic() - begun >= 0.5
    with refused("SocketNotReady", says=["web-7", alice.sock("late")]):
        alice.do("EnsureSocketAccess", alice.sock("late"), "web-7", timeout_usec=0)
    with refused("SocketNotReady", says=alice.sock("late")):
        alice.do("SendCtrlAltDel", alice.sock("late"), timeout_usec=0)


@pytest.mark.config(socket_timeout_sec=1)
def test_the_configured_time(service, alice):
    ensure_directory(alice.account)
    begun = time.monotonic()
    with refused("SocketNotReady"):
        alice.do("EnsureSocketAccess", alice.sock("late"), "web")
    assert time.monotonic() - begun >= 1


def test_nothing_listens(service, alice, vmm):
    """A stale socket is not ready, and nobody is behind it."""
    vm = vmm(alice, "web")
    vm.end()
    assert os.path.exists(vm.sock)
    with refused("SocketNotReady", says=["web", vm.sock]):
        alice.do("EnsureSocketAccess", vm.sock, "web", timeout_usec=SECOND // 5)
    with refused("NoSuchProcess", says=vm.sock):
        alice.do("FindPID", vm.sock)
    with refused("NoSuchProcess", says=vm.sock):
        alice.do("OpenProcess", vm.sock)
    assert alice.do("ResolvePID", vm.sock, 0) == 0


@pytest.mark.parametrize("label", ["a\nb", "\x1b[31m", "<3>\x07", "tab\t", "web\x7f"], ids=ascii)
def test_bad_labels(service, alice, vmm, label):
    """Hostile case 16."""
    vm = vmm(alice, "web")
    before = snapshot()
    lines = len(service.log().splitlines())
    with refused("InvalidArgs", says="label"):
        alice.do("EnsureSocketAccess", vm.sock, label)
    assert_unchanged(before)
    assert len(service.log().splitlines()) - lines <= 1


def test_a_label_that_looks_like_a_log_level(service, alice):
    """Hostile case 16: `<3>` would become the line's priority."""
    ensure_directory(alice.account)
    with refused("InvalidArgs", says="label"):
        alice.do("EnsureSocketAccess", alice.sock("web"), "<3>web", timeout_usec=0)


# --- paths that are refused ---


@every_path_method
@pytest.mark.parametrize("path", ["/run/docker.sock", "/etc/shadow", "/run/fcproc-test/bus", "/run/bangers/x", "/run/banger-2/x.sock"])
def test_outside_the_roots(service, alice, root, method, path):
    """Hostile case 9."""
    before = snapshot()
    for client in (alice, root):
        with refused("AccessDenied"):
            use(client, method, path)
    assert_unchanged(before)


@every_path_method
@pytest.mark.parametrize("path", ["", "web.sock", "./web.sock", "{dir}/../x", "{dir}/./web.sock", "{dir}//web.sock", "{dir}/..", "{dir}/.",
                                  "{dir}/a\nb", "{dir}/\x1b[0m", "{dir}/\x7f", "/run/banger/../etc/shadow", "{dir}/" + "x/" * 2100 + "s",
                                  "{dir}/" + "x" * 1_048_576], ids=lambda p: ascii(p[:24]))  # fmt: skip
def test_no_path(service, alice, method, path):
    """Hostile case 10."""
    alice.do("EnsureSocketDir")
    before = snapshot()
    with refused("InvalidArgs"):
        use(alice, method, path.format(dir=alice.directory))
    assert_unchanged(before)


def test_a_long_path_that_is_fine(service, alice, vmm):
    """Hostile case 10: 150 bytes, which no sockaddr can hold."""
    vm = vmm(alice, "web")
    deep = alice.directory / ("d" * 60)
    deep.mkdir()
    os.chown(deep, alice.uid, alice.account.gid)
    path = str(deep / "s").ljust(150, "s")
    os.rename(vm.sock, path)
    assert len(path) == 150
    assert alice.do("FindPID", path) == vm.pid
    alice.do("EnsureSocketAccess", path, "web")
    assert owner_and_mode(path) == (alice.uid, 0o600)
    assert alice.do("Shutdown", path, 5 * SECOND) == ("ctrl-alt-del", "exited", 0)


def foreign_socket(kind, alice, bob, vmm):
    """A socket in alice's own directory that is not all hers."""
    mine = alice.sock("trap")
    ensure_directory(alice.account)
    ensure_directory(bob.account)
    if kind == "a root VMM":
        vmm("root", mine)
    elif kind == "a root VMM, the inode hers":
        vmm("root", mine)
        os.chown(mine, alice.uid, alice.account.gid)
    elif kind == "her VMM, the inode root's":
        vmm(alice, "trap")
        os.chown(mine, 0, 0)
    elif kind == "bob's VMM, the inode hers":
        os.rename(vmm(bob, "trap").sock, mine)
        os.chown(mine, alice.uid, alice.account.gid)
    elif kind == "bob's VMM":
        os.rename(vmm(bob, "trap").sock, mine)
    elif kind == "in bob's directory":
        return vmm(bob, "trap").sock
    elif kind == "her VMM in bob's directory":
        path = bob.sock("trap")
        os.rename(vmm(alice, "trap").sock, path)
        return path
    elif kind == "a symlink":
        os.symlink(vmm(bob, "trap").sock, mine)
    elif kind == "a symlink to her own":
        os.symlink(vmm(alice, "own").sock, mine)
    elif kind == "a relative symlink":
        os.symlink(f"../{bob.uid}/trap.sock", mine)
        vmm(bob, "trap")
    elif kind == "a relative symlink to her own":
        vmm(alice, "own")
        os.symlink("own.sock", mine)
    elif kind == "a symlink in the middle to her own":
        (alice.directory / "sub").mkdir()
        os.chown(alice.directory / "sub", alice.uid, alice.account.gid)
        os.symlink("sub", alice.directory / "middle")
        vmm(alice, str(alice.directory / "sub" / "own.sock"))
        return str(alice.directory / "middle" / "own.sock")
    elif kind == "a symlink in the middle":
        vmm(bob, "trap")
        os.symlink(bob.directory, alice.directory / "middle")
        return str(alice.directory / "middle" / "trap.sock")
    elif kind == "a hard link":
        os.link(vmm(bob, "trap").sock, mine)
    elif kind == "a hard link to her own":
        os.link(vmm(alice, "own").sock, mine)
    return mine


@every_path_method
@pytest.mark.parametrize("kind", ["a root VMM", "a root VMM, the inode hers", "her VMM, the inode root's", "bob's VMM, the inode hers",
                                  "bob's VMM", "in bob's directory", "her VMM in bob's directory", "a symlink", "a symlink to her own",
                                  "a relative symlink", "a relative symlink to her own", "a symlink in the middle to her own",
                                  "a symlink in the middle", "a hard link", "a hard link to her own"])  # fmt: skip
def test_a_socket_that_is_not_all_hers(service, alice, bob, vmm, method, kind):
    """Hostile cases 11 and 13."""
    path = foreign_socket(kind, alice, bob, vmm)
    before = snapshot()
    with refused(*NO_ACCESS):
        use(alice, method, path)
    assert_unchanged(before)


@every_path_method
@pytest.mark.parametrize("kind", ["fifo", "file", "device", "directory"])
def test_no_socket(service, alice, method, kind):
    """Hostile case 12: at once, not after a wait."""
    alice.do("EnsureSocketDir")
    path = alice.sock("x")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "file":
        open(path, "w").close()
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    else:
        os.mkdir(path)
    os.chown(path, alice.uid, alice.account.gid)
    before = snapshot()
    begun = time.monotonic()
    with refused("AccessDenied"):
        use(alice, method, path)
    assert time.monotonic() - begun < 2  # not the 5 s of a wait
    assert_unchanged(before)


@pytest.fixture(params=["bind", "fuse"])
def mounted(request, alice):
    """A mount inside alice's own directory; the FUSE one has a server that answers nothing."""
    point = alice.directory / "mnt"
    alice.do("EnsureSocketDir")
    point.mkdir()
    os.chown(point, alice.uid, alice.account.gid)
    source = WORK / "bound"
    fd = -1
    if request.param == "bind":
        source.mkdir(exist_ok=True)
        os.chown(source, alice.uid, alice.account.gid)
        subprocess.run(["mount", "--bind", source, point], check=True)
    else:
        if not os.path.exists("/dev/fuse"):
            pytest.skip("there is no /dev/fuse")
        fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fd},rootmode=40000,user_id={alice.uid},group_id={alice.account.gid},allow_other"
        subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "silent", point], check=True, pass_fds=[fd])
    yield point, request.param
    if fd >= 0:
        os.close(fd)  # first, or umount itself would wait for an answer
    subprocess.run(["umount", "-l", point], check=True)


@every_path_method
def test_a_mount_inside_ones_own_directory(service, alice, mounted, vmm, method):
    """Hostile case 14: refused within 100 ms."""
    point, kind = mounted
    path = str(point / "web.sock")
    if kind == "bind":
        vmm(alice, path)
    begun = time.monotonic()
    with refused("AccessDenied"):
        use(alice, method, path)
    assert time.monotonic() - begun < 0.1
    if kind == "bind":
        os.unlink(path)


def test_foreign_and_missing_answer_alike(service, alice, bob, vmm):
    """Hostile case 22."""
    vm = vmm(bob, "web")
    for method in PATH_METHODS:
        texts = set()
        for name in (vm.sock, bob.sock("none"), "/run/banger/54321/web.sock"):
            with refused(*NO_ACCESS) as error:
                use(alice, method, name)
            texts.add((error.name, error.message.replace(name, "PATH").replace(os.path.dirname(name), "DIR")))
        assert len({name for name, _ in texts}) == 1
        assert len({text.replace("54321", str(bob.uid)) for _, text in texts}) == 1, texts


def test_a_hundred_waits(service, alice, bob, vmm):
    """Hostile case 17: limited from max_calls_per_user on; bob is answered within 50 ms."""
    ensure_directory(alice.account)
    vm = vmm(bob, "web")
    bob.do("FindPID", vm.sock)
    pending = [alice.begin("EnsureSocketAccess", alice.sock(f"late-{n}"), "late", timeout_usec=2 * SECOND) for n in range(100)]
    eventually(lambda: sum(call.done for call in pending) >= 36, 5, "the refusals")
    begun = time.monotonic()
    assert bob.do("FindPID", vm.sock) == vm.pid
    took = time.monotonic() - begun
    done = [call for call in pending if call.done]
    assert len(done) == 36 and all(call.error.name.endswith("LimitsExceeded") for call in done)
    assert took < 0.05, f"bob waited {took * 1000:.0f} ms"
    for call in pending:
        with refused("LimitsExceeded", "SocketNotReady"):
            call.result()
    alice.do("EnsureSocketDir")


def test_a_directory_that_is_made_anew(service, bob, vmm):
    """Who waits for a socket in a directory that is removed and made again is told of it as of any other (found by trying:
    with a descriptor of the directory held, the kernel does not tell that it was removed)."""
    directory = Path(ensure_directory(bob.account)) / "vms"
    with acting_as("bob"):
        directory.mkdir()
    call = bob.begin("EnsureSocketAccess", f"{directory}/web.sock", "web", timeout_usec=60 * SECOND)
    pause(0.1)
    directory.rmdir()
    with acting_as("bob"):
        directory.mkdir()
    vm = vmm(bob, f"{directory}/web.sock")
    call.result(10)
    vm.end()
