# SPDX-License-Identifier: MIT
"""fcprocctl doctor: each of its findings, made real or, where that is the host's, made to look so."""

import os
from pathlib import Path

import pytest

import daemons
import machines
from ctl import DONE, FAILED, NOWHERE, device, pretending
from fcproc import BUILD, WORK

QUIET = {
    "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    "/sys/kernel/mm/ksm/run": "0\n",
    "/sys/devices/system/cpu/smt/active": "0\n",
}


@pytest.fixture
def doctor(ctl):
    """doctor(user): its findings by name. What it prints as a table, and its exit code, agree with them."""

    def look(who="alice", files=None, **options):
        within = pretending(files) if files else ()
        result = ctl(who, "doctor", "-j", code=None, within=within, **options)
        found = {check["check"]: check for check in result.json}
        assert len(found) == len(result.json) and result.err == ""
        assert result.code == (FAILED if any(c["result"] == "fail" for c in found.values()) else DONE)
        assert all(("next" in c) == (c["result"] != "ok") and c["text"] for c in found.values())
        lines = ctl(who, "doctor", code=result.code, within=within, **options).out.splitlines()
        for check in found.values():
            at = lines.index(f"{check['result']:4}  {check['check']:19}  {check['text']}")
            assert "next" not in check or lines[at + 1].strip() == f"→ {check['next']}"
        return found

    return look


def says(check, result, text, then=None):
    assert check["result"] == result and text in check["text"], check
    assert then is None or then in check["next"], check


def test_what_there_is(bridge, doctor, polkit):
    found = doctor()
    assert list(found) == ["kvm", "tun", "service", "polkit", "group", "firecracker", "firecracker-version", "bridge", "forwarding",
                           "isolation", "kernel-features", "swap", "ksm", "smt"]  # fmt: skip
    assert all(found[name]["result"] == "ok" for name in ("service", "polkit", "firecracker", "firecracker-version", "bridge"))


def test_kvm(service, doctor):
    if machines.unusable():
        try:
            os.close(os.open("/dev/kvm", os.O_RDWR))
        except OSError as error:
            pytest.skip(f"/dev/kvm: {error.strerror}")
    says(doctor()["kvm"], "ok", "/dev/kvm makes VMs")


def test_no_kvm(service, doctor):
    with device("kvm"):
        says(doctor()["kvm"], "fail", "not there", "kvm_intel")
    with device("kvm", 0o666):
        says(doctor()["kvm"], "fail", "makes no VM", "log")


def test_kvm_is_not_the_callers(service, doctor):
    """Whose group it is counts, and who is in that."""
    with device("kvm", 0o660, "banger"):
        says(doctor("alice")["kvm"], "fail", "not yours", "--groups banger ")
        says(doctor("dave")["kvm"], "fail", "makes no VM")  # he could open it
    with device("kvm", 0o600, "banger"):
        says(doctor("dave")["kvm"], "fail", "not yours", "chgrp")
    with device("kvm", 0o660):
        says(doctor("alice")["kvm"], "fail", "not yours", "chgrp")


def test_tun(service, doctor):
    says(doctor()["tun"], "ok", "/dev/net/tun")
    with device("net/tun"):
        says(doctor()["tun"], "fail", "No such file", "modprobe tun")
    with device("net/tun", 0o600):
        says(doctor()["tun"], "fail", "Permission denied", "0666")


def test_no_service(bus, doctor, polkit):
    found = doctor()
    says(found["service"], "fail", "does not answer", "systemctl status fcproc")
    for name in ("firecracker", "bridge", "kernel-features"):
        says(found[name], "warn", "Only the service knows", "service running first")
    says(found["firecracker-version"], "warn", "no firecracker")
    assert found["polkit"]["result"] == "ok"


def test_no_bus(doctor):
    found = doctor(env=NOWHERE)
    says(found["service"], "fail", "system bus", "systemctl status dbus")
    says(found["polkit"], "fail", "without the system bus", "line above")


