# SPDX-License-Identifier: MIT
"""fcprocctl --json: what every verb prints, and every failure, is what the schema in the tree says."""

import json
import re
import signal

import jsonschema
import pytest

import machines
import schema
from ctl import DENIED, DONE, FAILED, NO_OBJECT, NO_SERVICE, NOWHERE, TIMED_OUT, USAGE, VERBS, armed, stale
from daemons import deny
from fcproc import WORK, eventually


@pytest.fixture
def valid(ctl):
    """valid(user, verb, arguments…): both modes are as the schema says, errors too; the value is returned.

    The second run may find nothing to do any more."""

    def checked(verb, result, lines):
        value = json.loads(result.out) if result.out else None
        if value is not None:
            schema.validate(value, verb)
        errors = [json.loads(part) for part in re.split(r"\n(?=\{)", result.err) if part.strip()]
        for error in errors:
            schema.validate(error, "error")
        assert (result.code == DONE) == (errors == []), result.err
        assert not value or lines(result.out.count("\n")), result.out
        return value

    def run(who, verb, *arguments, code=DONE, **options):
        value = checked(verb, ctl(who, "--json=short", verb, *arguments, code=code, **options), lambda n: n == 1)
        checked(verb, ctl(who, "--json=pretty", verb, *arguments, code=None, **options), lambda n: n > 1)
        return value

    return run


def test_the_schema_is_one():
    """It is valid itself, has each verb, and tells good from bad, strictly only where it is to be strict."""
    jsonschema.Draft202012Validator.check_schema(schema.PUBLISHED)
    assert set(VERBS) | {"error"} <= set(schema.PUBLISHED["$defs"])
    good = [{"pid": 4711, "uid": 1000, "api_sock": "/run/banger/1000/web.sock"}]
    schema.validate(good, "list")
    for bad in ([{**good[0], "pid": "4711"}], [{"pid": 4711, "uid": 1000}], {}, [{**good[0], "colour": "red"}]):
        with pytest.raises(jsonschema.ValidationError):
            schema.validate(bad, "list")
    line = {"event": "process-exited", **good[0], "cause": "exited", "status": 0, "exited_usec": 1}
    schema.validate(line, "monitor")
    strays = [("monitor", {**line, "colour": "red"}), ("monitor", {"event": "process", **good[0], "cause": "exited"}),
              ("taps", [{"tap": "tap0", "ifindex": 3, "uid": 1000, "colour": "red"}]), ("kill", [{"sent": True}]),
              ("kill", [{"sent": True, "pid": 1, "api_sock": "/x"}])]  # fmt: skip
    for verb, bad in strays:
        with pytest.raises(jsonschema.ValidationError):
            schema.validate(bad, verb)
    grown = {**schema.PUBLISHED, "$ref": "#/$defs/list"}
    jsonschema.Draft202012Validator(grown).validate([{**good[0], "colour": "red"}])


@pytest.mark.parametrize("verb", VERBS)
def test_help_and_schema_agree(ctl, verb):
    """Each member of the shape in VERB --help is in the schema and the other way round, as often there."""
    [text] = re.findall(r"^JSON: (.*)", ctl("alice", verb, "--help").out, re.M)
    said = schema.shape_read(text)
    assert schema.without_words(schema.schema_form(schema.PUBLISHED["$defs"][verb]), said) == said


def test_shapes_are_told_apart():
    """The comparison itself: what is another shape is not equal."""
    shapes = ["[{a, b}]", "{a, b}", "[{a, b?}]", "[{a | b}]", "[{a or b}]", "[{a}]", "[{a, b: x|y}]", "[{a, b: {c}}]", "[{a, b: [c]}]"]
    read = [schema.shape_read(shape) for shape in shapes]
    for n, one in enumerate(read):
        assert one == schema.shape_read(shapes[n]) and not any(one == other for other in read[:n] + read[n + 1 :])


def test_host_verbs(service, valid, polkit):
    assert valid("alice", "ensure-bridge")["bridge"] == "br-fc"
    assert valid("alice", "ensure-socket-dir") and valid("alice", "resolve-binary")
    assert valid("alice", "get-usage")["taps"] == 0
    assert valid("alice", "status")["bridge"]["exists"]
    assert valid("alice", "remove-bridge") == {"removed": True}
    assert valid("alice", "remove-bridge") == {"removed": False}
    assert valid("alice", "status")["bridge"] == {"name": "br-fc", "address": "172.16.0.1/24", "exists": False}
    assert valid("alice", "list") == valid("alice", "taps") == []


def test_tap_verbs(bridge, valid, alice, bob, root):
    bob.do("CreateTap", "tap1")
    made = valid("alice", "create-tap", "tap0", "tap1", "wrong", "--mtu=1400", code=DENIED)
    assert ["ifindex" in tap for tap in made] == [True, False, False] and made[2]["error"]["name"].endswith("InvalidArgs")
    options = ["--guest-mac=06:00:ac:10:00:02"] if "locked-port" in root.get("Features") else []
    valid("alice", "create-tap", "tap2", "--tun-uid=bob", "--isolated=yes", *options)
    [first, second] = sorted(valid("alice", "taps"), key=lambda tap: tap["tap"])
    assert first["mtu"] == 1400 and ("guest-mac" in second) == bool(options)
    assert [tap.get("deleted") for tap in valid("alice", "delete-tap", "tap0", "tap1", "tap9", code=DENIED)] == [True, None, False]


