# SPDX-License-Identifier: MIT
"""The manual pages as man shows them: held to the programs, the sources and the service, and their rules tried."""

import json
import os
import re
import shutil
import subprocess
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from ctl import BUILT
from daemons import grant
from fcproc import BUILD, CHECKOUT, FCPROCD, FOREVER, NAME, SECOND, XML, refused
from machines import links

MAN = BUILD / "docs" / "man"
PAGES = ["fcprocctl.1", "org.banger.FcProc.5", "fcproc.conf.5", "fcproc-polkit.7", "fcprocd.8"]
POLICY = CHECKOUT / "polkit" / "org.banger.fcproc.policy"
NO_ACCESS = ("AccessDenied", "InteractiveAuthorizationRequired")
OTHERS_OPTIONS = {"--api-sock", "--no-api", "--user", "--no-run-if-empty"}  # firecracker's, systemd-run's, xargs's

if not shutil.which("scdoc") and not MAN.exists():
    pytest.skip("the manual pages were not built: there is no scdoc", allow_module_level=True)


def run(*command, **variables):
    env = {**os.environ, "LC_ALL": "C.UTF-8", "LANGUAGE": "", "MANWIDTH": "80", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False)


class Page:
    """What man prints: {heading: lines} of the sections, and the terms in them."""

    cache = {}

    def __init__(self, name):
        self.result = run("man", "--warnings=w", "--local-file", str(MAN / name), MANROFFSEQ="")
        self.text = self.result.stdout
        self.lines = self.text.splitlines()
        self.sections, current = {}, []
        for line in self.lines[1:-1]:
            if line[:1].isalpha():
                current = self.sections.setdefault(line, [])
            else:
                current.append(line)

    def terms(self, *sections):
        """{term: its text in one line}: what stands in the text's column with something deeper right below."""
        found, term = {}, None
        for section in sections:
            lines = self.sections[section] + [""]
            for line, below in zip(lines, lines[1:]):
                if re.match(r" {7}\S", line):
                    term = line.strip() if below.startswith(" " * 11) else None
                    if term:
                        assert term not in found, f"{term} is there twice"
                        found[term] = ""
                elif re.match(r" {3}\S", line):
                    term = None
                elif term and line.strip():  # a word may be cut at a hyphen of its own
                    space = "" if not found[term] or re.search(r"\w-$", found[term]) else " "
                    found[term] += space + " ".join(line.split())
        return found

    def subsections(self, section):
        """{heading: lines}"""
        found, current = {}, []
        for line in self.sections[section]:
            if re.match(r" {3}\S", line):
                current = found.setdefault(line.strip(), [])
            else:
                current.append(line)
        return found


def page(name):
    if name not in Page.cache:
        Page.cache[name] = Page(name)
    return Page.cache[name]


# --- all of them ---


@pytest.mark.parametrize("name", PAGES)
def test_man_shows_it_without_a_warning(name):
    shown = page(name)
    assert (shown.result.returncode, shown.result.stderr) == (0, "")
    assert len(shown.lines) > 50 and {"NAME", "DESCRIPTION", "SEE ALSO"} <= set(shown.sections)
    groff = run("groff", "-man", "-ww", "-Tutf8", "-Kutf8", "-z", str(MAN / name))
    assert (groff.returncode, groff.stderr) == (0, "")


@pytest.mark.parametrize("name", PAGES)
def test_it_fits_and_can_be_searched(name):
    lines = page(name).lines
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if "\N{HYPHEN}" in line] == []  # a word cut in two


@pytest.mark.parametrize("name", PAGES)
def test_it_is_found_by_its_name(name):
    whatis = run("lexgrog", str(MAN / name))
    title, _, section = name.rpartition(".")
    assert whatis.returncode == 0 and f'"{title} - ' in whatis.stdout
    assert page(name).lines[0].startswith(f"{title}({section})") and page(name).lines[-1].endswith(f"{title}({section})")


