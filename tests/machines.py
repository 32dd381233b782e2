# SPDX-License-Identifier: MIT
"""What the tests do to the machine beside the service: VMMs, holders of taps, frames, and a look at
everything the service could have changed."""

import fcntl
import http.client
import json
import os
import select
import socket
import stat
import struct
import subprocess
import threading
import time
from pathlib import Path

from fcproc import RUNTIME, WORK, acting_as, eventually

# --- VMMs ---


class Vm:
    """A VMM (the stand-in, unless another program is given) that runs as an ordinary account.

    A thread waits for it, so that it is reaped at once, as its parent would do it on a real machine.
    """

    def __init__(self, who, command, sock):
        self.sock = sock
        self.ended = None
        with acting_as(who) as account:  # only for the look-up; Popen itself changes the child
            self.account = account
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", user=account.uid,
            group=account.gid, extra_groups=account.groups, umask=0o022, start_new_session=True)  # fmt: skip
        self.pid = self.process.pid
        self.reaper = threading.Thread(target=self._reap, daemon=True)
        self.reaper.start()

    def _reap(self):
        self.process.wait()
        self.ended = time.monotonic()

    def wait_listening(self, within=10.0):
        """Until it has printed `listening`."""
        output, deadline = b"", time.monotonic() + within
        while b"listening" not in output:
            ready = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]
            chunk = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            assert chunk, f"the VMM does not listen: {output.decode(errors='replace')}"
            output += chunk
        return self

    def alive(self):
        return self.ended is None and self.process.returncode is None

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        if self.alive():
            self.process.kill()
        self.reaper.join()
        self.process.stdout.close()


