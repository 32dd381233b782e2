# SPDX-License-Identifier: MIT
"""fcprocctl without a service: help, bad arguments, no bus."""

import re

import pytest

from ctl import NO_SERVICE, NOWHERE, USAGE, VERBS


def test_help_names_every_verb(ctl):
    text = ctl("alice", "--help", env=NOWHERE).out
    for verb in VERBS:
        assert f"  {verb} " in text
        page = ctl("alice", verb, "--help").out
        assert verb in page and "JSON: " in page and page == ctl("alice", "-h", verb).out
    assert max(len(line) for line in text.splitlines()) <= 110


def test_help_as_a_verb(ctl):
    assert ctl("alice", "help").out == ctl("alice", "--help").out
    assert ctl("alice", "help", "kill").out == ctl("alice", "kill", "--help").out
    assert "no verb" in ctl("alice", "help", "zzzzzzzzzz", code=USAGE).err


def test_version(ctl):
    assert re.fullmatch(r"fcprocctl \d+\.\d+\.\d+\n", ctl("alice", "--version").out)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "verb"),
        (["lits"], "did you mean 'list'"),
        (["crate-tap", "tap0"], "did you mean 'create-tap'"),
        (["wait-fro-exit"], "did you mean 'wait-for-exit'"),
        (["zzzzzzzzzzzz"], "--help"),
        (["x" * 100_000], "no verb"),
        (["create-tap"], "NAME"),
        (["list", "web"], "no arguments"),
        (["resolve-pid", "web"], "SOCKET PID"),
        (["ensure-socket-access", "a", "b", "c"], "SOCKET"),
        (["--nonsense", "list"], "--nonsense"),
        (["list", "-x"], "-x"),
        (["list", "--" + "y" * 100_000], "no option"),
        (["list", "--json=xml"], "short, pretty or off"),
        (["list", "--json"], "value"),
        (["list", "--force"], "does not take"),
        (["kill", "web", "--timeout=3"], "does not take"),
        (["wait-for-exit", "web", "--timeout=soon"], "span"),
        (["wait-for-exit", "web", "--timeout="], "span"),
        (["wait-for-exit", "web", "--timeout=-1"], "span"),
        (["wait-for-exit", "web", "--timeout=99999999999999999999"], "span"),
        (["wait-for-exit", "web", "--timeout=" + "9" * 100_000], "span"),
        (["wait-for-exit", "web", "--timeout=18446744073709551615us"], "span"),
        (["shutdown", "web", "--grace=5 parsecs"], "span"),
        (["create-tap", "tap0", "--mtu=12"], "1280"),
        (["create-tap", "tap0", "--mtu=1e3"], "1280"),
        (["create-tap", "tap0", "--tun-uid=nobody-of-that-name"], "user"),
        (["create-tap", "tap0", "--tun-uid=-1"], "user"),
        (["create-tap", "tap0", "--tun-gid=x"], "group"),
        (["create-tap", "tap0", "--guest-mac=01:02:03:04:05:06"], "guest-mac"),
        (["create-tap", "tap0", "--isolated=maybe"], "yes or no"),
        (["create-tap", "tap0", "tap1", "--guest-mac=06:00:ac:10:00:02"], "one tap"),
        (["create-tap", "tap0", "tap0"], "twice"),
        (["create-tap", "Tap0"], "name for a tap"),
        (["create-tap", "0123"], "name for a tap"),
        (["create-tap", "t" * 100_000], "name for a tap"),
        (["delete-tap", "tap%d"], "name for a tap"),
        (["kill", "0"], "process ID"),
        (["kill", "99999999999"], "process ID"),
        (["kill", ""], "name of a VM"),
        (["kill", "a\nb"], "name of a VM"),
        (["kill", b"\xff\xfe"], "name of a VM"),
        (["kill", "./web.sock"], "absolute"),
        (["kill", "/run/../web.sock"], "absolute"),
        (["find-pid", "4711"], "no socket"),
        (["shutdown", "/" + "x" * 5000], "absolute"),
        (["resolve-pid", "web", "many"], "process ID"),
        (["ensure-socket-access", "web", "<3>"], "label"),
        (["-H", "a", "-M", "b", "list"], "exclude"),
        (["-H", "a", "doctor"], "run it there"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(str(v)[:24] for v in value),
)
def test_usage(ctl, arguments, says):
    result = ctl("alice", *arguments, code=USAGE, env=NOWHERE)
    assert says in result.err and result.out == "" and len(result.err) < 400 and result.err.count("\n") == 1
    result = ctl("alice", "-j", *arguments, code=USAGE, env=NOWHERE)
    if "--json=xml" not in arguments:
        assert says in result.error["message"] and result.error["name"].endswith(".InvalidArgs")


def test_a_megabyte_of_arguments(ctl):
    ctl("alice", "create-tap", *["T" * 100_000] * 10, code=USAGE, env=NOWHERE)
    ctl("alice", *["T" * 100_000] * 10, code=USAGE, env=NOWHERE)


def test_no_bus(ctl):
    for arguments in (["list"], ["status"], ["wait-for-exit", "web"], ["monitor"], ["prune"], ["create-tap", "tap0"]):
        assert "system bus" in ctl("alice", *arguments, code=NO_SERVICE, env=NOWHERE).err
    assert ctl("alice", "-j", "list", code=NO_SERVICE, env=NOWHERE).error["message"]


def test_no_service(ctl, bus):
    for arguments in (["list"], ["status"], ["wait-for-exit", "web"], ["monitor"], ["prune"], ["create-tap", "tap0"]):
        assert "service" in ctl("alice", *arguments, code=NO_SERVICE).err
    assert ctl("alice", "-j", "list", code=NO_SERVICE).error["name"].endswith("ServiceUnknown")