def test_all_pages_are_there_and_name_each_other():
    assert sorted(path.name for path in MAN.glob("*.[1-8]")) == sorted(PAGES)
    ours = {f"{title}({section})" for title, _, section in (name.rpartition(".") for name in PAGES)}
    named = set()
    for name in PAGES:
        references = set(re.findall(r"[\w.-]*(?:fcproc|FcProc)[\w.-]*\(\d\)", "\n".join(page(name).lines[1:-1])))
        assert references <= ours
        named |= references
    assert named == ours


# --- fcprocctl(1) ---


def help_of(*arguments):
    result = run(str(BUILT), *arguments, "--help")
    assert result.returncode == 0, result.stderr
    return result.stdout


def verbs():
    """{verb: its arguments}, of --help and each verb's own."""
    names = re.findall(r"^  ([a-z][a-z-]*) ", help_of(), re.M)
    return {verb: help_of(verb).splitlines()[0].partition(f" {verb}")[2].strip() for verb in names}


def options(text):
    """{"--long" or "-s": its value} of the lines of a --help that begin with an option."""
    found = {}
    for line in re.findall(r"^ +(-.*)", text, re.M):
        short, long, value = re.match(r"(?:(-\w)(?:, |\b))? *(?:(--[a-z-]+)(?:=(\S+))?)?", line).groups()
        for option in filter(None, (short, long)):
            found[option] = value or ""
    return found


def option_terms():
    return {term: text for term, text in page("fcprocctl.1").terms("OPTIONS").items() if term.startswith("-")}


def test_every_verb_and_no_other():
    known = verbs()
    assert len(known) > 20 and known["create-tap"] == "NAME..." and known["list"] == ""
    described = {}
    for term in page("fcprocctl.1").terms("COMMANDS"):
        verb, _, arguments = term.partition(" ")
        described[verb] = arguments
    assert described == known


def test_every_option_and_no_other():
    known = options(help_of())
    for verb in verbs():
        known.update(options(help_of(verb)))
    assert len(known) > 20 and known["--timeout"] == "SPAN" and known["-j"] == ""
    described = {}
    for term in option_terms():
        described.update(options(f"  {term}"))
    assert described == known
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page("fcprocctl.1").text))
    assert mentioned - OTHERS_OPTIONS <= set(known)


def test_which_verb_takes_which_option():
    general = options(help_of())
    taken = {}
    for verb in verbs():
        for option in set(options(help_of(verb))) - set(general):
            taken.setdefault(option, set()).add(verb)
    described = {}
    for term, text in option_terms().items():
        if text.startswith("With "):
            described[re.match("--[a-z-]+", term).group()] = set(text.split(". ")[0].removeprefix("With ").split(", "))
        else:
            assert set(options(f"  {term}")) <= set(general), f"{term} is not of all verbs"
    assert described == taken and len(taken) > 10


def test_the_json_of_every_verb():
    blocks = {}
    for section in page("fcprocctl.1").subsections("COMMANDS").values():
        for line in section:
            term = re.match(r" {7}([a-z-]+)", line)
            if term:
                verb = term.group(1)
            elif line.startswith(" " * 15):
                blocks[verb] = blocks.get(verb, "") + line
    for verb in verbs():
        shape = help_of(verb).rpartition("JSON: ")[2]
        assert re.sub(r"\s", "", blocks.get(verb, "")) == re.sub(r"\s", "", shape), verb


def test_exit_statuses():
    known = re.findall(r"(\d+) [a-z]", help_of().partition("Exit codes:")[2].replace("\n", " "))
    assert len(known) == 7
    assert list(page("fcprocctl.1").terms("EXIT STATUS")) == known


def test_what_firecracker_means():
    source = (CHECKOUT / "client" / "text.c").read_text()
    known = dict(re.findall(r'case (\d+):\s*return (?:N?_\()?"([^"]+)"', source))
    described = dict(re.findall(r"^ {11,}(\d+)  (\S.*)$", "\n".join(page("fcprocctl.1").sections["EXIT STATUS"]), re.M))
    assert len(known) > 10 and described == known