def vm_config(path, kernel, *interfaces):
    """A configuration file that boots the guest at once, with these taps."""
    network = [{"iface_id": f"eth{n}", "host_dev_name": tap} for n, tap in enumerate(interfaces)]
    config = {"boot-source": {"kernel_image_path": str(kernel), "boot_args": "reboot=k"}, "drives": [],
              "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}}  # fmt: skip
    if network:
        config["network-interfaces"] = network
    Path(path).write_text(json.dumps(config))
    Path(path).chmod(0o644)
    return str(path)


def spawn_vmm(who, sock, *switches, ident="web", program=WORK / "bin" / "firecracker", listening=True, started=True):
    """Starts the stand-in; with listening, returns when its socket answers; with started, its guest runs."""
    config = ["--config-file", str(WORK / "bin" / "vm.json")] if started else []
    vm = Vm(who, [str(program), "--api-sock", str(sock), "--id", ident, *config, *switches], str(sock))
    if listening:
        try:
            vm.wait_listening()
        except BaseException:
            vm.end()
            raise
    return vm


def request(path, method, target, body=None):
    """(status, text) of one request to the VMM's API."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(5)
    try:
        connection.sock.connect(path)
        connection.request(method, target, json.dumps(body) if body else None)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def real_firecracker():
    """The real program's path, or None; the reason is unusable()."""
    path = os.environ.get("FIRECRACKER")
    return Path(path) if path and not unusable() else None


def unusable(*programs):
    """Why real VMs cannot run here, or None."""
    for name in programs or ("FIRECRACKER",):
        path = os.environ.get(name)
        if not path:
            return f"{name} is not set (the path of a real {name.lower()})"
        if not os.access(path, os.X_OK):
            return f"{name}={path} is no program"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    return None


# --- links ---


def ip(*args):
    output = subprocess.run(["ip", "-d", "-j", *args], check=True, capture_output=True, text=True).stdout
    return json.loads(output) if output.strip() else []


def links():
    """All links by name."""
    return {link["ifname"]: link for link in ip("link", "show")}


def taps():
    return {name: link for name, link in links().items() if link.get("linkinfo", {}).get("info_kind") == "tun"}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def add_link(name, *arguments):
    """A link that is neither a bridge nor a tap. Not a dummy: loading that module gives the host a dummy0."""
    run("ip", "link", "add", name, *arguments, "type", "veth")


def fdb(dev):
    return json.loads(run("bridge", "-d", "-j", "fdb", "show", "dev", dev) or "[]")


def remove_links():
    """All but lo; those that can be are removed together, which is much faster."""
    names = [name for name in links() if name != "lo"]
    if names:
        batch = "".join(f"link set dev {name} group 4711\n" for name in names) + "link del group 4711\n"
        subprocess.run(["ip", "-force", "-batch", "-"], input=batch.encode(), capture_output=True)
        for name in [name for name in links() if name != "lo"]:
            subprocess.run(["ip", "link", "del", "dev", name], capture_output=True)


# --- the guest's end of a tap ---

TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
SIOCSIFHWADDR = 0x8924
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac_bytes(mac):
    return bytes.fromhex(mac.replace(":", ""))


class Holder:
    """Holds a tap as Firecracker does: opened by name, by an unprivileged user."""

    def __init__(self, who, name):
        self.name = name
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with acting_as(who):
                fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        except OSError:
            self.close()
            raise

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    __enter__ = lambda self: self  # noqa: E731

    def __exit__(self, *_):
        self.close()

    def ioctl(self, request, value):
        """Unprivileged, as a guest's VMM would."""
        with acting_as("nobody"):
            fcntl.ioctl(self.fd, request, value)

    def set_mac(self, mac):
        self.ioctl(SIOCSIFHWADDR, struct.pack("16sH6s16x", self.name.encode(), 1, mac_bytes(mac)))

    def send(self, frame):
        os.write(self.fd, bytes(10) + frame)

    def receive(self, wanted, within):
        """The first frame for which wanted(frame) holds, or None."""
        deadline = time.monotonic() + within
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                return None
            frame = os.read(self.fd, 65536)[10:]
            if wanted(frame):
                return frame

    def arp(self, mac, ip_address, target, within=2.0):
        """Asks who has target, again and again as hosts do: a port forwards only when the kernel has got round to its
        carrier. The answer, or None."""
        is_answer = lambda f: f[:6] == mac_bytes(mac) and f[12:14] == b"\x08\x06" and f[20:22] == b"\x00\x02"  # noqa: E731
        deadline, answer = time.monotonic() + within, None
        while not answer and (left := deadline - time.monotonic()) > 0:
            self.send(arp_request(mac, ip_address, target))
            answer = self.receive(is_answer, min(left, 0.25))
        return answer


def ethernet(dst, src, kind, payload):
    return (mac_bytes(dst) + mac_bytes(src) + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def arp_request(mac, ip_address, target):
    addresses = mac_bytes(mac) + socket.inet_aton(ip_address) + bytes(6) + socket.inet_aton(target)
    return ethernet(BROADCAST, mac, 0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + addresses)


class HostPort:
    """The host's own frames on a link."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        self.socket.bind((name, 0x88B5))
        self.counter = 0

    def send(self, dst, src):
        """One frame of an experimental kind to dst; returns what tells it from all others."""
        self.counter += 1
        mark = b"fcproc-%d-" % self.counter + os.urandom(8)
        self.socket.send(ethernet(dst, src, 0x88B5, mark))
        return mark

    def close(self):
        self.socket.close()


# --- everything that could have changed ---


def tree(top=RUNTIME):
    """Mode, owner and inode of everything below the runtime directory."""
    found = {}
    for directory, directories, files in os.walk(top):
        for name in [".", *directories, *files]:
            path = os.path.normpath(os.path.join(directory, name))
            status = os.lstat(path)
            found[path] = (stat.filemode(status.st_mode), status.st_uid, status.st_gid, status.st_ino, status.st_nlink)
    return found


def processes():
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found[int(name)] = Path(f"/proc/{name}/comm").read_text().strip()
            except OSError:
                pass
    return found


def steady(value):
    """Without what changes by itself: the bridge's timers, and what follows the carrier some time later."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if not k.endswith("_timer") and k not in ("operstate", "state", "qdisc")}
    return [steady(v) for v in value if v not in ("NO-CARRIER", "LOWER_UP")] if isinstance(value, list) else value


def addresses():
    found = [(link["ifname"], a["local"], a["prefixlen"]) for link in ip("addr", "show") for a in link.get("addr_info", [])]
    return sorted(a for a in found if not a[1].startswith("fe80:"))


def routes():
    """Without what the kernel makes of a link-local address once a link has had its carrier for a while."""
    own = ("fe80::", "local fe80:", "anycast fe80:", "multicast ff00:")
    lines = run("ip", "-4", "route", "show", "table", "all") + run("ip", "-6", "route", "show", "table", "all")
    return [line.replace(" linkdown", "") for line in lines.splitlines() if not line.startswith(own)]


def snapshot():
    return {
        "links": steady(links()),
        "addresses": addresses(),
        "routes": routes(),
        "files": tree(),
        "processes": processes(),
    }


def assert_unchanged(before):
    """Nothing is as the service should not have made it; waits a moment for what is still settling."""
    after = {}

    def same():
        after.update(snapshot())
        return after == before

    try:
        eventually(same, 1.0)
    except TimeoutError:
        raise AssertionError("changed: " + "; ".join(differences(before, after))) from None


def differences(before, after, where=""):
    """What is not the same in two of those, in words."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}, key=str):
            yield from differences(before.get(key), after.get(key), f"{where}/{key}")
    elif before != after:
        yield f"{where[1:]}: {before} became {after}"
