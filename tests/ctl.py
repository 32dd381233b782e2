# SPDX-License-Identifier: MIT
"""What the tests of fcprocctl share; the fixtures that run it are in conftest.py."""

import contextlib
import fcntl
import json
import os
import pty
import select
import shutil
import signal
import termios
import time
from pathlib import Path

import pytest

from fcproc import BUILD, WORK, acting_as, eventually

BUILT = Path(os.environ.get("FCPROCCTL", BUILD / "client" / "fcprocctl")).resolve()
FCPROCCTL = WORK / "bin" / "fcprocctl"  # the copy that every account can run
DONE, FAILED, USAGE, DENIED, NO_SERVICE, NO_OBJECT, TIMED_OUT = 0, 1, 2, 4, 7, 10, 12
NOWHERE = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
VERBS = [
    "create-tap", "delete-tap", "doctor", "ensure-bridge", "ensure-socket-access", "ensure-socket-dir", "find-pid",
    "get-usage", "kill", "list", "monitor", "open-process", "prune", "remove-bridge", "resolve-binary", "resolve-pid",
    "run", "send-ctrl-alt-del", "shutdown", "status", "taps", "wait-for-exit", "watch-exit"]  # fmt: skip


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


class Terminal:
    """fcprocctl on a terminal of its own, 96 columns wide."""

    def __init__(self, who, environment, *arguments):
        with acting_as(who) as account:
            pass
        self.seen = ""
        self.status = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, b"\x18\x00\x60\x00\x00\x00\x00\x00")
                os.setgroups(account.groups)
                os.setgid(account.gid)
                os.setuid(account.uid)
                os.execve(FCPROCCTL, ["fcprocctl", *arguments], environment)
            finally:
                os._exit(126)

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

    def wait(self):
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def end(self, within=30):
        """Reads to the end; the exit code."""
        deadline = time.monotonic() + within
        while self.read() and time.monotonic() < deadline:
            pass
        return self.wait()

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()
        os.close(self.fd)


def armed(user, n):
    """So many waits are under way."""
    eventually(lambda: user.do("GetUsage")["waits"] == n)
    user.do("GetUsage")  # polkit has been asked for all that came before


def stale(vm):
    """Its socket, left behind long enough ago."""
    vm.end()
    return vm.sock


# --- a machine that is not as it is ---


def pretending(files):
    """A command to put before another (begin's within=): it sees these files {path: content} instead of what is there.

    They are mounted in a namespace of its own; where there is no such file, a directory above it is
    one in which there can be. A content of None makes a directory.
    """
    store = WORK / "pretended"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    lines, directories, replaced = [], [], set()
    for number, (path, content) in enumerate(files.items()):
        fake, path = store / str(number), Path(path)
        if content is not None:
            fake.write_text(content)
        if not replaced & set(path.parents):
            if path.is_file():
                lines.append(f"mount --bind {fake} {path}")
                continue
            above = next(parent for parent in path.parents if parent.is_dir())
            replaced.add(above)
            lines.append(
                f"mount -t tmpfs -o mode=755 pretended {above}" if above.is_relative_to("/sys") else
                f"mkdir -p {fake}-tree && mount -t tmpfs pretended {fake}-tree && cd {fake}-tree && mkdir upper work && "
                f"mount -t overlay -o lowerdir={above},upperdir=upper,workdir=work overlay {above} && cd /")  # fmt: skip
        if content is None:
            directories.append(str(path))
        else:
            lines.append(f"mkdir -p {path.parent} && cp {fake} {path}")
    script = " && ".join([*lines, " ".join(["mkdir -p .", *directories]), 'exec "$@"'])
    return ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"]


@contextlib.contextmanager
def device(name, mode=None, group="root"):
    """/dev/NAME is not there; with a mode, it is a file of root's and of that group."""
    path, aside = Path("/dev") / name, Path("/dev") / f"{name}.aside"
    there = path.exists()
    if there and os.path.ismount(path):
        pytest.skip(f"{path} is a mount here (mknod was refused), and cannot be taken away")
    if there:
        path.rename(aside)
    try:
        if mode is not None:
            path.touch()
            shutil.chown(path, "root", group)
            path.chmod(mode)
        yield
    finally:
        path.unlink(missing_ok=True)
        if there:
            aside.rename(path)