def test_no_polkit(service, polkit, doctor):
    """The look-ups of the service need it as well, for all but root."""
    polkit.stop()
    says(doctor("root")["polkit"], "fail", "does not answer", "polkitd")
    assert doctor("root")["firecracker"]["result"] == "ok"


def test_group(service, doctor):
    says(doctor("alice")["group"], "warn", "not in the group banger", "usermod --append --groups banger")
    says(doctor("dave")["group"], "ok", "You are in the group")
    says(doctor("root")["group"], "ok", "You are root")
    groups = Path("/etc/group").read_text().splitlines(keepends=True)
    without = {"/etc/group": "".join(line for line in groups if not line.startswith("banger:"))}
    says(doctor("alice", without)["group"], "warn", "not in the group", "systemd-sysusers")


@pytest.mark.config(firecracker_bin="/nonexistent/firecracker")
def test_no_firecracker(service, doctor):
    found = doctor()
    says(found["firecracker"], "fail", "/nonexistent/firecracker", "firecracker_bin")
    says(found["firecracker-version"], "warn", "no firecracker")


@pytest.mark.config(firecracker_bin=str(WORK / "odd-firecracker"))
@pytest.mark.parametrize("script", ["exit 0", "exec sleep 60", "kill -9 $$"], ids=["silent", "hangs", "killed"])
def test_firecracker_that_tells_no_version(service, doctor, script):
    program = WORK / "odd-firecracker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    found = doctor()
    says(found["firecracker"], "ok", str(program))
    says(found["firecracker-version"], "fail", "does not tell its version", "--version")


def test_bridge(service, doctor, root):
    says(doctor()["bridge"], "warn", "not there", "ensure-bridge")
    root.do("EnsureBridge")
    says(doctor()["bridge"], "ok", "is up, 0 of 1023")
    machines.run("ip", "link", "set", "br-fc", "down")
    says(doctor()["bridge"], "warn", "is down", "ensure-bridge")


def ports(n):
    directory = "/sys/class/net/br-fc"
    return {f"{directory}/flags": "0x1003\n", f"{directory}/bridge": None, **{f"{directory}/brif/p{i}": None for i in range(n)}}


def test_bridge_nearly_full(service, doctor):
    says(doctor(files=ports(999))["bridge"], "ok", "999 of 1023")
    says(doctor(files=ports(1000))["bridge"], "warn", "nearly full, 1000 of 1023", "prune")


@pytest.mark.parametrize("listed", [True, False])
def test_kernel_without_bridges(service, doctor, listed):
    """Only where the list of modules is there, and has none, is it certain."""
    modules = f"/lib/modules/{os.uname().release}"
    files = {"/sys/module/other/version": "1\n", f"{modules}/modules.dep": "kernel/net/other.ko:\n"}
    if listed:
        files[f"{modules}/modules.builtin"] = "kernel/net/802/stp.ko\nkernel/net/bridge/bridge.ko\n"
        says(doctor(files=files)["bridge"], "warn", "br-fc is not there", "ensure-bridge")
    else:
        says(doctor(files=files)["bridge"], "fail", "this kernel has no bridges", "CONFIG_BRIDGE")
    del files[f"{modules}/modules.dep"]
    says(doctor(files=files)["bridge"], "warn", "br-fc is not there", "ensure-bridge")


def test_forwarding(service, doctor):
    v4, v6 = Path("/proc/sys/net/ipv4/ip_forward"), Path("/proc/sys/net/ipv6/conf/all/forwarding")
    try:
        for path in (v4, v6):
            path.write_text("0") if path.exists() else None
        says(doctor()["forwarding"], "warn", "not forwarded", "ip_forward=1")
        v4.write_text("1")
        says(doctor()["forwarding"], "ok", "IPv4 yes, IPv6 no")
        v4.write_text("0")
        if v6.exists():
            v6.write_text("1")
            says(doctor()["forwarding"], "ok", "IPv4 no, IPv6 yes")
    finally:
        for path in (v4, v6):
            path.write_text("0") if path.exists() else None


