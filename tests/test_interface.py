# SPDX-License-Identifier: MIT
"""What the service offers: the interface is the XML, the actions are the policy, and every method,
taken from the introspection and not from a list, minds polkit and its options."""

import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from daemons import deny, grant
from fcproc import ACTIONS, CHECKOUT, FCPROCD, FOREVER, NAME, PATH, SECOND, XML, GLib, refused, run_until
from machines import assert_unchanged, links, snapshot, taps

ACTION = f"{NAME}.Action"


def describe(interface):
    """Every member of an <interface> with all that counts, so that two can be compared."""

    def args(node, default):
        return [(a.get("name"), a.get("type"), a.get("direction", default)) for a in node.iterfind("arg")]

    members = {}
    for node in interface.iterfind("method"):
        both = args(node, "in")
        members["method", node.get("name")] = [a for a in both if a[2] == "in"], [a for a in both if a[2] == "out"]
    for node in interface.iterfind("signal"):
        members["signal", node.get("name")] = [a[:2] for a in args(node, "out")]
    for node in interface.iterfind("property"):
        members["property", node.get("name")] = node.get("type"), node.get("access")
    return members


def interface_of(text):
    return ElementTree.fromstring(text).find(f"interface[@name='{NAME}']")


def annotated_methods():
    return {
        node.get("name"): node.find(f"annotation[@name='{ACTION}']").get("value")
        for node in interface_of(XML.read_text()).iterfind("method")
    }


def policy_actions():
    found = {}
    for path in sorted((CHECKOUT / "polkit").glob("*.policy")):
        for action in ElementTree.parse(path).iterfind("action"):
            found[action.get("id")] = action
    return found


def in_arguments(node, owner, vm):
    """Arguments with which a call would do something, from the arguments' names alone."""
    values = {
        "api_sock": vm.sock,
        "socket_path": vm.sock,
        "label": "web",
        "tap": "tap-mine",
        "pid": vm.pid,
        "machine_pid": vm.pid,
        "timeout_usec": 0,
        "grace_usec": 0,
        "options": {},
    }
    args = [a for a in node.iterfind("arg") if a.get("direction") == "in"]
    signature = "(" + "".join(a.get("type") for a in args) + ")"
    return signature, tuple(values[a.get("name")] for a in args)


# --- the interface is the XML ---


def test_introspection_is_the_xml(root):
    running, written = describe(interface_of(root.introspect())), describe(interface_of(XML.read_text()))
    assert running == written


def test_nothing_else_is_offered(root):
    interfaces = {i.get("name") for i in ElementTree.fromstring(root.introspect()).iterfind("interface")}
    standard = {f"org.freedesktop.DBus.{name}" for name in ("Peer", "Introspectable", "Properties", "ObjectManager")}
    assert interfaces - standard == {NAME}


def test_options_come_last_and_signals_can_grow():
    """Methods that change or wait end in options; signals in more."""
    look_ups = {"ListTaps", "ResolveBinary", "FindPID", "ResolvePID", "OpenProcess", "ListProcesses", "GetUsage"}
    for (kind, name), args in describe(interface_of(XML.read_text())).items():
        if kind == "signal":
            assert args[-1] == ("more", "a{sv}"), name
        elif kind == "method" and name not in look_ups | {"CancelWait", "Unsubscribe"}:
            assert args[0][-1] == ("options", "a{sv}", "in"), name
        elif kind == "property":
            assert args[1] == "read", name


def test_properties(root, alice):
    values = alice.properties()
    assert set(values) == {"Version", "BridgeName", "BridgeAddress", "RuntimeDir", "FirecrackerBin", "Features"}
    assert values["BridgeName"] == "br-fc"
    assert values["BridgeAddress"] == "172.16.0.1/24"
    assert values["RuntimeDir"] == "/run/banger"
    known = {"peer-pidfd", "exit-status", "fchmodat2", "locked-port", "live-rename"}
    assert set(values["Features"]) <= known
    release = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
    for feature, since in {"peer-pidfd": (6, 5), "fchmodat2": (6, 6), "locked-port": (5, 18), "live-rename": (6, 2)}.items():
        if release >= since:
            assert feature in values["Features"]


def test_version_is_the_daemons(service, root):
    text = subprocess.run([FCPROCD, "--version"], check=True, capture_output=True, text=True).stdout
    assert root.get("Version") in text


def test_no_text_names_a_method():
    """Who reads a text of the service may have called by another name: fcprocctl's verb, a library's function."""
    methods = [name for kind, name in describe(interface_of(XML.read_text())) if kind == "method"]
    word = re.compile(rf"\b(?:{'|'.join(methods)}|fcprocctl|busctl)\b")
    seen = 0
    for path in sorted((CHECKOUT / "service").rglob("*.c")):
        for call in re.findall(r'\bfailure_\w+\(\s*&?[^;"]*?((?:"(?:[^"\\]|\\.)*"\s*)+)', path.read_text()):
            text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', call))
            seen += 1
            assert not word.search(text), f"{path.name}: {text}"
    assert seen > 60


