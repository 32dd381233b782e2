# SPDX-License-Identifier: MIT
"""The daemons of the integration tests, all real: a private dbus-daemon, polkitd with the tests' rules, fcprocd."""

import json
import os
import signal
import subprocess
from pathlib import Path

from fcproc import FCPROCD, NAME, WORK, Gio, GLib, acting_as, eventually, run_until

# --- the bus ---

BUS_CONFIG = """<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"
          send_member="UpdateActivationEnvironment"/>
  </policy>
  <policy user="root">
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <includedir>/usr/share/dbus-1/system.d</includedir>
  <includedir>/etc/dbus-1/system.d</includedir>
</busconfig>
"""


class Bus:
    """A private dbus-daemon of type system, with the checkout's bus policy."""

    def __init__(self, name="bus", services=None, limits=None):
        """services: a directory of what it starts when it is called, as itself. limits: other than its own."""
        WORK.mkdir(exist_ok=True)
        config, path = WORK / f"{name}.conf", WORK / name
        path.unlink(missing_ok=True)
        more = f"<servicedir>{services}</servicedir>" if services else ""
        more += "".join(f'<limit name="{key}">{value}</limit>' for key, value in (limits or {}).items())
        config.write_text(BUS_CONFIG.format(socket=path).replace("</busconfig>", f"{more}</busconfig>"))
        self.process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address=1"],
            stdout=subprocess.PIPE,
        )
        self.address = self.process.stdout.readline().decode().strip()
        assert self.address, "dbus-daemon did not start"
        self.path = path
        self.environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=self.address)

    def connect(self, who="root"):
        with acting_as(who):
            return Gio.DBusConnection.new_for_address_sync(
                self.address,
                Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION,
                None,
                None,
            )

    def stop(self):
        self.process.kill()
        self.process.wait()


def wait_for_name(connection, name, process, within=20.0):
    """Until the bus says that name has an owner; fails at once when the process is gone."""
    owners = []
    watch = Gio.bus_watch_name_on_connection(
        connection, name, Gio.BusNameWatcherFlags.NONE, lambda c, n, owner: owners.append(owner), None
    )
    try:
        run_until(lambda: owners or process.poll() is not None, within, f"the bus name {name}", tick=0.05)
    finally:
        Gio.bus_unwatch_name(watch)
    return bool(owners)


# --- polkit ---

PROBE_POLICY = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/PolicyKit/1/policyconfig.dtd">
<policyconfig>
  <action id="org.banger.test.generation">
    <description>Which rules polkitd has read</description>
    <message>Which rules polkitd has read</message>
    <defaults><allow_any>no</allow_any><allow_inactive>no</allow_inactive><allow_active>no</allow_active></defaults>
  </action>
