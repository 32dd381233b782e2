# SPDX-License-Identifier: MIT
"""What the integration tests talk with: accounts, the event loop, and clients of the service of any uid.

Everything here runs inside tests/sandbox, as root, in one process. A Client is a connection to the
private bus that was opened with another effective uid: the bus vouches for that uid, so one test can
be many users. Nothing waits by sleeping: what can be an event is one (run_until); only what the kernel
does not announce is looked at again and again, with a deadline (eventually).
"""

import contextlib
import os
import pwd
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from gi.repository import Gio, GLib

NAME = "org.banger.FcProc"
PATH = "/org/banger/FcProc"
ACTIONS = "org.banger.fcproc."
FOREVER = 2**64 - 1
SECOND = 1_000_000  # the interface counts microseconds

CHECKOUT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("BUILD_DIR", CHECKOUT / "build")).resolve()
FCPROCD = Path(os.environ.get("FCPROCD", BUILD / "service" / "fcprocd")).resolve()
STANDIN = BUILD / "tests" / "vmm" / "firecracker"
GUEST = BUILD / "tests" / "vmm" / "guest"
XML = CHECKOUT / "dbus" / "org.banger.FcProc.xml"
WORK = Path("/run/fcproc-test")  # on the sandbox's own tmpfs
RUNTIME = Path("/run/banger")

STANDARD_ERRORS = {
    "AccessDenied",
    "InteractiveAuthorizationRequired",
    "InvalidArgs",
    "LimitsExceeded",
    "NoMemory",
    "NoReply",
    "PropertyReadOnly",
    "ServiceUnknown",
    "UnknownInterface",
    "UnknownMethod",
    "UnknownObject",
    "UnknownProperty",
}

OPTION_TYPES = {
    "auto-delete": "b",
    "force": "b",
    "guest-mac": "s",
    "isolated": "b",
    "mtu": "u",
    "timeout-usec": "t",
    "tun-gid": "u",
    "tun-uid": "u",
}


# --- accounts and the event loop ---


class Account:
    """A user by name or by bare uid; with a bare uid that nobody has, the gid is the same number."""

    def __init__(self, who):
        try:
            entry = pwd.getpwnam(who) if isinstance(who, str) else pwd.getpwuid(who)
            self.name, self.uid, self.gid = entry.pw_name, entry.pw_uid, entry.pw_gid
            self.groups = os.getgrouplist(self.name, self.gid)
        except (KeyError, OverflowError):
            if isinstance(who, str):
                raise
            self.name, self.uid, self.gid, self.groups = None, who, who, [who]


@contextlib.contextmanager
def acting_as(who):
    """The whole process acts with the user's effective uid, gid and groups."""
    account = Account(who)
    os.setgroups(account.groups)
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield account
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups([0])


def run_until(condition, within=20.0, what="what was waited for", tick=None):
    """Dispatches events until condition() holds; with tick, looks at least every tick seconds."""
    context = GLib.MainContext.default()
    expired = []
    sources = [GLib.timeout_add(int(within * 1000), lambda: expired.append(True) or GLib.SOURCE_CONTINUE)]
    if tick:
        sources.append(GLib.timeout_add(max(1, int(tick * 1000)), lambda: GLib.SOURCE_CONTINUE))
    try:
        while not condition():
            if expired:
                raise TimeoutError(f"{what}: not within {within} s")
            context.iteration(True)
    finally:
        for source in sources:
            GLib.source_remove(source)


def eventually(condition, within=10.0, what="what was waited for"):
    """For what no event announces."""
    run_until(condition, within, what, tick=0.005)


def pause(seconds):
    """Lets time pass, where that is what the test is about, and dispatches what comes meanwhile."""
    end = time.monotonic() + seconds
    run_until(lambda: time.monotonic() >= end, seconds + 5, tick=0.01)


# --- clients ---


class BusError(Exception):
    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name, self.message = name, message


def error_name(short):
    prefix = "org.freedesktop.DBus.Error." if short in STANDARD_ERRORS else "org.banger.FcProc.Error."
    return prefix + short


@contextlib.contextmanager
def refused(*names, says=None):
    """The block must fail with one of these errors (short names), its text holding `says`."""
    caught = type("Caught", (), {"message": None, "name": None})()
    try:
        yield caught
    except BusError as error:
        caught.name, caught.message = error.name, error.message
        assert error.name in [error_name(name) for name in names], f"another error: {error}"
        assert error.message.strip(), f"{error.name} has no text"
        for part in [says] if isinstance(says, str) else says or []:
            assert part in error.message, f"'{part}' is not in: {error.message}"
        return
    raise AssertionError(f"no error; expected {' or '.join(names)}")