# --- the actions are the policy ---


def test_every_annotated_action_is_in_the_policy():
    for method, action in annotated_methods().items():
        assert action in policy_actions(), method


def test_the_policy_has_no_other_actions():
    assert set(policy_actions()) == set(annotated_methods().values()) | {ACTIONS + "manage-others"}


def test_actions_are_named_in_no_other_way():
    """No file of the service, the bus or polkit names an action that the policy does not have."""
    for directory in ("service", "dbus", "polkit", "client"):
        for path in (CHECKOUT / directory).rglob("*"):
            if path.suffix in {".c", ".h", ".xml", ".rules", ".policy", ".service", ".conf"}:
                for action in re.findall(r"org\.banger\.fcproc\.[a-z][a-z-]*", path.read_text()):
                    assert action in policy_actions(), f"{path.relative_to(CHECKOUT)}: {action}"


def test_defaults_of_the_policy():
    """What each action allows by itself: docs/permissions.md."""
    administrators = {
        "create-tap": ("auth_admin", "auth_admin", "auth_admin_keep"),
        "manage-bridge": ("auth_admin", "auth_admin", "auth_admin_keep"),
        "manage-others": ("auth_admin", "auth_admin", "auth_admin"),
    }
    for name, action in policy_actions().items():
        defaults = tuple(action.findtext(f"defaults/allow_{who}") for who in ("any", "inactive", "active"))
        assert defaults == administrators.get(name.removeprefix(ACTIONS), ("yes", "yes", "yes")), name
        owner = action.find("annotate[@key='org.freedesktop.policykit.owner']")
        assert owner is not None and owner.text == "unix-user:fcproc", name


def test_the_shipped_rule_is_for_the_group(service, bridge, carol, dave):
    """dave is in the group banger, carol is not."""
    with refused("InteractiveAuthorizationRequired", "AccessDenied"):
        carol.do("CreateTap", "tap-carol")
    assert dave.do("CreateTap", "tap-dave") > 0
    with refused("InteractiveAuthorizationRequired", "AccessDenied"):
        dave.do("CreateTap", "tap-other", isolated=False)


# --- every method ---


def walk(client, vm):
    """Calls every method that the running service introspects; yields its name and the pending call."""
    for node in interface_of(client.introspect()).iterfind("method"):
        signature, args = in_arguments(node, client, vm)
        yield node.get("name"), client.start(node.get("name"), signature, args)


def test_every_method_minds_polkit(bridge, alice, bob, polkit, vmm):
    """Hostile case 31: polkit says no, and nothing changes."""
    vm = vmm(alice, "web")
    alice.do("CreateTap", "tap-mine")
    polkit.rules(deny("alice"))
    before = snapshot()
    names = []
    for name, pending in walk(alice, vm):
        names.append(name)
        if name == "EnsureBridge":  # nothing is to be done: polkit is not asked
            pending.result()
            continue
        # That a bridge has ports is public, as links are.
        with refused("AccessDenied", *["InUse"] * (name == "RemoveBridge")):
            pending.result()
            print(f"{name} was allowed")
    assert len(names) == len(annotated_methods())
    assert_unchanged(before)
    assert vm.alive()
    polkit.rules()
    alice.ping()
    assert alice.signals == []


def test_ensure_bridge_minds_polkit(alice, polkit):
    """Where there is something to do."""
    polkit.rules(deny("alice"))
    before = snapshot()
    with refused("AccessDenied"):
        alice.do("EnsureBridge")
    assert_unchanged(before)


def test_every_method_works_for_root(root, vmm, polkit):
    """uid 0 is not asked: polkit denies everything here, and even its absence changes nothing."""
    polkit.rules(deny("*"))
    polkit.stop()
    vm = vmm("root", "web", "--standin-ignore-ctrl-alt-del")
    root.do("EnsureBridge")
    worked = {}
    order = {"RemoveBridge": 3, "DeleteTap": 2, "Shutdown": 2, "Kill": 2}  # the others need what these end
    nodes = sorted(interface_of(root.introspect()).iterfind("method"), key=lambda n: order.get(n.get("name"), 1))
    for node in nodes:
        name = node.get("name")
        signature, args = in_arguments(node, root, vm)
        try:
            worked[name] = root.call(name, signature, args)
        except Exception as error:
            worked[name] = error
            if name in {"WaitForExit"}:  # the VMM lives; the deadline was now
                assert "WaitForExitTimeout" in str(error)
                worked[name] = None
    assert not [f"{n}: {e}" for n, e in worked.items() if isinstance(e, Exception)]
    assert "br-fc" not in links()


