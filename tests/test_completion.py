# SPDX-License-Identifier: MIT
"""Completion in real shells: bash with and without bash-completion, and zsh, each on a terminal; fish asked directly.

What a shell makes of its line is read from the shell itself: a key of each writes the line between two marks, so
that it is known when a TAB has done its work, also where there was nothing to do.
"""

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ctl import BUILT, NOWHERE
from fcproc import BUILD, CHECKOUT, WORK, Account, acting_as

SOURCE = CHECKOUT / "client" / "completion"
SHARE = WORK / "share"  # as below a prefix
PLACES = {
    "fcprocctl": "bash-completion/completions/fcprocctl",
    "_fcprocctl": "zsh/site-functions/_fcprocctl",
    "fcprocctl.fish": "fish/vendor_completions.d/fcprocctl.fish",
}
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
MARKED = re.compile("\036(.*?)\037", re.S)
pytestmark = pytest.mark.config(tap_prefixes="tap fc web")

BASH = r"""
PS1=; HISTFILE=
%s
bind 'set completion-query-items 0' 'set page-completions off' 'set enable-bracketed-paste off'
bind -x '"\C-xd": printf "\036%%s\037" "$READLINE_LINE"'
bind '"\C-xa": insert-completions'
printf '\036ready\037'
"""
ZSH = r"""
PS1= HISTFILE= LISTMAX=100000
fpath=(%s/zsh/site-functions $fpath)
autoload -Uz compinit && compinit -u -D
unset zle_bracketed_paste
line-shown() { print -rn -- $'\036'"$BUFFER"$'\037' }
zle -N line-shown
zle -C all-matches complete-word _generic
zstyle ':completion:all-matches:*' insert yes
zstyle ':completion:all-matches::::' completer _all_matches _complete
bindkey '^Xd' line-shown '^Xa' all-matches '^U' kill-whole-line
printf '\036ready\037'
"""


@pytest.fixture(scope="session", autouse=True)
def completions(fcprocctl):
    """The completions where the shells look for them, and fcprocctl where it is on their PATH."""
    for name, place in PLACES.items():
        (SHARE / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / name, SHARE / place)


def shell_environment(bus, home, **more):
    return {
        "PATH": f"{WORK}/bin:/usr/bin:/bin", "HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8",
        "DBUS_SYSTEM_BUS_ADDRESS": bus.address, "XDG_DATA_DIRS": f"{SHARE}:/usr/share", **more}  # fmt: skip


class Shell:
    """An interactive shell of a user, on a terminal of its own."""

    def __init__(self, who, home, env, *command):
        with acting_as(who) as account:
            pass
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.setgroups(account.groups)
                os.setgid(account.gid)
                os.setuid(account.uid)
                os.chdir(home)
                os.execvpe(command[0], command, env)
            finally:
                os._exit(126)
        self.seen = ""

    def until(self, found, within=30):
        """The first thing that found() finds in what was written since the last."""
        deadline = time.monotonic() + within
        while not (match := found(self.seen)):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], f"not within {within} s: {self.seen!r}"
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        for complaint in ("_fcprocctl", "not found", "rror", "annot"):
            assert complaint not in self.seen, self.seen
        self.seen = self.seen[match.end() :]
        return match[1]

    def write(self, text):
        os.write(self.fd, text.encode())

    def line(self, typed, key="\t"):
        """What the line is after a TAB behind what is typed; it is given up then."""
        self.write(f"\x05\x15{typed}{key}\x18d")
        line = self.until(MARKED.search)
        self.write("\x05\x15")
        return line

    def offers(self, before, word=""):
        """All that is offered for word, behind `before`."""
        line = self.line(before + word, "\x18a")
        assert line.startswith(before), line
        return [] if line == before + word else sorted(shlex.split(line[len(before) :]))

    def run(self, typed):
        """What a command prints that is typed, completed and entered."""
        self.write(f"\x05\x15{typed}\t\x18d")
        self.until(MARKED.search)
        self.write("; printf '\\036%s\\037' done\n")
        return self.until(re.compile("([^\r\n]*)\r*\n\036done\037").search)

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


