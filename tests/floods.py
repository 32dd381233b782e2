# SPDX-License-Identifier: MIT
"""Programs with which one user tries to keep the service busy. Each is a script that a test runs as that user:
`python3 -c PRELUDE + FLOODS[name] ADDRESS SECONDS DIRECTORY TAP`; it says "ready" and goes on for that long."""

PRELUDE = """
import fcntl, itertools, os, socket, struct, sys, threading, time
from gi.repository import Gio, GLib
address, seconds, directory, tap = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
NAME, PATH = "org.banger.FcProc", "/org/banger/FcProc"
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
empty = GLib.Variant("a{sv}", {})

def connect():
    return Gio.DBusConnection.new_for_address_sync(address, flags, None, None)

def message(member, body=None, interface=NAME, quiet=False, path=PATH):
    m = Gio.DBusMessage.new_method_call(NAME, path, interface, member)
    if body is not None:
        m.set_body(body)
    if quiet:
        m.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
    return m

def ready():
    print("ready", flush=True)
    return time.monotonic() + seconds

# Hostile case 36 has 5,000 calls a second. Several times as many swamp dbus-daemon itself: it writes 2 KiB to a
# connection in each of its turns, so whoever has fifty connections fills another's queue faster than it empties.
def pour(connections, make, rate=5000):
    # no more than so many a second: GDBus queues without a limit
    begun, end, sent = time.monotonic(), ready(), 0
    while time.monotonic() < end:
        while sent < (time.monotonic() - begun) * rate:
            for c in connections:
                c.send_message(make(), 0)
                sent += 1
        time.sleep(0.0005)
    print(sent, "messages", flush=True)
    os._exit(0)  # what is still queued here is not sent
"""

# The first two are told of what happens in a directory; the storm is the same.
_FILES = """
def storm(n):
    a, b = f"{directory}/storm{n}", f"{directory}/storm{n}.new"
    while time.monotonic() < end:
        os.close(os.open(a, os.O_CREAT))
        os.rename(a, b)
        os.unlink(b)
end = ready()
if os.fork() == 0:
    storm(1)
    os._exit(0)
storm(0)
os.wait()
"""