def test_the_checks_of_doctor():
    known = [check["check"] for check in json.loads(run(str(BUILT), "-j", "doctor").stdout)]
    described = page("fcprocctl.1").terms("COMMANDS")["doctor"].partition("The checks are ")[2].partition(".")[0]
    assert re.split(", | and ", described) == known


# --- fcprocd(8), fcproc.conf(5) ---


def test_the_options_of_fcprocd():
    known = options(run(str(FCPROCD), "--help").stdout)
    described = {}
    for term in page("fcprocd.8").terms("OPTIONS"):
        described.update(options(f"  {term}"))
    assert described == known == {"--config": "FILE", "--version": "", "--help": ""}


def test_every_key_with_its_default():
    source = (CHECKOUT / "service" / "base" / "config.c").read_text()
    known = {key: default or "none" for key, default in re.findall(r'\{"(\w+)", set_\w+, [^"]*"([^"]*)"\}', source)}
    assert len(known) > 10 and known["bridge_ip"] == "172.16.0.1"
    described = {term: text.rpartition("Default: ")[2].removesuffix(".") for term, text in page("fcproc.conf.5").terms("OPTIONS").items()}
    assert described == known


# --- org.banger.FcProc(5) ---


def interface():
    return ElementTree.parse(XML).getroot().find("interface")


@pytest.mark.parametrize("section,tag", [("METHODS", "method"), ("SIGNALS", "signal"), ("PROPERTIES", "property")])
def test_every_member_with_its_signature(section, tag):
    shown = page("org.banger.FcProc.5").subsections(section)
    members = {element.get("name"): element for element in interface().iterfind(tag)}
    assert list(shown) == list(members) and len(members) > 4
    for name, element in members.items():
        text = " ".join("\n".join(shown[name]).split())
        if tag == "property":
            assert f"readonly {element.get('type')} {name}" in text
            continue
        arguments = [f"{a.get('direction', '')} {a.get('type')} {a.get('name')}".strip() for a in element.iterfind("arg")]
        assert f"{name}({', '.join(arguments)})" in text
        assert tag == "signal" or ("Errors" in text and "polkit" in text)


def test_nothing_of_the_documentation_is_left_out():
    """Every word of every comment is in the page, and as often."""

    def words(text):
        return sorted(re.findall(r"\w+", text.lower()))

    left = words(" ".join(page("org.banger.FcProc.5").lines))
    comments = re.findall(r"<!--(.*?)-->", XML.read_text().partition("<node")[2], re.S)
    assert len(comments) > 30
    missing = []
    for word in words(" ".join(comment.partition(":")[2].replace("@short_description", "") for comment in comments)):
        try:
            left.remove(word)
        except ValueError:
            missing.append(word)
    assert missing == []


def test_every_error_and_no_other():
    source = (CHECKOUT / "service" / "bus" / "errors.c").read_text()
    known = set(re.findall(r'FCPROC_ERROR "(\w+)"', source))
    described = page("org.banger.FcProc.5").terms("ERRORS")
    assert len(known) > 10 and set(described) - {"AccessDenied"} == known
    methods = {element.get("name") for element in interface().iterfind("method")}
    for error, text in described.items():
        assert text and set(text.split(", ")) <= methods, error
    assert described["InUse"] == "RemoveBridge, CreateTap" and "OpenProcess" in described["NoSuchProcess"]
    common = " ".join(page("org.banger.FcProc.5").sections["DESCRIPTION"])
    for error in ("InvalidArgs", "AccessDenied", "LimitsExceeded", "NoMemory", "InteractiveAuthorizationRequired"):
        assert error in common


def actions_of_methods():
    """{action: [method]} of the XML."""
    found = {}
    for method in interface().iterfind("method"):
        action = next(a.get("value") for a in method.iterfind("annotation") if a.get("name") == f"{NAME}.Action")
        found.setdefault(action, []).append(method.get("name"))
    return found


def test_the_action_of_every_method():
    described = {term: text.split(", ") for term, text in page("org.banger.FcProc.5").terms("ACTIONS").items()}
    assert described == actions_of_methods()