class Fish:
    """fish, not on a terminal: it tells what it would offer."""

    LOOP = "while read -z line; complete -C $line; printf '\\0'; end"

    def __init__(self, who, home, env):
        with acting_as(who) as account:
            pass
        self.errors = os.memfd_create("errors")
        self.process = subprocess.Popen(
            ["fish", "-c", self.LOOP], env=env, cwd=home, user=account.uid, group=account.gid,
            extra_groups=account.groups, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)  # fmt: skip

    def offers(self, before, word=""):
        os.write(self.process.stdin.fileno(), f"{before}{word}\0".encode())
        out = b""
        while not out.endswith(b"\0"):
            assert select.select([self.process.stdout], [], [], 30)[0], out
            out += os.read(self.process.stdout.fileno(), 65536) or pytest.fail(f"fish has ended: {out}")
        assert os.fstat(self.errors).st_size == 0, os.pread(self.errors, 4096, 0)
        found = [line.split("\t")[0] for line in out[:-1].decode().splitlines()]
        return sorted(each for each in found if word[:1] != "-" or each.startswith(word))  # fish 4 offers others, too

    def line(self, typed):
        """As a terminal would have it where there is one candidate."""
        before = typed[: typed.rfind(" ") + 1]
        found = self.offers(before, typed[len(before) :])
        return typed if len(found) != 1 else f"{before}{found[0]} "

    def end(self):
        self.process.kill()
        self.process.communicate()
        os.close(self.errors)


def help_of(*verb):
    return subprocess.run([BUILT, *verb, "--help"], check=True, capture_output=True, text=True).stdout


def helped(*verb):
    """What the help names: verbs, options."""
    text = help_of(*verb)
    verbs = [line.split()[0] for line in text.splitlines() if line[:2] == "  " and line[2:3].islower()]
    options = []
    for line in text.splitlines():
        if line.startswith(("  -", "      --")):
            options += [word.strip(",").split("=")[0] for word in line.split()[:2] if word.startswith("-")]
    return sorted(verbs), sorted(options)


VERBS = helped()[0]