FLOODS = {
    "files, one waits for a socket": """
c = connect()
for n in range(20):
    c.send_message(message("EnsureSocketAccess", GLib.Variant("(ssa{sv})", (f"{directory}/never{n}.sock", "x",
                   {"timeout-usec": GLib.Variant("t", int(seconds * 2e6))}))), 0)
c.flush_sync(None)
""" + _FILES,
    "files, one is subscribed": """
c = connect()
c.send_message(message("Subscribe", GLib.Variant("(a{sv})", ({},))), 0)
c.flush_sync(None)
""" + _FILES,
    "files of many names": """
c = connect()
c.send_message(message("Subscribe", GLib.Variant("(a{sv})", ({},))), 0)
c.flush_sync(None)
end = ready()
for n in itertools.count():
    if time.monotonic() > end:
        break
    name = f"{directory}/many{n}"
    os.close(os.open(name, os.O_CREAT))
    os.unlink(name)
""",
    "link reports": """
TUNSETIFF, TUNSETOWNER = 0x400454CA, 0x400454CC
fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", tap.encode(), 0x5002))
end = ready()
while time.monotonic() < end:
    for n in range(100):
        fcntl.ioctl(fd, TUNSETOWNER, os.getuid())
""",
    "Introspect, no answer wanted": """
pour([connect() for n in range(4)],
     lambda: message("Introspect", interface="org.freedesktop.DBus.Introspectable", quiet=True), rate=20000)
""",
    "Introspect": """
pour([connect() for n in range(50)], lambda: message("Introspect", interface="org.freedesktop.DBus.Introspectable"))
""",
    "GetAll, no answer wanted": """
pour([connect() for n in range(4)],
     lambda: message("GetAll", GLib.Variant("(s)", (NAME,)), "org.freedesktop.DBus.Properties", quiet=True), rate=20000)
""",
    "GetAll": """
pour([connect() for n in range(50)],
     lambda: message("GetAll", GLib.Variant("(s)", (NAME,)), "org.freedesktop.DBus.Properties"))
""",
    "Ping": """
pour([connect() for n in range(50)], lambda: message("Ping", interface="org.freedesktop.DBus.Peer"))
""",
    "no such method": """
pour([connect() for n in range(50)], lambda: message("Nonsense"))
""",
    "calls, no answer wanted": """
pour([connect() for n in range(50)], lambda: message("GetUsage", quiet=True))
""",
    "signals": """
def signal():
    m = Gio.DBusMessage.new_signal("/x", "org.example.X", "X")
    m.set_destination(NAME)
    return m
pour([connect() for n in range(4)], signal)
""",
    "hanging up": """
end = ready()
while time.monotonic() < end:
    c = connect()
    for n in range(60):
        c.send_message(message("FindPID", GLib.Variant("(s)", (f"{directory}/web.sock",))), 0)
    c.flush_sync(None)
    time.sleep(0.005)
    c.close_sync(None)
""",
    "calls that change nothing": """
pour([connect() for n in range(8)], lambda: message("EnsureSocketDir", GLib.Variant("(a{sv})", ({},))), rate=3000)
""",
    "replacing one's tap": """
pour([connect() for n in range(8)], lambda: message("CreateTap", GLib.Variant("(sa{sv})", ("tapflood", {}))), rate=1000)
""",
    "lists, with silent listeners": """
listeners = []
for n in range(800):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{directory}/silent{n}.sock")
    s.listen(1)
    listeners.append(s)
pour([connect() for n in range(8)], lambda: message("ListProcesses"), rate=500)
""",
    "answers that drip": """
def serve(connection):
    try:
        while True:
            connection.send(b"H")
    except OSError:
        pass
def accept(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
for n in range(8):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{directory}/drip{n}.sock")
    s.listen()
    threading.Thread(target=accept, args=(s,), daemon=True).start()
numbers = itertools.cycle(range(8))
pour([connect() for n in range(2)], lambda: message("SendCtrlAltDel", GLib.Variant("(sa{sv})",
     (f"{directory}/drip{next(numbers)}.sock", {}))), rate=300)
""",
    "waits that end at once": """
pour([connect() for n in range(8)], lambda: message("WatchExit", GLib.Variant("(usta{sv})",
     (os.getpid(), "", 1, {}))), rate=3000)
""",
}

FLOODS.update(
    {
        "lists, with many processes": """
import ctypes
PR_SET_PDEATHSIG, SIGKILL = 1, 9
for n in range(600):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
        s = socket.socket(socket.AF_UNIX)
        s.bind(f"{directory}/many{n}.sock")
        s.listen(1)
        while True:
            time.sleep(3600)
pour([connect() for n in range(8)], lambda: message("ListProcesses"), rate=500)
""",
        "deep paths that half exist": """
at = os.open(directory, os.O_RDONLY)
for n in range(1000):
    os.mkdir("a", dir_fd=at)
    at, before = os.open("a", os.O_RDONLY, dir_fd=at), at
    os.close(before)
path = (directory + "/a" * 1000 + "/b" * 1100)[:4088].rstrip("/")
shallow = (directory + "/a" * 20 + "/b" * 100)[:4088].rstrip("/")
paths = itertools.cycle([path, shallow])
pour([connect() for n in range(8)], lambda: message("EnsureSocketAccess", GLib.Variant("(ssa{sv})",
     (next(paths), "x", {"timeout-usec": GLib.Variant("t", 1)}))), rate=1000)
""",
        "long names": """
name = "x" * (1 << 20)
pour([connect() for n in range(8)], lambda: message("Get", GLib.Variant("(ss)", (NAME, name)),
     "org.freedesktop.DBus.Properties"), rate=40)
""",
    }
)