# --- fcproc-polkit(7) ---


def described_actions():
    return page("fcproc-polkit.7").terms("ACTIONS")


def described_details():
    """{method: [detail]}"""
    found = {}
    for text in described_actions().values():
        for methods, details in re.findall(r"(\w+(?:, \w+)*): (method(?:, [a-z_]+)*)\.", text):
            found.update({method: details.split(", ") for method in methods.split(", ")})
    return found


def test_every_action_with_its_defaults():
    known = {}
    for action in ElementTree.parse(POLICY).getroot().iterfind("action"):
        known[action.get("id")] = [action.findtext(f"defaults/allow_{who}") for who in ("any", "inactive", "active")]
    assert len(known) == 11
    described = {}
    for action, text in described_actions().items():
        described[action] = list(re.search(r"Default: any (\w+), inactive (\w+), active (\w+)\.$", text).groups())
    assert described == known


def test_the_methods_of_every_action():
    known = {method: action for action, methods in actions_of_methods().items() for method in methods}
    assert set(described_details()) == set(known)
    for method, action in known.items():
        assert re.search(rf"\b{method}\b", described_actions()[action])


QUESTIONS = """polkit.addRule(function(action, subject) {
    var expected = %s, asked = [];
    if (action.id.indexOf("org.banger.fcproc.") != 0)
        return null;
    for (var key in action)
        if (key.indexOf("_detail_") == 0 && key.indexOf("_detail_polkit.") != 0)
            asked.push(key.substr(8));
    return asked.sort().join() == expected[action.lookup("method")].sort().join() ? "yes" : "no";
});
"""


@pytest.fixture
def installed(polkit):
    """installed(file, text): a file of rules in force, and none of the tests' own."""
    files = []

    def install(file, text):
        files.append(Path(file))
        files[-1].write_text(text)
        files[-1].chmod(0o644)
        polkit.current = None
        polkit.rules()

    polkit.rules()
    yield install
    for file in files:
        file.unlink()
    polkit.current = None


def test_the_details_of_every_question(service, alice, vmm, installed):
    """A rule says yes only to a question with exactly the page's details."""
    details = described_details()
    named = page("fcproc-polkit.7").terms("DETAILS")
    assert set(named) == {key for keys in details.values() for key in keys}
    installed("/etc/polkit-1/rules.d/10-fcproc-details.rules", QUESTIONS % json.dumps(details))
    web, db, mail = (vmm(alice, name) for name in ("web", "db", "mail"))
    asked = set()

    def do(method, *args):
        asked.add(method)
        return alice.do(method, *args)

    do("EnsureBridge")
    do("CreateTap", "tap0")
    do("DeleteTap", "tap0")
    do("RemoveBridge")
    do("EnsureSocketDir")
    do("EnsureSocketAccess", web.sock, "web")
    for method in ("ResolveBinary", "GetUsage", "ListTaps", "ListProcesses", "Subscribe", "Unsubscribe"):
        do(method)
    assert do("FindPID", web.sock) == do("ResolvePID", web.sock, 0) == web.pid
    os.close(do("OpenProcess", web.sock)[1])
    do("WatchExit", 0, web.sock, FOREVER)
    with refused("WaitForExitTimeout"):
        do("WaitForExit", 0, web.sock, 0)
    do("CancelWait", 0, "")
    do("SendCtrlAltDel", web.sock)
    do("Shutdown", db.sock, 10 * SECOND)
    do("Kill", 0, mail.sock)
    assert asked == {element.get("name") for element in interface().iterfind("method")}


def examples():
    """{file: rule}, as they would be copied from the screen."""
    text = "\n".join(page("fcproc-polkit.7").sections["EXAMPLES"])
    found = dict(re.findall(r"^ +// (/etc/polkit-1/rules\.d/\S+)\n(.*?^ +\}\);)$", text, re.M | re.S))
    assert len(found) == text.count("polkit.addRule") == 3
    return {file: textwrap.dedent(rule) + "\n" for file, rule in found.items()}