class Pending:
    """A call in flight."""

    def __init__(self, client, what):
        self.client, self.what = client, what
        self.done, self.at, self.value, self.error, self.fds = False, None, None, None, []

    def finish(self, connection, result):
        self.at, self.done = time.monotonic(), True
        try:
            value, fds = connection.call_with_unix_fd_list_finish(result)
            self.fds = fds.steal_fds() if fds else []
            self.value = value.unpack()
        except GLib.Error as error:
            name = Gio.DBusError.get_remote_error(error)
            if name:
                assert not name.startswith("System.Error."), f"{self.what}: {error.message}"
            self.error = BusError(name or f"(local) {error.domain}", error.message.removeprefix(f"GDBus.Error:{name}: "))

    def result(self, within=40.0):
        """The out arguments: None, the only one, or a tuple of them; a descriptor is a number to close."""
        run_until(lambda: self.done, within, f"the reply to {self.what}")
        if self.error:
            raise self.error
        value = tuple(self.fds[v] if self.what == "OpenProcess" and i == 1 else v for i, v in enumerate(self.value))
        return value[0] if len(value) == 1 else value or None


class Signal:
    def __init__(self, name, sender, args):
        self.name, self.sender, self.args, self.at = name, sender, args, time.monotonic()

    def __repr__(self):
        return f"{self.name}{self.args}"


_signatures = {}


def signature_of(method):
    """The method's in signature, as dbus/org.banger.FcProc.xml has it."""
    if not _signatures:
        for node in ElementTree.parse(XML).iterfind(f".//interface[@name='{NAME}']/method"):
            args = [a.get("type") for a in node.iterfind("arg") if a.get("direction", "in") == "in"]
            _signatures[node.get("name")] = args
    return _signatures[method]


def typed_options(options):
    def typed(key, value):
        return value if isinstance(value, GLib.Variant) else GLib.Variant(OPTION_TYPES[key], value)

    options = {key.replace("_", "-"): value for key, value in options.items()}
    return {key: typed(key, value) for key, value in options.items()}


class Client:
    """A connection to the bus of a uid's own; collects the service's signals."""

    def __init__(self, bus, who):
        self.account = Account(who)
        self.uid = self.account.uid
        self.connection = bus.connect(who)
        self.name = self.connection.get_unique_name()
        self.signals = []
        # No match rule: what comes here was sent to this connection by name.
        self.connection.signal_subscribe(
            None, NAME, None, None, None, Gio.DBusSignalFlags.NO_MATCH_RULE,
            lambda c, sender, path, interface, name, args: self.signals.append(Signal(name, sender, args.unpack())),
        )  # fmt: skip

    def close(self):
        if not self.connection.is_closed():
            self.connection.close_sync(None)

    @property
    def directory(self):
        return RUNTIME / str(self.uid)

    def sock(self, name):
        return str(self.directory / f"{name}.sock")

    def start(self, method, signature="()", args=(), interactive=False, timeout=-1, *,
              destination=NAME, path=PATH, interface=NAME):  # fmt: skip
        """Sends a call; timeout in seconds, -1 is the bus library's 25 s, None is none at all."""
        flags = Gio.DBusCallFlags.NO_AUTO_START
        if interactive:
            flags |= Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION
        milliseconds = 2**31 - 1 if timeout is None else -1 if timeout == -1 else int(timeout * 1000)
        pending = Pending(self, method)
        self.connection.call_with_unix_fd_list(
            destination, path, interface, method, GLib.Variant(signature, args), None, flags, milliseconds,
            None, None, pending.finish)  # fmt: skip
        return pending

    def call(self, method, signature="()", args=(), interactive=False, timeout=-1, **where):
        return self.start(method, signature, args, interactive, timeout, **where).result()

    def begin(self, method, *args, interactive=False, **options):
        """As start, with the signature from the XML and the options as keywords."""
        types = signature_of(method)
        if types and types[-1] == "a{sv}":
            args = (*args, typed_options(options))
        else:
            assert not options, f"{method} takes no options"
        return self.start(method, f"({''.join(types)})", args, interactive, None)

    def do(self, method, *args, interactive=False, **options):
        return self.begin(method, *args, interactive=interactive, **options).result()

    def ping(self):
        """When this returns, all that the service had sent before has arrived."""
        self.call("Ping", interface="org.freedesktop.DBus.Peer")

    def get(self, name):
        return self.call("Get", "(ss)", (NAME, name), interface="org.freedesktop.DBus.Properties")

    def properties(self):
        return self.call("GetAll", "(s)", (NAME,), interface="org.freedesktop.DBus.Properties")

    def introspect(self):
        return self.call("Introspect", interface="org.freedesktop.DBus.Introspectable")

    def seen(self, name, *start):
        """The signals of that name so far whose first arguments are these."""
        return [s for s in self.signals if s.name == name and s.args[: len(start)] == start]

    def wait_signal(self, name, *start, within=10.0):
        run_until(lambda: self.seen(name, *start), within, f"the signal {name}{start}, having seen {self.signals}")
        return self.seen(name, *start)[0]


def sanitized():
    """A build with sanitizers: its memory and its speed mean nothing."""
    return FCPROCD.exists() and b"__asan_init" in FCPROCD.read_bytes()
