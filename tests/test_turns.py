# SPDX-License-Identifier: MIT
"""polkit's questions: nobody's are in another's way, whether their caller waits, hangs up or leaves a dialog open."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import USUAL_RULES
from daemons import Bus, Polkit, grant
from fcproc import Account, Client, eventually

# A user with an agent of their own that shows a dialog and never answers it, and with `calls` calls that need one.
AGENT = """
import os, sys
from gi.repository import Gio, GLib
address, calls, tap = sys.argv[1], int(sys.argv[2]), sys.argv[3]
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
bus = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
XML = '''<node><interface name="org.freedesktop.PolicyKit1.AuthenticationAgent">
<method name="BeginAuthentication"><arg type="s"/><arg type="s"/><arg type="s"/><arg type="a{ss}"/><arg type="s"/><arg type="a(sa{sv})"/></method>
<method name="CancelAuthentication"><arg type="s"/></method></interface></node>'''
open_dialogs = {}

def on_method(connection, sender, path, interface, method, parameters, invocation):
    if method == "BeginAuthentication":
        open_dialogs[parameters.unpack()[4]] = invocation
        print("opened", flush=True)
    else:
        dialog = open_dialogs.pop(parameters.unpack()[0], None)
        print("closed", flush=True)
        invocation.return_value(None)
        if dialog:
            dialog.return_dbus_error("org.freedesktop.PolicyKit1.Error.Cancelled", "closed")

bus.register_object("/agent", Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0], on_method, None, None)
start = open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()[19]
subject = ("unix-process", {"pid": GLib.Variant("u", os.getpid()), "start-time": GLib.Variant("t", int(start))})
bus.call_sync("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
              "RegisterAuthenticationAgent", GLib.Variant("((sa{sv})ss)", (subject, "C", "/agent")), None, 0, -1, None)

def on_reply(connection, result):
    try:
        connection.call_finish(result)
        print("done", flush=True)
    except GLib.Error as error:
        print("failed", error.message, flush=True)

for n in range(calls):
    bus.call("org.banger.FcProc", "/org/banger/FcProc", "org.banger.FcProc", "CreateTap",
             GLib.Variant("(sa{sv})", (f"{tap}{n}", {})), None,
             Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, 2**31 - 1, None, on_reply)
GLib.MainLoop().run()
"""


@pytest.fixture(scope="module")
def crowd():
    """Sixteen users, and a seventeenth."""
    names = [f"crowd{n}" for n in range(17)]
    for name in names:
        subprocess.run(["useradd", "--no-log-init", "--no-create-home", "--home-dir", "/", "--user-group", name], check=True)
    yield names
    for name in names:
        subprocess.run(["userdel", name], check=True)


@pytest.fixture
def admins(polkit):
    """Questions are for root."""
    rule = Path("/etc/polkit-1/rules.d/01-fcproc-admin.rules")
    rule.write_text('polkit.addAdminRule(function(action, subject) { return ["unix-user:root"]; });\n')
    rule.chmod(0o644)
    polkit.rules(*USUAL_RULES, grant("nobody-yet"))
    yield polkit
    rule.unlink()


class Agent:
    def __init__(self, start, bus, who, calls, tap):
        account = Account(who)
        self.process = start(sys.executable, "-c", AGENT, bus.address, str(calls), tap, user=account.uid, group=account.gid,
                             extra_groups=account.groups, stdout=subprocess.PIPE, cwd="/")  # fmt: skip
        os.set_blocking(self.process.stdout.fileno(), False)
        self.seen = ""

    def look(self):
        while chunk := self.process.stdout.read():
            self.seen += chunk.decode()
        return self.seen.split("\n")

    def open(self):
        lines = self.look()
        return lines.count("opened") - lines.count("closed")


def test_dialogs_that_stay_open(service, bridge, admins, crowd, start, bus, bob):
    """Sixteen users with eight dialogs each: the seventeenth gets one, and who needs none waits for nobody."""
    agents = [Agent(start, bus, name, 8, f"fc{n}-") for n, name in enumerate(crowd[:16])]
    eventually(lambda: sum(agent.open() for agent in agents) >= 48, 60, "their dialogs")
    last = Agent(start, bus, crowd[16], 1, "fclast")
    eventually(lambda: last.open() == 1, 20, "the seventeenth's dialog")
    begun = time.monotonic()
    bob.do("CreateTap", "tapbob")
    assert time.monotonic() - begun < 5
    bob.do("DeleteTap", "tapbob")
    eventually(lambda: all(agent.open() >= 3 for agent in agents), 60, "an even share of dialogs")
    assert not any("failed" in line for agent in [*agents, last] for line in agent.look())
    for agent in agents:
        agent.process.kill()
        agent.process.wait()
    # what their connections had is closed and answered: all the slots are there again
    more = Agent(start, bus, crowd[0], 8, "fcagain")
    eventually(lambda: more.open() == 8, 60, "eight more dialogs")


HANGS_UP = """
import sys, time
from gi.repository import Gio, GLib
address, seconds = sys.argv[1], float(sys.argv[2])
flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
print("ready", flush=True)
end = time.monotonic() + seconds
while time.monotonic() < end:
    c = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
    for n in range(60):
        m = Gio.DBusMessage.new_method_call("org.banger.FcProc", "/org/banger/FcProc", "org.banger.FcProc", "FindPID")
        m.set_body(GLib.Variant("(s)", ("/run/banger/%d/web.sock" % __import__("os").getuid(),)))
        c.send_message(m, 0)
    c.flush_sync(None)
    time.sleep(0.005)
    c.close_sync(None)
"""


def test_hanging_up_denies_nobody(service, alice, bob, start, bus):
    """Connect, sixty calls, close after 5 ms, again: none of bob's calls fails."""
    account = alice.account
    vandals = [start(sys.executable, "-c", HANGS_UP, bus.address, "3", user=account.uid, group=account.gid,
                     extra_groups=account.groups, stdout=subprocess.PIPE, cwd="/") for _ in range(2)]  # fmt: skip
    for vandal in vandals:
        assert vandal.stdout.readline() == b"ready\n"
    answers = 0
    while any(vandal.poll() is None for vandal in vandals):
        calls = [bob.begin("GetUsage") for _ in range(8)]
        for call in calls:
            call.result()  # raises, were it denied
        answers += len(calls)
    assert answers > 8
    assert "gave no answer" not in service.log()
    for vandal in vandals:
        vandal.stdout.close()


def test_a_bus_that_takes_no_more(make_service, polkit):
    """A refusal by the bus is "later", never "denied"."""
    narrow = Bus("narrow", limits={"max_replies_per_connection": 6})
    polkitd = Polkit(narrow)
    try:
        polkitd.rules(*USUAL_RULES)
        service = make_service(bus=narrow).start()
        users = [Client(narrow, name) for name in ("alice", "bob", "carol")]
        calls = [user.begin("GetUsage") for user in users for _ in range(5)]
        for call in calls:
            call.result()
        for user in users:
            user.close()
        service.stop()
        service.watcher.close_sync(None)
    finally:
        polkitd.stop()
        narrow.stop()
