# SPDX-License-Identifier: MIT
"""fcprocctl: what to do about an error, which only the client can put into words of its own.

Each row of hints[] in client/report.c is tried by what leads to it."""

import re

import pytest

import machines
from ctl import DENIED, FAILED, NO_OBJECT, TIMED_OUT, VERBS
from fcproc import CHECKOUT, WORK

GET_USAGE = "'fcprocctl get-usage' shows what you may have"
PRUNE = f"{GET_USAGE}, 'fcprocctl prune' removes taps that nobody holds"
LIST = "'fcprocctl list' shows your VMs"
REPORT = (CHECKOUT / "client" / "report.c").read_text()
ROWS = re.findall(r'\{(?:FCPROC_ERROR|STANDARD) "(\w+)", (?:"([a-z-]+)"|NULL),\s+(?:N_\(|NULL)',
                  REPORT.partition("} hints[] = {")[2].partition("\n};")[0])  # fmt: skip

tried = set()


@pytest.fixture
def hint(ctl):
    """hint(error, verb of the row, expected, user, arguments…): what stands behind the service's own words, on one line."""

    def run(error, row, expected, who, *arguments, code=FAILED):
        tried.add((error, row))
        shown = ctl(who, *arguments, code=code).err
        [line] = [line for line in shown.splitlines() if line.startswith("fcprocctl: ")]
        if expected:
            assert line.endswith(f"; {expected}"), line
        else:
            assert "'fcprocctl " not in line
        told = ctl(who, "-j", *arguments, code=code).error
        assert told["name"].endswith("." + error) and f"fcprocctl: {told['message']}" == line
        return told["message"]

    return run


def test_no_bridge(service, hint, polkit):
    hint("NoSuchBridge", "", "'fcprocctl ensure-bridge' makes it, or says what is in its way", "alice", "create-tap", "tap0", code=NO_OBJECT)


def test_ports(bridge, hint, alice):
    alice.do("CreateTap", "tap0")
    hint("InUse", "remove-bridge", "'fcprocctl taps' shows yours, 'fcprocctl delete-tap' removes them", "alice", "remove-bridge")


def test_no_process(service, hint, start, alice):
    for verb in ("find-pid", "kill", "wait-for-exit"):
        hint("NoSuchProcess", "", LIST, "alice", verb, "none", code=NO_OBJECT)
    process = start("sleep", "60", user=alice.uid)
    for verb in ("kill", "wait-for-exit"):
        hint("NotAVmm", "", LIST, "alice", verb, str(process.pid), code=NO_OBJECT)
    hint("SocketNotReady", "", LIST, "alice", "ensure-socket-access", "none", "--timeout=0", code=TIMED_OUT)


def test_paused(service, hint, vmm, alice):
    vmm(alice, "web", "--standin-paused")
    hint("VmmRefused", "shutdown", "with --force it is killed after the grace", "alice", "shutdown", "web")


def test_unreachable(service, hint, vmm, alice):
    vmm(alice, "web", "--standin-no-answer")
    hint("VmmUnreachable", "send-ctrl-alt-del", "'fcprocctl kill' ends it without asking it", "alice", "send-ctrl-alt-del", "web")


@pytest.mark.config(max_taps_per_user=1)
def test_quota_of_taps(bridge, hint, ctl, alice):
    alice.do("CreateTap", "tap0")
    hint("LimitsExceeded", "create-tap", PRUNE, "alice", "create-tap", "tap1")
    configuration = machines.vm_config(WORK / "hint.json", WORK / "bin" / "guest", "tap1")
    hint("LimitsExceeded", "run", PRUNE, "alice", "run", "web", f"--config-file={configuration}")


@pytest.mark.config(max_waits_per_user=1)
def test_quota_of_waits(service, hint, vmm, alice):
    vm = vmm(alice, "web")
    alice.do("WatchExit", vm.pid, vm.sock, 2**64 - 1)
    hint("LimitsExceeded", "", GET_USAGE, "alice", "wait-for-exit", "web")


def test_quota_of_subscriptions(service, hint, client):
    """None that get-usage would show."""
    clients = [client("alice") for _ in range(16)]
    for each in clients:
        each.do("Subscribe")
    assert hint("LimitsExceeded", "monitor", None, "alice", "monitor").endswith("end one, or try later")


def test_whom_to_ask(bridge, hint, vmm, bob):
    """The group is no answer where it would not help."""
    rule = "run it on a terminal, or ask an administrator for a rule"
    group = f"{rule} or to be put into the group banger"
    required = "InteractiveAuthorizationRequired"
    hint(required, None, group, "carol", "create-tap", "tap0", code=DENIED)
    hint(required, None, group, "carol", "remove-bridge", code=DENIED)
    hint(required, None, rule, "carol", "create-tap", "tap0", "--isolated=no", code=DENIED)
    hint(required, None, rule, "carol", "find-pid", vmm(bob, "other").sock, code=DENIED)


def test_each_row_was_tried():
    """And names verbs that there are."""
    if not tried:
        pytest.skip("the others go before")
    assert len(ROWS) > 8 and set(ROWS) == {row for row in tried if row[1] is not None}
    assert {verb for _, verb in ROWS if verb} | set(re.findall(r"'fcprocctl ([a-z-]+)'", REPORT)) <= set(VERBS)