</policyconfig>
"""

RULES = """polkit.addRule(function(action, subject) {
    var rules = %s;
    if (action.id == "org.banger.test.generation")
        return action.lookup("generation") == "%s" ? "yes" : "no";
    for (var i = 0; i < rules.length; i++) {
        var rule = rules[i];
        var matches = action.id.indexOf("org.banger.fcproc.") == 0 &&
                      (rule.action == "*" || action.id == "org.banger.fcproc." + rule.action) &&
                      (rule.user == "*" || subject.user == rule.user);
        for (var key in rule.details)
            matches = matches && String(action.lookup(key)) === rule.details[key];
        if (matches)
            return rule.result;
    }
});
"""


def grant(user, *actions, result="yes", **details):
    """Rules for Polkit.rules: user may do these actions (of org.banger.fcproc.), if the details are these."""
    return [{"user": user, "action": a, "result": result, "details": details} for a in actions or ("*",)]


def deny(user, *actions, **details):
    return grant(user, *actions, result="no", **details)


class Polkit:
    """The real polkitd on the private bus, and the rules of the tests."""

    FILE = Path("/etc/polkit-1/rules.d/00-fcproc-test.rules")

    def __init__(self, bus):
        self.bus = bus
        self.process = self.connection = self.subject = self.current = None
        self.generation = 0
        policy = Path("/usr/share/polkit-1/actions/org.banger.test.policy")
        policy.write_text(PROBE_POLICY)
        self.FILE.unlink(missing_ok=True)
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["/usr/lib/polkit-1/polkitd", "--no-debug"], env=self.bus.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        if not self.connection:
            self.connection = self.bus.connect("root")
            self.subject = self.bus.connect("carol")  # root as the subject would always be told yes
        assert wait_for_name(self.connection, "org.freedesktop.PolicyKit1", self.process), "polkitd did not start"

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()

    def ensure_running(self):
        if self.process.poll() is not None:
            self.start()
            self.current = None

    def check(self, subject, action, details=None):
        """(is_authorized, is_challenge) for a connection's unique name."""
        reply = self.connection.call_sync(
            "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
            "CheckAuthorization",
            GLib.Variant("((sa{sv})sa{ss}us)", (("system-bus-name", {"name": GLib.Variant("s", subject)}),
                                                action, details or {}, 0, "")),
            None, Gio.DBusCallFlags.NO_AUTO_START, 10_000, None)  # fmt: skip
        return reply.unpack()[0][:2]

    def rules(self, *rules):
        """Puts these rules (lists from grant and deny, first match first) in force, before all others."""
        flat = [rule for group in rules for rule in group]
        if flat == self.current:
            return
        self.generation += 1
        self.current = None  # if it fails half-way, nobody knows
        new = self.FILE.with_suffix(".new")
        new.write_text(RULES % (json.dumps(flat), self.generation))
        new.chmod(0o644)
        new.rename(self.FILE)
        subject, details = self.subject.get_unique_name(), {"generation": str(self.generation)}
        # polkitd says Changed when it has read them; that is what mostly ends the wait.
        eventually(lambda: self.check(subject, "org.banger.test.generation", details)[0], 10, "polkitd's new rules")
        self.current = flat


# --- the service ---

CAPABILITIES = ",".join(f"+{c}" for c in ("net_admin", "chown", "fowner", "dac_override", "kill"))


class Service:
    """One fcprocd, as root or as the account that FCPROC_AS names."""

    number = 0

    def __init__(self, bus, config, environment=None):
        Service.number += 1
        self.bus = bus
        self.directory = WORK / f"service-{Service.number}"
        self.directory.mkdir()
        self.config_file = self.directory / "fcproc.conf"
        self.log_file = self.directory / "log"
        self.config = {"firecracker_bin": str(WORK / "bin" / "firecracker"), **config}
        self.environment = dict(bus.environment, **(environment or {}))
        self.process = None
        self.expected_to_die = False
        self.watcher = bus.connect("root")

    def write_config(self, **changes):
        self.config.update(changes)
        lines = [f"{key} = {value}\n" for key, value in self.config.items()]
        self.config_file.write_text("[fcproc]\n" + "".join(lines))

    def command(self):
        command = [str(FCPROCD), f"--config={self.config_file}"]
        account = os.environ.get("FCPROC_AS")
        if not account:
            return command
        return ["/usr/bin/setpriv", f"--reuid={account}", f"--regid={account}", "--clear-groups",
                f"--inh-caps=-all,{CAPABILITIES}", f"--ambient-caps=-all,{CAPABILITIES}",
                f"--bounding-set=-all,{CAPABILITIES}", "--", *command]  # fmt: skip

    def launch(self):
        """Starts it without waiting; for configurations it must refuse."""
        if not self.config_file.exists():
            self.write_config()
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        return self

    def start(self):
        self.launch()
        assert wait_for_name(self.watcher, NAME, self.process), f"fcprocd did not start:\n{self.log()}"
        return self

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Ends it as systemd would; it must end well, and no sanitizer may have spoken."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.process and not self.expected_to_die:
            assert self.process.returncode == 0, f"fcprocd ended with {self.process.returncode}"
        for line in self.log().splitlines():
            assert not any(word in line for word in ("Sanitizer", "runtime error:", "Assertion")), line

    def restart(self):
        self.stop()
        return self.start()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def private_memory(self):
        """Bytes that nobody else can share: clean pages of a file come and go with its other users."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))
