# SPDX-License-Identifier: MIT
"""Who may: polkit asked for the right thing, answered, changed, silent or gone. Every method under "no" is
in test_interface.py."""

import os
import signal
from pathlib import Path

import pytest

from daemons import deny, grant
from fcproc import FOREVER, Gio, GLib, pause, refused, run_until
from machines import assert_unchanged, links, snapshot, taps

NO_ACCESS = ("AccessDenied", "InteractiveAuthorizationRequired")
AUTHORITY = "org.freedesktop.PolicyKit1"


# --- rules that change between calls ---


def test_grant_deny_grant(bridge, alice, polkit):
    for _ in range(3):
        polkit.rules(grant("alice", "create-tap", "delete-tap"))
        index = alice.do("CreateTap", "tap0")
        assert links()["tap0"]["ifindex"] == index
        polkit.rules(deny("alice"))
        before = snapshot()
        for method in ("CreateTap", "DeleteTap"):
            with refused("AccessDenied"):
                alice.do(method, "tap0")
        assert_unchanged(before)
        polkit.rules(grant("alice", "delete-tap"))
        alice.do("DeleteTap", "tap0")
        with refused(*NO_ACCESS):
            alice.do("CreateTap", "tap0")
        assert not taps()


def test_each_method_asks_for_its_own_action(service, bridge, alice, polkit, vmm):
    """Granted all but one action: only its methods are refused."""
    vm = vmm(alice, "web")
    alice.do("CreateTap", "tap0")
    calls = {
        "inspect": [("FindPID", vm.sock), ("ResolvePID", vm.sock, 0), ("ListTaps",), ("ListProcesses",), ("GetUsage",), ("ResolveBinary",)],
        "wait-for-exit": [("WatchExit", vm.pid, vm.sock, FOREVER), ("CancelWait", 0, ""), ("Subscribe",), ("Unsubscribe",)],
        "ensure-socket-dir": [("EnsureSocketDir",)],
        "ensure-socket-access": [("EnsureSocketAccess", vm.sock, "web")],
        "create-tap": [("CreateTap", "tap0")],
    }
    for denied in calls:
        polkit.rules(deny("alice", denied), grant("alice"))
        for action, methods in calls.items():
            for method in methods:
                if action == denied:
                    with refused("AccessDenied"):
                        alice.do(*method)
                else:
                    alice.do(*method)


DETAILS = [
    ("CreateTap", ("tap0",), "create-tap", {"method": "CreateTap", "tap": "tap0", "bridge": "br-fc"}),
    ("DeleteTap", ("tap1",), "delete-tap", {"method": "DeleteTap", "tap": "tap1", "owner_uid": "ALICE"}),
    ("FindPID", ("SOCK",), "inspect", {"method": "FindPID", "api_sock": "SOCK", "owner_uid": "ALICE"}),
    ("Kill", ("PID", "SOCK"), "kill", {"method": "Kill", "pid": "PID", "api_sock": "SOCK", "owner_uid": "ALICE"}),
    ("EnsureSocketAccess", ("SOCK", "web"), "ensure-socket-access", {"method": "EnsureSocketAccess", "api_sock": "SOCK"}),
    ("RemoveBridge", (), "manage-bridge", {"method": "RemoveBridge", "bridge": "br-fc"}),
]


@pytest.mark.parametrize("method,args,action,details", DETAILS, ids=lambda v: v if isinstance(v, str) else "")
def test_the_details(service, bridge, alice, polkit, vmm, method, args, action, details):
    """A rule that looks them up grants; were one of them missing or another, it would not."""
    vm = vmm(alice, "web")
    if method != "RemoveBridge":
        alice.do("CreateTap", "tap1")
    real = {"ALICE": str(alice.uid), "SOCK": vm.sock, "PID": str(vm.pid)}
    details = {key: real.get(value, value) for key, value in details.items()}
    args = [vm.pid if a == "PID" else real.get(a, a) for a in args]
    for key in details:
        polkit.rules(grant("alice", action, **{**details, key: "something else"}), deny("alice"))
        with refused("AccessDenied"):
            alice.do(method, *args)
    polkit.rules(grant("alice", action, **details), deny("alice"))
    alice.do(method, *args)