def example(name):
    return next((file, rule) for file, rule in examples().items() if name in file)


def denied(client, *call, **options):
    with refused(*NO_ACCESS):
        client.do(*call, **options)


def test_the_examples_come_before_the_shipped_rule():
    shipped = next((CHECKOUT / "polkit").glob("*.rules")).name
    assert all(Path(file).name < shipped for file in examples())


def test_example_alice(service, alice, carol, installed):
    denied(alice, "EnsureBridge")
    installed(*example("alice"))
    denied(carol, "EnsureBridge")
    alice.do("EnsureBridge")
    alice.do("CreateTap", "tap-ci0")
    alice.do("CreateTap", "tap-ci17")
    for call in (("tap0",), ("tap-cix",), ("tap-ci1x",)):
        denied(alice, "CreateTap", *call)
    denied(alice, "CreateTap", "tap-ci1", isolated=False)
    denied(carol, "CreateTap", "tap-ci1")
    alice.do("DeleteTap", "tap-ci0")
    alice.do("DeleteTap", "tap-ci17")
    denied(alice, "RemoveBridge")
    assert set(links()) == {"lo", "br-fc"}


def test_example_dave(service, root, alice, bob, carol, dave, vmm, installed, polkit):
    web, db, mail, roots = vmm(bob, "web"), vmm(bob, "db"), vmm(bob, "mail"), vmm(root, "web")
    os.chown(bob.directory, bob.uid, bob.uid)
    hidden = vmm(root, bob.sock("hidden"))  # root's, in bob's directory
    bob.directory.chmod(0o777)
    own = vmm(dave, bob.sock("own"))  # dave's, in bob's directory
    bob.directory.chmod(0o700)
    polkit.rules(grant("bob", "create-tap", "manage-bridge"))
    bob.do("EnsureBridge")
    bob.do("CreateTap", "tap0")
    denied(dave, "FindPID", web.sock)
    installed(*example("dave"))

    assert dave.do("FindPID", web.sock) == dave.do("ResolvePID", web.sock, 0) == web.pid
    pid, pidfd = dave.do("OpenProcess", web.sock)
    os.close(pidfd)
    assert dave.do("WatchExit", web.pid, web.sock, FOREVER) == pid == web.pid
    with refused("WaitForExitTimeout"):
        dave.do("WaitForExit", 0, db.sock, 0)
    assert dave.do("Shutdown", web.sock, 10 * SECOND)[0] == "ctrl-alt-del"
    dave.do("Kill", 0, db.sock)
    dave.do("Kill", mail.pid, "")
    dave.wait_signal("ProcessExited", web.pid)

    for vm in (roots, hidden, own):
        denied(dave, "FindPID", vm.sock)
        denied(dave, "Kill", 0, vm.sock)
    denied(dave, "Kill", roots.pid, "")
    assert roots.alive() and hidden.alive() and own.alive()
    denied(dave, "DeleteTap", "tap0")
    denied(dave, "CreateTap", "tap1", isolated=False)
    more = vmm(bob, "more")
    denied(dave, "SendCtrlAltDel", more.sock)
    for other in (alice, carol):
        denied(other, "FindPID", more.sock)


def test_example_members_only(service, alice, dave, vmm, installed):
    vm = vmm(alice, "web")
    calls = [("ListTaps",), ("GetUsage",), ("FindPID", vm.sock), ("EnsureSocketDir",), ("Subscribe",)]
    for call in calls:
        alice.do(*call)
    installed(*example("members"))
    for call in (*calls, ("Kill", 0, vm.sock), ("EnsureBridge",)):
        with refused("InteractiveAuthorizationRequired"):
            alice.do(*call)
    dave.do("EnsureBridge")
    dave.do("CreateTap", "tap0")
    his = vmm(dave, "web")
    assert dave.do("FindPID", his.sock) == his.pid and [tap[0] for tap in dave.do("ListTaps")] == ["tap0"]
    denied(dave, "FindPID", vm.sock)
    assert vm.alive()