REACH = "isolated guests reach each other"


@pytest.fixture
def forwarding():
    """Writes forwarding of the whole host and of a link; what was there comes back."""
    before = {}

    def switch(family, name, value):
        path = Path(f"/proc/sys/net/{family}/conf/{name}/forwarding")
        before.setdefault(path, path.read_text())
        path.write_text(value)

    for family in ("ipv4", "ipv6"):
        switch(family, "all", "0")
    yield switch
    for path, value in before.items():
        path.write_text(value) if path.exists() else None


def test_isolation(bridge, doctor, forwarding):
    """What counts is the bridge for IPv4, and the host for IPv6. Only root can know of a rule."""
    says(doctor()["isolation"], "ok", "stay apart")
    forwarding("ipv4", "br-fc", "1")
    says(doctor("alice")["isolation"], "warn", REACH, "Only root can see rules")
    says(doctor("root")["isolation"], "warn", REACH, "fcproc-isolation.nft")
    forwarding("ipv4", "all", "1")
    forwarding("ipv4", "br-fc", "0")
    says(doctor()["isolation"], "ok", "stay apart")
    forwarding("ipv6", "br-fc", "1")
    says(doctor()["isolation"], "ok", "stay apart")
    forwarding("ipv6", "all", "1")
    says(doctor()["isolation"], "warn", REACH)


def test_isolation_without_a_bridge(service, doctor, forwarding):
    """It will be as the host is."""
    says(doctor()["isolation"], "ok", "stay apart")
    forwarding("ipv4", "all", "1")
    says(doctor()["isolation"], "warn", REACH)


def test_isolation_with_a_rule(bridge, doctor, forwarding, isolation_rule):
    forwarding("ipv4", "all", "1")
    isolation_rule()
    says(doctor("root")["isolation"], "ok", "the rule that is shipped is loaded")
    says(doctor("alice")["isolation"], "warn", "unless a rule stops it", "sudo fcprocctl doctor")
    isolation_rule("br-other")
    says(doctor("root")["isolation"], "warn", REACH)


def test_old_kernel(make_service, doctor, monkeypatch):
    """The service as it is on Linux 5.10."""
    monkeypatch.setattr(daemons, "FCPROCD", BUILD / "tests" / "fcprocd-old-kernel")
    make_service().start()
    lacking = "exit-status fchmodat2 live-rename locked-port peer-pidfd"
    says(doctor()["kernel-features"], "warn", f"The kernel lacks: {lacking}", "newer kernel")


def test_what_sets_guests_apart(service, doctor):
    found = doctor(files=QUIET)
    for name in ("swap", "ksm", "smt"):
        assert found[name]["result"] == "ok"
    assert doctor(files={**QUIET, "/sys/kernel/mm/ksm/run": "2\n"})["ksm"]["result"] == "ok"  # as it advises
    swap = {"/proc/swaps": QUIET["/proc/swaps"] + "/dev/sda2\tpartition\t1\t0\t-2\n"}
    says(doctor(files={**QUIET, **swap})["swap"], "warn", "swap", "swapoff")
    says(doctor(files={**QUIET, "/sys/kernel/mm/ksm/run": "1\n"})["ksm"], "warn", "KSM", "echo 2")
    says(doctor(files={**QUIET, "/sys/devices/system/cpu/smt/active": "1\n"})["smt"], "warn", "SMT", "echo off")


def test_a_warning_is_no_failure(bridge, ctl, doctor):
    """The exit code is 0, though there is something to say."""
    found = doctor()
    if any(check["result"] == "fail" for check in found.values()):
        pytest.skip(f"this host cannot run VMs: {[check['text'] for check in found.values() if check['result'] == 'fail']}")
    assert found["group"]["result"] == "warn"
    assert "group" in ctl("alice", "doctor", "-q", code=DONE).out