def test_manage_others(service, bridge, alice, bob, polkit, vmm):
    """Instead of the method's own action, not beside it; with the owner among the details."""
    vm = vmm(bob, "web")
    index = bob.do("CreateTap", "tap0")
    polkit.rules(grant("alice", "inspect", "delete-tap", "kill", "shutdown"), deny("alice"))
    before = snapshot()
    for call in (("FindPID", vm.sock), ("DeleteTap", "tap0"), ("Kill", 0, vm.sock), ("Shutdown", vm.sock, 0)):
        with refused("AccessDenied"):
            alice.do(*call)
    assert_unchanged(before)
    polkit.rules(grant("alice", "manage-others", owner_uid=str(bob.uid)), deny("alice"))
    assert alice.do("FindPID", vm.sock) == vm.pid
    assert alice.do("OpenProcess", vm.sock)[0] == vm.pid
    alice.do("DeleteTap", "tap0")
    assert "tap0" not in links() and index
    assert alice.do("Shutdown", vm.sock, 10_000_000)[0] == "ctrl-alt-del"
    polkit.rules(grant("alice", "manage-others"), deny("alice"))
    with refused("AccessDenied"):
        alice.do("FindPID", alice.sock("own"))  # her own needs `inspect`


def test_lists_show_ones_own_whatever_polkit_says(service, bridge, alice, bob, polkit, vmm):
    vmm(bob, "web")
    bob.do("CreateTap", "tap0")
    polkit.rules(grant("alice"))
    assert alice.do("ListTaps") == [] and alice.do("ListProcesses") == []


# --- asking people ---


class Agent:
    """A polkit authentication agent for this process: root's word makes an administrator of whoever is asked.

    answer is "yes", "no" or, where the test decides later, "hold".
    """

    XML = """<node><interface name="org.freedesktop.PolicyKit1.AuthenticationAgent">
      <method name="BeginAuthentication"><arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="s" direction="in"/>
        <arg type="a{ss}" direction="in"/><arg type="s" direction="in"/><arg type="a(sa{sv})" direction="in"/></method>
      <method name="CancelAuthentication"><arg type="s" direction="in"/></method></interface></node>"""

    def __init__(self, bus, answer):
        self.connection, self.answer, self.asked, self.held = bus.connect("root"), answer, [], []
        info = Gio.DBusNodeInfo.new_for_xml(self.XML).interfaces[0]
        self.connection.register_object("/agent", info, self.called, None, None)
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        subject = ("unix-process", {"pid": GLib.Variant("u", os.getpid()), "start-time": GLib.Variant("t", int(fields[19])),
                                    "uid": GLib.Variant("i", 0)})  # fmt: skip
        done = []
        self.authority("RegisterAuthenticationAgent", GLib.Variant("((sa{sv})ss)", (subject, "C", "/agent")), lambda: done.append(True))
        run_until(lambda: done, 10, "the agent's registration")

    def authority(self, method, arguments, then):
        """Calls polkitd; `then` runs when it has answered."""

        def answered(connection, result):
            try:
                connection.call_finish(result)
            except GLib.Error as error:
                print(f"{method}: {error.message}")
            then()

        self.connection.call(AUTHORITY, f"/{AUTHORITY.replace('.', '/')}/Authority", f"{AUTHORITY}.Authority", method, arguments, None,
                             0, 5000, None, answered)  # fmt: skip

    def called(self, connection, sender, path, interface, method, arguments, invocation):
        if method == "CancelAuthentication":
            invocation.return_value(None)
            return
        action, message, icon, details, cookie, identities = arguments.unpack()
        self.asked.append((action, message, details))
        if self.answer == "hold":
            self.held.append((invocation, cookie, identities))
        elif self.answer == "yes":
            self.agree(invocation, cookie, identities)
        else:
            invocation.return_dbus_error(f"{AUTHORITY}.Error.Cancelled", "dismissed")

    def agree(self, invocation, cookie, identities):
        who = ("unix-user", {"uid": GLib.Variant("u", identities[0][1]["uid"])})
        self.authority("AuthenticationAgentResponse2", GLib.Variant("(us(sa{sv}))", (0, cookie, who)),
                       lambda: invocation.return_value(None))  # fmt: skip


@pytest.fixture
def agent(bus, polkit):
    made = []

    def make(answer):
        made.append(Agent(bus, answer))
        return made[-1]

    yield make
    for each in made:
        each.connection.close_sync(None)


