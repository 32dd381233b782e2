# SPDX-License-Identifier: MIT
"""fcprocctl as people see it: transcripts in tests/golden, one for each subject.

"alice$" is a command line, "|" its stdout, "!" its stderr, "= 4" an exit code other than 0. What is
another each time has a stand-in that is as wide: <P1> for a process, <U1> for a user, <I1> for a link.
GOLDEN_UPDATE=1 in the environment writes the files anew instead; look at the difference before it is
committed.
"""

import difflib
import os
import re
import signal
from pathlib import Path

import pytest

import machines
from ctl import DENIED, DONE, FAILED, NO_OBJECT, NO_SERVICE, NOWHERE, TIMED_OUT, USAGE, VERBS, armed, device, pretending, stale
from daemons import deny
from fcproc import Account, eventually

GOLDEN = Path(__file__).parent / "golden"
UPDATE = os.environ.get("GOLDEN_UPDATE")
ENDS = re.compile(r"exited, status \d+(: [\w ]+)?|killed by SIG\w+")


class Transcript:
    def __init__(self, name, ctl):
        self.path, self.ctl = GOLDEN / f"{name}.txt", ctl
        self.text, self.stand_ins, self.knows_ends = "", [], True

    def stand_in(self, value, name):
        """The value is shown as <name>; where it is in a column, its width stays."""
        self.stand_ins.append((rf"(?<![\w.-]){re.escape(str(value))}(?![\w])( *)", f"<{name}>"))

    def users(self, *names):
        for number, name in enumerate(names, 1):
            self.stand_in(Account(name).uid, f"U{number}")

    def cleaned(self, text):
        for pattern, name in self.stand_ins:
            width = lambda found: max(len(found[0]), len(name) + min(len(found[1]), 1))  # noqa: E731
            text = re.sub(pattern, lambda found: name.ljust(width(found)) if found[1] else name, text)
        return text

    def add(self, who, arguments, code, out, err):
        shown = " ".join(f"'{a}'" if re.search(r"[\s'*<>]", a) or not a else a for a in arguments)
        self.text += f"{who}$ fcprocctl {self.cleaned(shown)}".rstrip() + "\n"
        self.text += "".join(f"| {line}\n" for line in self.cleaned(out).splitlines())
        self.text += "".join(f"! {line}\n" for line in self.cleaned(err).splitlines())
        self.text += f"= {code}\n\n" if code else "\n"

    def run(self, who, *arguments, code=DONE, **options):
        result = self.ctl(who, *arguments, code=code, **options)
        assert not result.out or result.out.endswith("\n")
        self.add(who, arguments, result.code, result.out, result.err)
        return result

    def check(self):
        if UPDATE:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text)
        expected = self.path.read_text()
        if not self.knows_ends:  # as before Linux 6.15
            expected = ENDS.sub("ended, how is not known", expected)
            self.text = ENDS.sub("ended, how is not known", self.text)
        difference = difflib.unified_diff(expected.splitlines(), self.text.splitlines(), str(self.path), "now", lineterm="")
        assert self.text == expected, "GOLDEN_UPDATE=1 writes it anew:\n" + "\n".join(difference)


@pytest.fixture
def transcript(request, ctl):
    """transcript(name): what is run through it is compared at the test's end."""
    made = []

    def begin(name):
        made.append(Transcript(name, ctl))
        return made[-1]

    yield begin
    for each in [] if request.node.failed else made:
        each.check()


@pytest.fixture
def narrow():
    """Processes have four digits from now on, as the columns are as wide as what is in them."""
    last = Path("/proc/sys/kernel/ns_last_pid")

    def see_to_it():
        if not os.access(last, os.W_OK):
            pytest.skip("this kernel lets nobody choose process IDs (CONFIG_CHECKPOINT_RESTORE)")
        if not 1000 <= int(last.read_text()) < 8000:
            last.write_text("4000")

    see_to_it()
    return see_to_it


def test_help(transcript):
    t = transcript("help")
    t.run("alice", "--help")
    t.stand_ins.append((r"\d+\.\d+\.\d+()", "<VERSION>"))
    t.run("alice", "--version")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of(transcript, verb):
    transcript(f"help/{verb}").run("alice", verb, "--help")