def test_every_method_works_for_an_ordinary_user(service, bridge, alice, vmm, polkit):
    """One whom polkit allows it."""
    polkit.rules(grant("alice", *[a.removeprefix(ACTIONS) for a in annotated_methods().values()]), deny("*"))
    vm = vmm(alice, "web")
    assert alice.do("EnsureBridge")[0] == "br-fc"
    assert alice.do("EnsureSocketDir") == str(alice.directory)
    assert alice.do("CreateTap", "tap0") == links()["tap0"]["ifindex"]
    assert [t[0] for t in alice.do("ListTaps")] == ["tap0"]
    assert alice.do("ResolveBinary").endswith("/firecracker")
    alice.do("EnsureSocketAccess", vm.sock, "web")
    assert alice.do("FindPID", vm.sock) == vm.pid
    assert alice.do("ResolvePID", vm.sock, 0) == vm.pid
    pid, fd = alice.do("OpenProcess", vm.sock)
    os.close(fd)
    assert pid == vm.pid
    alice.do("Subscribe")
    alice.wait_signal("ProcessAppeared", vm.pid)
    assert [p[0] for p in alice.do("ListProcesses")] == [vm.pid]
    assert alice.do("GetUsage")["taps"] == 1
    assert alice.do("WatchExit", 0, vm.sock, FOREVER) == vm.pid
    assert alice.do("CancelWait", vm.pid, "") == 1
    wait = alice.begin("WaitForExit", vm.pid, vm.sock, FOREVER)
    alice.do("SendCtrlAltDel", vm.sock)
    assert wait.result() == ("exited", 0)
    second, third = vmm(alice, "second"), vmm(alice, "third")
    assert alice.do("Shutdown", second.sock, 5 * SECOND) == ("ctrl-alt-del", "exited", 0)
    alice.do("Kill", third.pid, third.sock)
    alice.wait_signal("ProcessExited", third.pid)
    alice.do("Unsubscribe")
    alice.do("DeleteTap", "tap0")
    alice.do("RemoveBridge")
    assert set(links()) == {"lo"}


def methods_with_options():
    return [n.get("name") for n in interface_of(XML.read_text()).iterfind("method") if n.find("arg[@name='options']") is not None]


@pytest.mark.parametrize("method", methods_with_options())
@pytest.mark.parametrize("option", [("no-such-option", "b"), ("", "b"), ("Auto-Delete", "b")], ids=["unknown", "empty", "case"])
def test_unknown_option(root, alice, vmm, method, option):
    vm = vmm(alice, "web")
    node = interface_of(XML.read_text()).find(f"method[@name='{method}']")
    signature, args = in_arguments(node, alice, vm)
    before = snapshot()
    with refused("InvalidArgs", says=option[0] or None):
        alice.call(method, signature, (*args[:-1], {option[0]: GLib.Variant(option[1], True)}))
    assert_unchanged(before)


WRONG_TYPES = [
    ("CreateTap", "tun-uid", GLib.Variant("s", "1000")),
    ("CreateTap", "tun-gid", GLib.Variant("i", 5)),
    ("CreateTap", "guest-mac", GLib.Variant("ay", b"\x02\0\0\0\0\1")),
    ("CreateTap", "isolated", GLib.Variant("u", 1)),
    ("CreateTap", "mtu", GLib.Variant("i", 1400)),
    ("CreateTap", "auto-delete", GLib.Variant("s", "yes")),
    ("CreateTap", "auto-delete", GLib.Variant("v", GLib.Variant("b", True))),
    ("Shutdown", "force", GLib.Variant("u", 1)),
    ("EnsureSocketAccess", "timeout-usec", GLib.Variant("u", 1)),
    ("SendCtrlAltDel", "timeout-usec", GLib.Variant("x", 1)),
    ("EnsureBridge", "force", GLib.Variant("b", True)),
]


@pytest.mark.parametrize("method,option,value", WRONG_TYPES, ids=lambda v: v if isinstance(v, str) else "")
def test_option_of_a_wrong_type(bridge, alice, vmm, method, option, value):
    vm = vmm(alice, "web")
    node = interface_of(XML.read_text()).find(f"method[@name='{method}']")
    signature, args = in_arguments(node, alice, vm)
    before = snapshot()
    with refused("InvalidArgs", says=option):
        alice.call(method, signature, (*args[:-1], {option: value}))
    assert_unchanged(before)


def test_the_same_option_twice(bridge, alice):
    """A dictionary with a key twice can be sent; it is not for the service to choose."""
    text = "{'mtu': <uint32 1400>, 'mtu': <uint32 1300>}"
    options = GLib.Variant.parse(GLib.VariantType("a{sv}"), text, None, None)
    builder = GLib.VariantBuilder(GLib.VariantType("(sa{sv})"))
    builder.add_value(GLib.Variant("s", "tap0"))
    builder.add_value(options)
    reply = []
    alice.connection.call(NAME, PATH, NAME, "CreateTap", builder.end(), None, 0, -1, None,
                          lambda c, r: reply.append(r))  # fmt: skip
    run_until(lambda: reply)
    with pytest.raises(GLib.Error, match="InvalidArgs"):
        alice.connection.call_finish(reply[0])
    assert not taps()