def need(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed (tools/setup test)")


def home_of(who):
    """An empty directory of the user's."""
    path = WORK / f"home-{who}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    os.chown(path, Account(who).uid, Account(who).gid)
    return path


@pytest.fixture
def open_shell(bus):
    """open_shell(kind, user): one that has read the completions as that shell usually does."""
    opened = []

    def make(kind, who="alice", **env):
        directory = home_of(who)
        env = shell_environment(bus, directory, **env)
        need(kind.split("-")[0])
        if kind == "fish":
            shell = Fish(who, directory, env)
        elif kind == "zsh":
            shell = Shell(who, directory, env, "zsh", "-f", "-i")
            shell.write(f"stty -echo; . {WORK}/zshrc\n")
        else:
            shell = Shell(who, directory, env, "bash", "--noprofile", "--rcfile", f"{WORK}/{kind}rc", "-i")
        opened.append(shell)
        if kind != "fish":
            assert shell.until(MARKED.search) == "ready"
        return shell

    (WORK / "zshrc").write_text(ZSH % SHARE)
    (WORK / "bash-plainrc").write_text(BASH % f"set -u; . {SHARE}/{PLACES['fcprocctl']}")
    (WORK / "bashrc").write_text(BASH % f". {BASH_COMPLETION}")
    yield make
    for shell in opened:
        shell.end()


KINDS = ["bash", "bash-plain", "zsh", "fish"]
ON_A_TERMINAL = KINDS[:3]


@pytest.fixture(params=KINDS)
def kind(request):
    if request.param == "bash" and not BASH_COMPLETION.exists():
        pytest.skip("bash-completion is not installed (tools/setup test)")
    return request.param


@pytest.fixture
def shell(kind, open_shell):
    return open_shell(kind)


@pytest.fixture
def script():
    """script(user, name, text): a program that a shell finds before others."""

    def make(who, name, text):
        directory = WORK / f"programs-{who}"
        directory.mkdir(exist_ok=True)
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
        return {"PATH": f"{directory}:{WORK}/bin:/usr/bin:/bin"}

    yield make
    for directory in WORK.glob("programs-*"):
        shutil.rmtree(directory)


# --- what fcprocctl has ---


def test_places():
    """Where the shells look, below the prefix."""
    files, options = (json.loads((BUILD / "meson-info" / f"intro-{what}.json").read_text())
                      for what in ("installed", "buildoptions"))  # fmt: skip
    installed = {Path(source).name: to for source, to in files.items() if "/completion/" in source}
    value = {option["name"]: option["value"] for option in options}
    assert installed == {name: f"{value['prefix']}/{value['datadir']}/{place}" for name, place in PLACES.items()}


def test_verbs(bus, shell):
    assert shell.offers("fcprocctl ") == VERBS
    assert shell.offers("fcprocctl -q --json pretty ") == VERBS
    assert shell.line("fcprocctl del") == "fcprocctl delete-tap "
    assert shell.line("fcprocctl zz") == "fcprocctl zz"


def test_options(bus, shell):
    """Those of the help, all of them and no other: of every verb, and of none."""
    for verb in ["", *VERBS]:
        offered = shell.offers(f"fcprocctl {verb} " if verb else "fcprocctl ", "-")
        assert sorted(option.rstrip("=") for option in offered) == helped(*verb.split())[1], verb
    assert "--mtu" in " ".join(shell.offers("fcprocctl create-tap tap0 ", "--"))
    assert shell.offers("fcprocctl kill ", "--t") == []
    assert [option.rstrip("=") for option in shell.offers("fcprocctl -q wait-for-exit web ", "--t")] == ["--timeout"]
    assert shell.offers("fcprocctl wait-for-exit -- ", "--t") == []


@pytest.mark.parametrize("kind", ON_A_TERMINAL, indirect=True)
def test_options_that_take_a_value(bus, shell):
    """With a '=' and no blank, and the others with a blank."""
    assert shell.line("fcprocctl wait-for-exit --t") == "fcprocctl wait-for-exit --timeout="
    assert shell.line("fcprocctl shutdown --fo") == "fcprocctl shutdown --force "


def values(shell, before, word):
    return sorted(value.rpartition("=")[2] for value in shell.offers(before, word))


def test_values(bus, shell):
    for before, word in (("list ", "--json="), ("--json ", "")):
        assert values(shell, f"fcprocctl {before}", word) == ["off", "pretty", "short"]
    assert shell.line("fcprocctl --json=p") == "fcprocctl --json=pretty "
    assert values(shell, "fcprocctl create-tap ", "--isolated=") == ["no", "yes"]
    assert shell.line("fcprocctl create-tap tap0 --tun-uid=ali") == "fcprocctl create-tap tap0 --tun-uid=alice "
    assert shell.line("fcprocctl -H there create-tap --tun-uid=ali") == "fcprocctl -H there create-tap --tun-uid=ali"
    for option in ("--timeout=", "--timeout "):
        assert shell.line(f"fcprocctl wait-for-exit {option}1") == f"fcprocctl wait-for-exit {option}1"
    assert shell.line("fcprocctl create-tap --mtu=1") == "fcprocctl create-tap --mtu=1"


def test_hosts_and_containers(bus, kind, open_shell, script):
    env = script("alice", "machinectl", "[ $# = 4 ] || exit\necho 'crate container systemd-nspawn debian 12 -'")
    shell = open_shell(kind, **env)
    directory = WORK / "home-alice" / ".ssh"
    directory.mkdir()
    (directory / "known_hosts").write_text(
        "tower,10.11.12.13 ssh-ed25519 AAAA\n|1|hashed= ssh-ed25519 AAAA\n[harbour]:2222 ssh-rsa AAAA\n")
    for path in (directory, directory / "known_hosts"):
        os.chown(path, Account("alice").uid, Account("alice").gid)
    assert shell.line("fcprocctl -H tow") == "fcprocctl -H tower "
    assert shell.line("fcprocctl list --host=harb") == "fcprocctl list --host=harbour "
    assert shell.line("fcprocctl -H me@tow") == "fcprocctl -H me@tower "
    assert shell.line("fcprocctl -M cr") == "fcprocctl -M crate "
    assert shell.line("fcprocctl --machine=c") == "fcprocctl --machine=crate "


def test_files(bus, shell):
    (WORK / "home-alice" / "vm-1.json").write_text("{}")
    (WORK / "home-alice" / "of mine").write_text("")
    assert shell.line("fcprocctl run web --config-file vm") == "fcprocctl run web --config-file vm-1.json "
    assert shell.line("fcprocctl run web --config-file=vm") == "fcprocctl run web --config-file=vm-1.json "
    assert shell.line("fcprocctl run web --config-file x -- --metadata vm") == (
        "fcprocctl run web --config-file x -- --metadata vm-1.json ")
    assert shell.offers("fcprocctl run web --config-file ") == ["of mine", "vm-1.json"]
    assert shell.line("fcprocctl run v") == "fcprocctl run v"


# --- what the service has ---


def test_taps(service, bridge, alice, bob, shell):
    alice.do("CreateTap", "web0")
    assert shell.line("fcprocctl delete-tap w") == "fcprocctl delete-tap web0 "
    alice.do("CreateTap", "tap0")
    bob.do("CreateTap", "tap1")
    assert shell.offers("fcprocctl delete-tap ") == ["tap0", "web0"]
    assert shell.offers("fcprocctl delete-tap tap0 -q ") == ["web0"]
    assert shell.line("fcprocctl create-tap w") == "fcprocctl create-tap w"


def test_sockets(service, alice, bob, vmm, shell):
    web = vmm(alice, "web")
    vmm(bob, "wiki")
    assert shell.line("fcprocctl kill w") == "fcprocctl kill web "
    assert shell.line("fcprocctl shutdown --grace 5 -- w") == "fcprocctl shutdown --grace 5 -- web "
    assert shell.line("fcprocctl --timeout=5 wait-for-exit w") == "fcprocctl --timeout=5 wait-for-exit web "
    assert shell.line(f"fcprocctl find-pid {web.sock[:-6]}") == f"fcprocctl find-pid {web.sock} "
    db = vmm(alice, "db")
    assert shell.offers("fcprocctl kill ") == ["db", "web"]
    assert shell.offers("fcprocctl kill web ") == ["db"]
    for verb in VERBS:
        usage = help_of(verb).splitlines()[0]
        assert shell.offers(f"fcprocctl {verb} ") == (["db", "web"] if "SOCKET" in usage else []), verb
        many = "SOCKET" in usage and usage.endswith("...")
        assert shell.offers(f"fcprocctl {verb} 7.5 ") == (["db", "web"] if many else []), verb
    assert str(db.pid) in shell.offers("fcprocctl wait-for-exit ", str(db.pid)[0])
    assert str(db.pid) in shell.offers("fcprocctl resolve-pid db ", str(db.pid)[0])
    assert str(db.pid) not in shell.offers("fcprocctl shutdown ", str(db.pid)[0])


def test_sockets_that_need_their_path(service, alice, vmm, shell):
    """A name that fcprocctl would read as something else."""
    paths = [vmm(alice, name).sock for name in ("4711", "-x", "a.sock")]
    paths.append(vmm(alice, f"{alice.directory}/plain").sock)
    vmm(alice, "a")
    assert shell.offers("fcprocctl find-pid ") == sorted([*paths, "a"])


@pytest.fixture
def places():
    """Another runtime directory, and a jail whose ID is alice's uid; both gone at the end."""
    top, jail = WORK / "elsewhere", WORK / "roots" / "firecracker" / str(Account("alice").uid) / "root" / "run"
    jail.mkdir(parents=True)
    os.chown(jail, Account("alice").uid, Account("alice").gid)
    yield top, jail
    for path in (top, WORK / "roots"):
        shutil.rmtree(path, ignore_errors=True)


@pytest.mark.config(runtime_dir=str(WORK / "elsewhere"), socket_roots=str(WORK / "roots"))
def test_sockets_elsewhere(places, service, alice, vmm, shell):
    """What a bare name stands for is the service's to say; what only looks like it keeps its path."""
    top, jail = places
    vmm(alice, f"{alice.do('EnsureSocketDir')}/web.sock")
    jailed = vmm(alice, f"{jail}/web.sock")
    assert shell.offers("fcprocctl kill ") == [jailed.sock, "web"]
    assert shell.line("fcprocctl kill w") == "fcprocctl kill web "


def test_files_where_nothing_listens(service, alice, shell):
    alice.do("EnsureSocketDir")
    Path(alice.sock("late")).write_text("")
    assert shell.line(f"fcprocctl ensure-socket-access {alice.sock('la')[:-5]}") == (
        f"fcprocctl ensure-socket-access {alice.sock('late')} ")


def test_of_another_host_nothing(service, bridge, alice, vmm, kind, open_shell, script):
    """No key press connects to another host."""
    alice.do("CreateTap", "web0")
    vmm(alice, "web")
    shell = open_shell(kind, **script("alice", "ssh", f"touch {WORK}/home-alice/connected"))
    for where in ("-H there", "-Hthere", "--host=there", "--host there", "-M crate", "-qH there"):
        assert shell.offers(f"fcprocctl {where} kill ") == shell.offers(f"fcprocctl {where} delete-tap ") == [], where
    assert shell.offers("fcprocctl -q kill ") == ["web"]
    assert not (WORK / "home-alice" / "connected").exists()


# --- trouble ---

HOSTILE = r"""ev il$(touch pwned)`touch pwned`'";touch pwned;*&|<>{a,b}!#~\x"""


@pytest.mark.parametrize("who", ["alice", "root"])
def test_hostile_names(service, alice, vmm, kind, open_shell, who):
    """A socket's name is whatever its owner made it; it is inserted as one word, and is nothing but a name."""
    vm = vmm(alice, HOSTILE)
    shell = open_shell(kind, who)
    name = HOSTILE if who == "alice" else vm.sock
    word = name[: name.index("ev") + 2]
    assert shell.offers("fcprocctl find-pid ", word) == [name]
    if kind != "fish":  # its own work, once it has the name
        assert shell.run(f"fcprocctl find-pid {word}") == str(vm.pid)
        for quote in ("'", '"'):
            typed = f"fcprocctl find-pid {quote}{word}"
            assert shell.line(typed) == typed or shell.run(typed) == str(vm.pid)
    vmm(alice, HOSTILE[:-1] + "y")
    assert len(shell.offers("fcprocctl find-pid ", word)) == 2
    if kind != "fish":
        shell.line(f"fcprocctl find-pid {word}", "\t\t\t")
    assert not list((WORK / f"home-{who}").glob("*pwned*"))


def test_names_that_cannot_be_shown(bus, kind, open_shell, script):
    """Nothing of them reaches the terminal, should a service ever tell them."""
    names = ["/r/a\x1b]0;owned\x07.sock", "/r/b\nlist.sock", "/r/c\t.sock", "/r/d\x9b31m.sock", "/r/e\x7f.sock"]
    fine = ['/r/f"g\\h.sock', "/r/ü.sock"]
    answer = WORK / "hostile.json"
    sockets = [{"pid": 7, "api_sock": name} for name in names + fine]
    answer.write_text(json.dumps(sockets, indent=2, ensure_ascii=False))
    shell = open_shell(kind, **script(
        "alice", "fcprocctl", f'case "$*" in *pretty*) cat {answer} ;; *) exec {WORK}/bin/fcprocctl "$@" ;; esac'))
    assert shell.offers("fcprocctl find-pid ", "/r/") == sorted(fine)


@pytest.mark.parametrize("kind", ["bash"], indirect=True)
def test_behind_another_command(service, bridge, alice, shell):
    """What bash-completion makes of sudo: the same, for the command behind it."""
    alice.do("CreateTap", "web0")
    assert shell.line("sudo fcprocctl del") == "sudo fcprocctl delete-tap "
    assert shell.line("sudo fcprocctl delete-tap w") == "sudo fcprocctl delete-tap web0 "
    assert shell.line("sudo fcprocctl --json=p") == "sudo fcprocctl --json=pretty "
    assert values(shell, "sudo fcprocctl ", "--json=") == ["off", "pretty", "short"]
    assert shell.line("true; X=1 fcprocctl del") == "true; X=1 fcprocctl delete-tap "


def test_without_a_service(bus, shell):
    """Silence; verbs and options need none."""
    for typed in ("kill w", "kill 1", "delete-tap w"):
        assert shell.line(f"fcprocctl {typed}") == f"fcprocctl {typed}"
    assert shell.line("fcprocctl del") == "fcprocctl delete-tap "


def test_without_a_bus_and_without_the_program(bus, kind, open_shell):
    shell = open_shell(kind, **NOWHERE)
    assert shell.line("fcprocctl kill w") == "fcprocctl kill w"
    assert shell.line("fcprocctl del") == "fcprocctl delete-tap "
    assert open_shell(kind, PATH="/usr/bin:/bin").line("fcprocctl del") == "fcprocctl del"


def test_a_service_that_hangs(service, alice, vmm, shell):
    """It holds nobody up for long, where a call would take 25 s."""
    vmm(alice, "web")
    assert shell.line("fcprocctl kill w") == "fcprocctl kill web "
    service.process.send_signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert shell.line("fcprocctl kill w") == "fcprocctl kill w"
        assert 1 < time.monotonic() - begun < 10
    finally:
        service.process.send_signal(signal.SIGCONT)
    assert shell.line("fcprocctl kill w") == "fcprocctl kill web "


def test_another_verb_in_a_value(service, alice, vmm, shell):
    """The verb is the first word that is one, and no option's value."""
    vmm(alice, "web")
    assert shell.line("fcprocctl --machine list --json short kill w") == "fcprocctl --machine list --json short kill w"
    assert shell.line("fcprocctl --json short kill w") == "fcprocctl --json short kill web "