def test_usage(transcript):
    t = transcript("usage")
    for arguments in ([], ["lits"], ["zzzzzzzzzzzz"], ["create-tap"], ["list", "web"], ["--nonsense", "list"], ["list", "--json=xml"],
                      ["list", "--json"], ["list", "--force"], ["list", "--mtu=1400"], ["kill", "web", "--grace=1"],
                      ["wait-for-exit", "web", "--timeout=soon"], ["create-tap", "tap0", "--mtu=12"],
                      ["create-tap", "tap0", "--tun-uid=nobody-of-that-name"], ["create-tap", "tap0", "--tun-gid=x"],
                      ["create-tap", "tap0", "--guest-mac=01:02:03:04:05:06"], ["create-tap", "tap0", "--isolated=maybe"],
                      ["create-tap", "tap0", "tap1", "--guest-mac=06:00:ac:10:00:02"], ["create-tap", "tap0", "tap0"],
                      ["create-tap", "Tap0"], ["kill", "0"], ["kill", ""], ["kill", "./web.sock"], ["find-pid", "4711"],
                      ["resolve-pid", "web", "many"], ["ensure-socket-access", "web", "<3>"], ["-H", "a", "-M", "b", "list"],
                      ["-H", "a", "doctor"]):  # fmt: skip
        t.run("alice", *arguments, code=USAGE, env=NOWHERE)


def test_nobody_there(transcript, bus):
    t = transcript("nobody-there")
    t.run("alice", "list", code=NO_SERVICE, env=NOWHERE)
    t.run("alice", "-j", "list", code=NO_SERVICE, env=NOWHERE)
    for verb in (["list"], ["status"], ["create-tap", "tap0"], ["wait-for-exit", "web"], ["monitor"]):
        t.run("alice", *verb, code=NO_SERVICE)


def test_host(transcript, service, polkit):
    t = transcript("host")
    t.users("alice", "carol")
    t.run("alice", "ensure-bridge")
    t.run("alice", "ensure-socket-dir")
    t.run("alice", "resolve-binary")
    t.run("alice", "get-usage")
    t.run("alice", "create-tap", "tap0", "-q")
    t.run("alice", "remove-bridge", code=FAILED)
    t.run("alice", "delete-tap", "tap0", "-q")
    t.run("alice", "remove-bridge")
    t.run("alice", "remove-bridge")
    t.run("carol", "ensure-bridge", code=DENIED)
    t.run("carol", "create-tap", "tap0", code=NO_OBJECT)
    t.run("alice", "ensure-bridge", "-q")
    t.run("carol", "create-tap", "tap0", code=DENIED)
    polkit.rules(deny("carol"))
    t.run("carol", "create-tap", "tap0", code=DENIED)
    t.run("carol", "list", code=DENIED)


@pytest.mark.config(firecracker_bin="/nonexistent/firecracker")
def test_no_binary(transcript, service):
    transcript("no-binary").run("alice", "resolve-binary", code=FAILED)


def test_taps(transcript, bridge, alice, bob, hold):
    t = transcript("taps")
    t.users("alice", "bob")
    t.run("alice", "taps")
    bob.do("CreateTap", "tap1")
    for name in ("tap0", "fc-long-name", "tap2"):
        alice.do("CreateTap", name, **({"mtu": 1400, "auto_delete": True} if name == "tap2" else {}))
    hold("alice", "fc-long-name")
    numbers = {name: link["ifindex"] for name, link in machines.taps().items()}
    for number, name in enumerate(sorted(numbers, key=numbers.get), 1):
        t.stand_in(numbers[name], f"I{number}")
    t.run("alice", "taps")
    t.run("alice", "taps", "--no-legend")
    t.run("root", "taps")
    t.run("alice", "delete-tap", "tap0", "tap9", "tap1", "fc-long-name", code=DENIED)
    t.run("alice", "delete-tap", "-q", "tap9")
    t.run("alice", "taps")
    result = t.ctl("alice", "create-tap", "tap3", "tap1", "wrong", "tap4", code=DENIED)
    for number, index in enumerate(re.findall(r"index (\d+)", result.out), 5):
        t.stand_in(index, f"I{number}")
    t.add("alice", ("create-tap", "tap3", "tap1", "wrong", "tap4"), result.code, result.out, result.err)


def test_guest_mac(transcript, bridge, alice, root):
    if "locked-port" not in root.get("Features"):
        pytest.skip("this kernel has no locked ports")
    t = transcript("guest-mac")
    t.users("alice")
    alice.do("CreateTap", "tap0", guest_mac="06:00:ac:10:00:02")
    t.stand_in(machines.taps()["tap0"]["ifindex"], "I1")
    t.run("alice", "taps")
    t.run("alice", "create-tap", "tap1", "--guest-mac=06:00:ac:10:00:02", code=FAILED)


