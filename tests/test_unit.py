# SPDX-License-Identifier: MIT
"""The unit as it is installed: no line of its sandbox is missing. tests/booted tries it for real."""

import shutil
import subprocess

import pytest

from fcproc import BUILD

UNIT = BUILD / "dbus" / "fcproc.service"

YES = """NoNewPrivileges LockPersonality MemoryDenyWriteExecute PrivateDevices PrivateIPC PrivateMounts PrivateTmp ProtectClock ProtectControlGroups
         ProtectHome ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables RemoveIPC RestrictNamespaces
         RestrictRealtime""".split()
CAPABILITIES = {"CAP_NET_ADMIN", "CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE", "CAP_KILL"}
# All of it: a word more is as wrong as one less.
EXACTLY = {
    "Before": {"systemd-user-sessions.service"}, "Wants": {"modprobe@tun.service"},
    "After": {"polkit.service", "dbus.service", "nss-user-lookup.target", "modprobe@tun.service"},
    "Type": {"dbus"}, "BusName": {"org.banger.FcProc"}, "Restart": {"on-failure"}, "User": {"fcproc"}, "UMask": {"0077"}, "NotifyAccess": {"main"}, "RestartPreventExitStatus": {"78"},
    "DevicePolicy": {"closed"}, "DeviceAllow": {"/dev/net/tun", "rw"}, "IPAddressDeny": {"any"}, "KeyringMode": {"private"},
    "ProtectSystem": {"strict"}, "SystemCallArchitectures": {"native"}, "SystemCallErrorNumber": {"EPERM"},
    "AmbientCapabilities": CAPABILITIES, "CapabilityBoundingSet": CAPABILITIES, "RestrictAddressFamilies": {"AF_UNIX", "AF_NETLINK"},
    "TemporaryFileSystem": {"/run:ro,noexec", "/var:ro,noexec"}, "NoExecPaths": {"/", "/run/banger", "/tmp", "/var/tmp"},
    "BindPaths": {"/run/banger", "-/dev/net/tun"}, "ReadWritePaths": {"-/proc/sys/net/ipv6/conf"},
    "TasksMax": {"16"}, "MemoryMax": {"256M"}, "LimitNOFILE": {"131072"}, "LogRateLimitIntervalSec": {"10s"},
    "LogRateLimitBurst": {"100000"}, "ExecReload": {"+kill", "-HUP", "$MAINPID"},
}  # fmt: skip
# At least.
INACCESSIBLE = """/etc/shadow /etc/shadow- /etc/gshadow /etc/gshadow- /etc/security/opasswd /etc/sudoers /etc/sudoers.d /etc/ssh
                  /etc/ssl/private /etc/letsencrypt /etc/krb5.keytab /etc/NetworkManager /etc/netplan /etc/systemd/network
                  /etc/wpa_supplicant /etc/wireguard /etc/openvpn /etc/ipsec.d /etc/ipsec.secrets /etc/swanctl /etc/ppp /etc/credstore
                  /etc/credstore.encrypted /etc/cryptsetup-keys.d /etc/sssd /etc/docker /etc/containers /etc/kubernetes /etc/libvirt
                  /etc/mysql /etc/pki/tls/private /boot /efi /media /lost+found /dev/pts /dev/shm /dev/mqueue /dev/hugepages
                  /var/lib/sss/pipes/private""".split()
CALLS = ["@system-service", "~@privileged @aio @keyring @memlock @resources personality userfaultfd",
         "~memfd_create memfd_secret execveat", "@chown"]  # fmt: skip
# Bound from /run and /var: everything else there is out of sight.
SHOWN = ["/run/dbus", "/run/systemd/notify", "/run/systemd/journal"]
SHOWN_IF_THERE = ["/run/systemd/userdb", "/run/nscd", "/run/nslcd", "/run/samba/winbindd", "/run/nscd:/var/run/nscd",
                  "/run/nslcd:/var/run/nslcd", "/run/samba/winbindd:/var/run/samba/winbindd", "/var/lib/sss/pipes",
                  "/var/lib/sss/mc"]  # fmt: skip


@pytest.fixture(scope="module")
def lines():
    found = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def words(lines, key):
    return " ".join(lines.get(key, [])).split()


def test_what_is_denied(lines):
    assert {key: lines.get(key) for key in YES} == {key: ["yes"] for key in YES}
    assert sorted(words(lines, "InaccessiblePaths")) == sorted("-" + path for path in INACCESSIBLE)


def test_what_is_granted(lines):
    assert {key: set(words(lines, key)) for key in EXACTLY} == EXACTLY
    assert lines["SystemCallFilter"] == CALLS, "in this order: what comes later adds to what is there, or takes from it"


def test_what_is_shown_and_executed(lines):
    """What can be executed is bound as well: else it could be written (ProtectSystem= spares it)."""
    (start,), executed = lines["ExecStart"], words(lines, "ExecPaths")
    assert len(executed) == 2 and executed[0] == start and start.endswith("/fcprocd")
    libraries = subprocess.run(["pkg-config", "--variable=libdir", "libsystemd"], capture_output=True, text=True, check=True).stdout
    assert executed[1] == libraries.strip()
    assert words(lines, "BindReadOnlyPaths") == SHOWN + ["-" + path for path in SHOWN_IF_THERE] + executed


def test_every_line_is_known_here(lines):
    known = {*YES, *EXACTLY, "InaccessiblePaths", "SystemCallFilter", "BindReadOnlyPaths", "ExecStart", "ExecPaths"}
    assert {*lines} - known == {"Description", "Documentation"}


def test_systemd_understands_it():
    """Its figure for the sandbox, of which 10 is the worst; 0.5 of it are the host's network, which is what the service is for."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    result = subprocess.run(["systemd-analyze", "--man=no", "verify", str(UNIT)], capture_output=True, text=True, check=False)
    about_it = [line for line in result.stderr.splitlines() if "fcproc.service" in line and "is not executable" not in line]
    assert not about_it, about_it
    result = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)],
                            capture_output=True, text=True, check=False)  # fmt: skip
    assert result.returncode == 0, result.stdout.splitlines()[-1]