def test_vm_verbs(service, valid, vmm, alice):
    web, db = vmm(alice, "web"), vmm(alice, "db")
    assert {vm["pid"] for vm in valid("alice", "list")} == {web.pid, db.pid}
    for verb in ("find-pid", "open-process"):
        assert ["pid" in vm for vm in valid("alice", verb, "web", "none", "db", code=NO_OBJECT)] == [True, False, True]
    assert valid("alice", "resolve-pid", "none", "1")["pid"] == 0
    assert valid("alice", "resolve-pid", "web", "1")["pid"] == web.pid
    assert valid("alice", "ensure-socket-access", "web") == {"api_sock": web.sock}
    assert valid("alice", "ensure-socket-access", "none", "--timeout=0", code=TIMED_OUT) is None
    waits = valid("alice", "wait-for-exit", "web", str(db.pid), "none", "--timeout=100ms", code=TIMED_OUT)
    assert [wait["error"]["name"].rsplit(".")[-1] for wait in waits] == ["WaitForExitTimeout"] * 2 + ["NoSuchProcess"]
    assert valid("alice", "kill", "web", str(db.pid), "none", code=NO_OBJECT)[1] == {"pid": db.pid, "sent": True}
    assert [wait["pid"] for wait in valid("alice", "wait-for-exit", str(web.pid), str(db.pid))] == [web.pid, db.pid]


def test_ends(service, valid, begin, vmm, alice, bob, knows):
    """Each way to end there is: asked, asked in vain, gone before, not one's own."""
    web = vmm(alice, "web")
    waiting = begin("alice", "wait-for-exit", "--json=pretty", "web")
    watching = begin("alice", "watch-exit", "--json=pretty", "web", str(web.pid), "none")
    armed(alice, 3)
    assert [vm.get("sent") for vm in valid("alice", "send-ctrl-alt-del", "web", "none", "--timeout=0", code=TIMED_OUT)] == [True, None]
    [end] = json.loads(waiting.communicate(timeout=20)[0])
    schema.validate([end], "wait-for-exit")
    assert (end["cause"], end["status"]) == knows("exited", 0)
    out, err = watching.communicate(timeout=20)
    lines = [json.loads(line) for line in out.splitlines()]
    for line in lines:
        schema.validate(line, "watch-exit")
    assert ["error" in line for line in lines] == [True, False, False] and watching.returncode == NO_OBJECT
    schema.validate(json.loads(err), "error")
    vmm(alice, "quick"), vmm(alice, "deaf", "--standin-ignore-ctrl-alt-del")
    other = vmm(bob, "other")
    ends = valid("alice", "shutdown", "deaf", "quick", "none", other.sock, "--grace=300ms", code=DENIED)
    assert [end.get("how") for end in ends] == ["killed", "ctrl-alt-del", "already-gone", None] and other.alive()


def test_monitor(bridge, begin, vmm, alice, service, client, hold):
    """Every event there is, and nothing else."""
    vmm(alice, "web")
    alice.do("CreateTap", "tap0")
    hold("alice", "tap0")
    monitor = begin("alice", "monitor", "--json=pretty")
    seen = []

    def until(event):
        while not seen or seen[-1]["event"] != event:
            line = monitor.stdout.readline()
            assert line, seen
            seen.append(json.loads(line))
            schema.validate(seen[-1], "monitor")

    until("tap")
    db = vmm(alice, "db")
    until("process-appeared")
    db.signal(signal.SIGKILL)
    until("process-exited")
    alice.do("CreateTap", "tap1")
    until("tap-created")
    alice.do("DeleteTap", "tap1")
    until("tap-deleted")
    service.restart()
    until("service-restarted")
    until("tap")
    [words] = {tuple(sorted(schema.schema_form(schema.PUBLISHED["$defs"]["monitor"])["event"].of))}
    assert {event["event"] for event in seen} == set(words)


def test_prune(bridge, valid, vmm, alice):
    dead = stale(vmm(alice, "dead"))
    alice.do("CreateTap", "tap0")
    eventually(lambda: len(valid("alice", "prune", "--dry-run")) == 2, 20, "the socket's age")
    left = valid("alice", "prune")
    assert {"api_sock": dead, "removed": True} in left and {"tap": "tap0", "removed": True} in left
    assert valid("alice", "prune") == []


def test_doctor(bridge, ctl):
    """Its exit code is this machine's; its shape is not."""
    for mode in ("short", "pretty"):
        result = ctl("alice", "doctor", f"--json={mode}", code=None)
        schema.validate(result.json, "doctor")
        assert result.err == "" and result.code == (FAILED if any(c["result"] == "fail" for c in result.json) else DONE)


def test_run(bridge, ctl):
    """The console goes to stderr, which leaves stdout to the JSON."""
    configuration = machines.vm_config(WORK / "run.json", WORK / "bin" / "guest", "tap0")
    result = ctl("alice", "run", "web", "-j", f"--config-file={configuration}", "--", "--standin-exit-after=300:77", code=77)
    schema.validate(result.json, "run")
    assert result.json["taps"] == ["tap0"]


@pytest.mark.parametrize("arguments, code", [(["zzz"], USAGE), (["create-tap"], USAGE), (["--json=pretty", "kill", "0"], USAGE),
                                             (["list"], NO_SERVICE)])  # fmt: skip
def test_early_failures(ctl, arguments, code):
    """Before there is a connection, too; with -j anywhere on the line."""
    result = ctl("alice", *arguments, "-j", code=code, env=NOWHERE)
    assert result.out == ""
    schema.validate(json.loads(result.err), "error")


def test_refused_as_json(bridge, valid, polkit, carol):
    """What polkit refuses, of one and of several."""
    polkit.rules(deny("*", "create-tap", "manage-bridge"))
    assert valid("carol", "ensure-bridge") is not None  # there is nothing to do, so nobody is asked
    assert valid("carol", "remove-bridge", code=DENIED) is None
    assert ["error" in tap for tap in valid("carol", "create-tap", "tap0", "tap1", code=DENIED)] == [True, True]
    assert machines.taps() == {}