def test_vms(transcript, service, vmm, alice, bob, start, narrow, knows):
    t = transcript("vms")
    t.knows_ends = knows("exited", 0)[0] == "exited"
    t.users("alice", "bob")
    t.run("alice", "list")
    web, other = vmm(alice, "web"), vmm(bob, "other")
    longer = vmm(alice, "a-longer-name", "--standin-ignore-ctrl-alt-del")
    process = start("sleep", "60", user=alice.uid)
    for number, pid in enumerate((web.pid, other.pid, longer.pid, process.pid), 1):
        t.stand_in(pid, f"P{number}")
    t.run("alice", "list")
    t.run("alice", "list", "--no-legend")
    t.run("root", "list")
    t.run("alice", "find-pid", "web")
    t.run("alice", "find-pid", "web", "none", "a-longer-name", code=NO_OBJECT)
    t.run("alice", "find-pid", other.sock, code=DENIED)
    t.run("alice", "open-process", "web")
    t.run("alice", "open-process", "web", "a-longer-name")
    t.run("alice", "resolve-pid", "none", str(web.pid))
    t.run("alice", "resolve-pid", "none", "0")
    t.run("alice", "ensure-socket-access", "web")
    t.run("alice", "ensure-socket-access", "none", "my VM", "--timeout=0", code=TIMED_OUT)
    t.run("alice", "wait-for-exit", "web", "--timeout=0", code=TIMED_OUT)
    t.run("alice", "send-ctrl-alt-del", "a-longer-name")
    t.run("alice", "send-ctrl-alt-del", "none", "--timeout=0", code=TIMED_OUT)
    t.run("alice", "shutdown", "a-longer-name", "web", "none", "--grace=300ms")
    t.run("alice", "wait-for-exit", "web", code=NO_OBJECT)
    t.run("alice", "wait-for-exit", str(web.pid))
    t.run("alice", "kill", str(process.pid), code=NO_OBJECT)
    third, fourth = vmm(alice, "third"), vmm(alice, "fourth")
    t.stand_in(third.pid, "P5")
    t.stand_in(fourth.pid, "P6")
    t.run("alice", "kill", "third", str(fourth.pid), "none", code=NO_OBJECT)
    t.run("alice", "kill", str(other.pid), code=DENIED)


def test_ends(transcript, service, begin, vmm, alice, knows, narrow):
    """What the two that wait say, side by side; and of a VMM that cannot be asked."""
    t = transcript("ends")
    t.users("alice")
    t.knows_ends = knows("exited", 0)[0] == "exited"
    vms = {name: vmm(alice, name) for name in ("asked", "killed")}
    vms["broken"] = vmm(alice, "broken", started=False)
    for number, name in enumerate(vms, 1):
        t.stand_in(vms[name].pid, f"P{number}")
    waits = [begin("alice", verb, "asked", "broken", "killed") for verb in ("wait-for-exit", "watch-exit")]
    armed(alice, 6)
    t.run("alice", "send-ctrl-alt-del", "asked", "broken", code=FAILED)
    first = waits[1].stdout.readline()
    t.run("alice", "kill", "killed")
    first += waits[1].stdout.readline()
    t.run("alice", "shutdown", "broken")
    for process, verb, before in zip(waits, ("wait-for-exit", "watch-exit"), ("", first)):
        out, err = process.communicate(timeout=20)
        t.add("alice", (verb, "asked", "broken", "killed"), process.returncode, before + out, err)


def test_status(transcript, bridge, vmm, alice, root):
    t = transcript("status")
    t.users("alice", "bob")
    t.stand_in(root.get("Version"), "VERSION")
    t.stand_ins.append((r"Features:.*()", "Features: <FEATURES>"))
    vmm(alice)
    alice.do("CreateTap", "tap0")
    alice.do("CreateTap", "tap1")
    t.run("alice", "status")
    t.run("bob", "status")
    t.run("alice", "get-usage")
    machines.run("ip", "link", "set", "br-fc", "down")
    t.run("alice", "status")
    machines.remove_links()
    t.run("alice", "status")


def test_prune(transcript, bridge, vmm, alice):
    t = transcript("prune")
    t.users("alice")
    stale(vmm(alice, "dead"))
    alice.do("CreateTap", "tap0")
    eventually(lambda: "dead" in t.ctl("alice", "prune", "--dry-run").out, 20, "the socket's age")
    t.run("alice", "prune", "--dry-run")
    t.run("alice", "prune")
    t.run("alice", "prune")