def test_the_interactive_flag(bridge, carol, polkit, agent):
    """Asked only where the message allows it; then the text is one that people understand."""
    people = agent("yes")
    before = snapshot()
    with refused("InteractiveAuthorizationRequired"):
        carol.do("CreateTap", "tap0")
    assert_unchanged(before)
    assert people.asked == []
    carol.do("CreateTap", "tap0", interactive=True)
    action, message, details = people.asked[0]
    assert action == "org.banger.fcproc.create-tap" and "tap0" in message and "$(" not in message
    assert links()["tap0"]["ifalias"].endswith(f"uid={carol.uid}")


def test_dismissed(bridge, carol, polkit, agent):
    people = agent("no")
    before = snapshot()
    with refused(*NO_ACCESS):
        carol.do("CreateTap", "tap0", interactive=True)
    assert len(people.asked) == 1
    assert_unchanged(before)


def test_lists_never_prompt(service, alice, carol, polkit, agent):
    people = agent("yes")
    polkit.rules(grant("carol", "inspect", result="auth_admin"))
    for method in ("ListTaps", "ListProcesses"):
        with refused(*NO_ACCESS):
            carol.do(method, interactive=True)
    assert people.asked == []


def test_everything_is_looked_at_again_after_the_answer(bridge, carol, bob, polkit, agent):
    """While somebody is asked about carol's new tap, bob takes the name: the yes comes too late."""
    people = agent("hold")
    pending = carol.begin("CreateTap", "tap0", interactive=True)
    run_until(lambda: people.held, 10, "the question")
    index = bob.do("CreateTap", "tap0")
    people.agree(*people.held[0])
    with refused(*NO_ACCESS):
        pending.result()
    assert links()["tap0"]["ifindex"] == index and links()["tap0"]["ifalias"].endswith(f"uid={bob.uid}")


def test_the_asker_disconnects(service, bridge, client, bob, polkit, agent):
    """What was asked for him is not done, and nothing of his is left."""
    people = agent("hold")
    carol = client("carol")
    carol.begin("CreateTap", "tap0", interactive=True)
    run_until(lambda: people.held, 10, "the question")
    before = snapshot()
    carol.close()
    bob.ping()
    people.agree(*people.held[0])
    pause(0.1)
    bob.ping()
    assert_unchanged(before)
    assert bob.do("CreateTap", "tap0")


# --- polkit gone (hostile case 32) ---


def test_polkitd_absent(bridge, root, alice, polkit, vmm):
    vm = vmm(alice, "web")
    polkit.stop()
    before = snapshot()
    for call in (("CreateTap", "tap0"), ("FindPID", vm.sock), ("EnsureSocketDir",), ("Kill", 0, vm.sock), ("GetUsage",)):
        with refused("AccessDenied"):
            alice.do(*call)
    assert_unchanged(before)
    assert root.do("CreateTap", "tap0") and root.do("FindPID", vm.sock) == vm.pid
    polkit.start()
    assert alice.do("FindPID", vm.sock) == vm.pid


def test_polkitd_killed_while_asked(bridge, root, alice, polkit):
    alice.do("CreateTap", "tap1")
    polkit.process.send_signal(signal.SIGSTOP)
    pending = [alice.begin("CreateTap", f"tap{n}") for n in range(2, 22)]
    root.do("CreateTap", "tap0")  # nobody else waits
    before = snapshot()
    assert not any(call.done for call in pending)
    polkit.process.kill()
    polkit.process.wait()
    for call in pending:
        with refused("AccessDenied"):
            call.result()
    after = {**before, "processes": {k: v for k, v in before["processes"].items() if k != polkit.process.pid}}
    assert_unchanged(after)


def test_polkitd_that_hangs_holds_up_only_those_it_is_asked_about(bridge, alice, bob, root, polkit):
    """max_polkit_per_user: alice's questions beyond her share wait; bob's are asked when polkitd goes on."""
    polkit.process.send_signal(signal.SIGSTOP)
    hers = [alice.begin("ListTaps") for _ in range(40)]
    his = bob.begin("ListTaps")
    root.ping()
    assert not his.done
    polkit.process.send_signal(signal.SIGCONT)
    assert his.result() == []
    waiting = sum(not call.done for call in hers)
    assert [call.result() for call in hers] == [[]] * 40
    print(f"{waiting} of alice's 40 were still waiting when bob had his answer")