def test_monitor(transcript, bridge, begin, vmm, alice, service, client, knows, narrow):
    t = transcript("monitor")
    t.users("alice")
    t.knows_ends = knows("exited", 0)[0] == "exited"
    web = vmm(alice, "web")
    alice.do("CreateTap", "tap0")
    monitor = begin("alice", "monitor")
    out = ""

    def until(start):
        nonlocal out
        line = monitor.stdout.readline()
        out += line
        assert line.startswith(start), out

    until("process ")
    until("tap ")
    db = vmm(alice, "db")
    until("process-appeared ")
    db.signal(signal.SIGKILL)
    until("process-exited ")
    alice.do("CreateTap", "tap1")
    until("tap-created ")
    numbers = [machines.taps()[name]["ifindex"] for name in ("tap0", "tap1")]
    alice.do("DeleteTap", "tap1")
    until("tap-deleted ")
    service.restart()
    for start in ("service-lost", "service-restarted", "process ", "tap "):
        until(start)
    for number, value in enumerate((web.pid, db.pid), 1):
        t.stand_in(value, f"P{number}")
    for number, value in enumerate(numbers, 1):
        t.stand_in(value, f"I{number}")
    monitor.terminate()
    rest, err = monitor.communicate(timeout=20)
    t.add("alice", ("monitor",), 0, out + rest, err)


def test_names_of_all_kinds(transcript, service, vmm, alice, narrow):
    """Columns are as wide as letters are on a terminal, and nothing there is a control sequence."""
    t = transcript("names")
    t.users("alice")
    vms = [vmm(alice, name) for name in ("web", "bücher", "日本語", "e\u0301te\u0301", "mit leer")]
    for number, vm in enumerate(vms, 1):
        t.stand_in(vm.pid, f"P{number}")
    t.run("alice", "list")
    t.run("alice", "find-pid", "bücher", "日本語", "mit leer")
    t.run("alice", "kill", "e\u0301te\u0301")


GOOD = {
    "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    "/sys/kernel/mm/ksm/run": "0\n",
    "/sys/devices/system/cpu/smt/active": "0\n",
}
BAD = {
    "/proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/sda2\tpartition\t1\t0\t-2\n",
    "/sys/kernel/mm/ksm/run": "1\n",
    "/sys/devices/system/cpu/smt/active": "1\n",
}


def without_features(result):
    """Which ones there are is the kernel's."""
    result.out = re.sub(r"\w+ +kernel-features .*\n( +→ .*\n)?", "", result.out)
    return result


def test_doctor(transcript, bridge, bus, polkit):
    t = transcript("doctor")
    t.stand_ins.append((r"version \d+\.\d+\.\d+()", "version <VERSION>"))
    t.stand_ins.append((r"/\S+(?=/fcproc/nftables/)()", "<DATADIR>"))
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with device("kvm"):
        for who, files in (("dave", GOOD), ("carol", BAD)):
            result = without_features(t.ctl(who, "doctor", code=FAILED, within=pretending(files)))
            t.add(who, ("doctor",), result.code, result.out, result.err)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    with device("kvm", 0o660, "video"), device("net/tun", 0o600):
        result = t.ctl("alice", "doctor", code=FAILED, within=pretending(BAD), env=NOWHERE)
        t.add("alice", ("doctor",), result.code, result.out, result.err)
        result = t.ctl("alice", "doctor", "-q", code=FAILED, within=pretending(GOOD), env=NOWHERE)
        t.add("alice", ("doctor", "-q"), result.code, result.out, result.err)


def test_on_a_terminal(transcript, terminal, bridge, vmm, alice, narrow):
    """Headings underlined, results coloured, or nothing of it; escapes are shown as \\e."""
    t = transcript("terminal")
    t.users("alice")
    web = vmm(alice, "web")
    alice.do("CreateTap", "tap0")
    t.stand_in(web.pid, "P1")
    t.stand_in(machines.taps()["tap0"]["ifindex"], "I1")
    for arguments, variables in (
        (("list",), {"PAGER": "cat"}),
        (("list", "--no-legend"), {"PAGER": "cat"}),
        (("list",), {"PAGER": "cat", "NO_COLOR": "1"}),
        (("list",), {"PAGER": "cat", "TERM": "dumb"}),
        (("taps", "--no-pager"), {}),
        (("find-pid", "none"), {}),
        (("list", "-j"), {}),
    ):
        shown = terminal("alice", *arguments, **variables)
        code = shown.end()
        where = "".join(f"{name}={value} " for name, value in variables.items())
        text = re.sub(r',"pidfd-inode":\d+', "", shown.seen.replace("\r\n", "\n")).replace("\033", "\\e")
        t.text += where
        t.add("alice", arguments, code, text, "")
