# SPDX-License-Identifier: MIT
"""The catalogues, what is installed of them, fcprocctl in another language, and polkit's questions."""

import gettext
import json
import os
import re
import shutil
import subprocess
import unicodedata
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from ctl import DENIED, DONE, FAILED, NO_OBJECT, NOWHERE, TIMED_OUT, USAGE, VERBS, armed
from fcproc import ACTIONS, BUILD, CHECKOUT, WORK, Gio, GLib, eventually

PO = CHECKOUT / "po"
LANGUAGES = [line for line in (PO / "LINGUAS").read_text().split() if not line.startswith("#")]
LOCALES = {"de": "de_DE", "fr": "fr_FR"}
STAGED = WORK / "translated"
POLICY = "org.banger.fcproc.policy"
PLURAL_OF = {"de": "2 Taps", "fr": "2 interfaces tap"}

# English on purpose: commands to type, what other programs write, what is the same word for word in JSON.
VERBATIM = (
    r"fcprocctl ", r"echo ", r"timed out$", r"Rejected send message$", r"a line each: ", r"[\[{]", r"%-16s ", r"type='signal'"
)  # fmt: skip


def run(*command, **options):
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=CHECKOUT, **options)
    assert result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout}"
    return result.stdout


def catalogue(path):
    """Its messages and their translations; of a plural, a pair (message, number)."""
    compiled = WORK / "catalogue.mo"
    WORK.mkdir(exist_ok=True)
    run("msgfmt", "--use-fuzzy", f"--output-file={compiled}", str(path))
    with open(compiled, "rb") as file:
        messages = gettext.GNUTranslations(file)._catalog
    return {message: text for message, text in messages.items() if message}


def template(path, *options):
    """Extracts what the sources have to translate, as the build does."""
    arguments = re.findall(r"^ +(?:args: \[)?'(--.*)'", (PO / "meson.build").read_text(), re.MULTILINE)
    assert "--keyword=N_" in arguments
    WORK.mkdir(exist_ok=True)
    run("xgettext", *arguments, *options, f"--output={path}", env=dict(os.environ, GETTEXTDATADIRS=str(PO)))
    return path


def sources():
    return sorted(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "client").glob("*.c"))


def messages_of(*files, options=()):
    """What these files have to translate, by itself; a plural as in catalogue()."""
    path, english = template(WORK / "some.pot", *options, *files), WORK / "english.po"
    header = {"charset=CHARSET": "charset=UTF-8", "nplurals=INTEGER; plural=EXPRESSION": "nplurals=2; plural=(n != 1)"}
    path.write_text(re.sub("|".join(map(re.escape, header)), lambda found: header[found[0]], path.read_text()))
    run("msgen", f"--output-file={english}", str(path))
    return catalogue(english)


# --- the catalogues ---


def test_there_are_a_german_and_a_french_one():
    assert {"de", "fr"} <= set(LANGUAGES) and LANGUAGES == sorted(path.stem for path in PO.glob("*.po"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_well_formed(language):
    """Formats take the same arguments, lines begin and end alike, the header is complete."""
    assert run("msgfmt", "--check", "--output-file=/dev/null", str(PO / f"{language}.po")) == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_complete(language):
    """Every message of the sources, and none that they do not have; not one fuzzy."""
    path = template(WORK / "fcproc.pot", "--files-from=po/POTFILES.in")
    assert run("msgcmp", str(PO / f"{language}.po"), str(path)) == ""
    assert "#~" not in (PO / f"{language}.po").read_text()


def test_every_source_is_listed():
    listed = [line for line in (PO / "POTFILES.in").read_text().splitlines() if line and not line.startswith("#")]
    marked = [path for path in sources() if re.search(r"\b(_|N_|ngettext)\(", (CHECKOUT / path).read_text())]
    assert listed == sorted(marked) + [f"polkit/{POLICY}"]


def test_no_sentence_is_forgotten():
    """A text of two words and more is marked, or known not to be translated."""
    marked = {m[0] if isinstance(m, tuple) else m for m in messages_of(*sources())}
    texts = {m[0] if isinstance(m, tuple) else m for m in messages_of(*sources(), options=["--extract-all"])}
    forgotten = [
        text for text in texts - marked
        if re.search(r"[a-z]{2,}:? +[a-z]{2,}", re.sub(r"%[\d.*]*[a-z]+", "", text)) and not re.match("|".join(VERBATIM), text)
    ]  # fmt: skip
    assert len(marked) > 200 and forgotten == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_fit(language):
    """doctor has 256 bytes for each text; how a process ended, 128."""
    translated = catalogue(PO / f"{language}.po")
    for message in messages_of("client/doctor.c", "client/doctor-forward.c"):
        assert len(translated[message].encode()) + 20 * len(re.findall(r"%[a-z]", message)) < 256, message
    longest = {
        part: max((translated[m] for m in messages_of("client/text.c") if bool(re.search("status %d:|%s", m)) == part), key=len)
        for part in (True, False)
    }
    assert sum(len(text.encode()) for text in longest.values()) < 128
    for message, text in translated.items():
        assert sorted(re.findall(r"\$\(\w+\)", str(message))) == sorted(re.findall(r"\$\(\w+\)", text))
        assert not set("\"'") & set(re.sub(r"\w'\w|\"\$USER\"", "", text)), f"{language}: quotation marks in: {text}"


# --- what is installed ---


@pytest.fixture(scope="module")
def options():
    found = json.loads(subprocess.check_output(["meson", "introspect", str(BUILD), "--buildoptions"], text=True))
    return {option["name"]: option["value"] for option in found}


@pytest.fixture(scope="module")
def installed():
    run("meson", "install", "-C", str(BUILD), "--no-rebuild", "--destdir", str(STAGED))
    return STAGED


@pytest.fixture(scope="module")
def localedir(options):
    return Path(options["prefix"]) / options["localedir"]


def below(root, path):
    return root / path.relative_to("/")


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogues_are_installed(installed, localedir, language):
    path = below(installed, localedir) / language / "LC_MESSAGES" / "fcproc.mo"
    with open(path, "rb") as file:
        assert gettext.GNUTranslations(file).gettext("Out of memory") == catalogue(PO / f"{language}.po")["Out of memory"]


def texts_of(path, name, language=None):
    """The elements of that name and language, by action."""
    key = "{http://www.w3.org/XML/1998/namespace}lang"
    return {
        action.get("id"): [e.text for e in action.findall(name) if e.get(key) == language]
        for action in ElementTree.parse(path).getroot().iter("action")
    }  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_policy_is_translated(installed, options, language):
    path = below(installed, Path(options["prefix"]) / options["datadir"]) / "polkit-1" / "actions" / POLICY
    translated = catalogue(PO / f"{language}.po")
    for name in ("description", "message"):
        english = texts_of(CHECKOUT / "polkit" / POLICY, name)
        assert len(english) == 11 and texts_of(path, name) == english
        assert texts_of(path, name, language) == {action: [translated[text] for text in texts] for action, texts in english.items()}


def test_policy_is_translated_without_polkit(tmp_path):
    """polkit ships rules for what is to be translated in a policy; they are hidden here, and ours are enough."""
    theirs, built = Path("/usr/share/gettext/its"), tmp_path / POLICY
    run("mount", "-t", "tmpfs", "tmpfs", str(theirs)) if theirs.exists() else None
    try:
        run("msgfmt", "--xml", f"--template=polkit/{POLICY}", f"--output-file={built}", "-d", str(PO),
            env=dict(os.environ, GETTEXTDATADIRS=str(PO)))  # fmt: skip
    finally:
        run("umount", str(theirs)) if theirs.exists() else None
    assert built.read_bytes() == (BUILD / "polkit" / POLICY).read_bytes()


def test_policy_says_nothing_else(installed, options):
    """Without its translations the installed policy is the one of the sources."""
    path = below(installed, Path(options["prefix"]) / options["datadir"]) / "polkit-1" / "actions" / POLICY

    def plain(path):
        root = ElementTree.parse(path).getroot()
        for action in root.iter("action"):
            for element in list(action):
                if any("lang" in key for key in element.keys()):
                    action.remove(element)
        return [(e.tag, e.attrib, (e.text or "").strip()) for e in root.iter()]

    assert plain(path) == plain(CHECKOUT / "polkit" / POLICY)


# --- fcprocctl ---


@pytest.fixture(scope="module")
def catalogues_in_place(installed, localedir):
    """The catalogues, where fcprocctl looks for them, for this process and its children only."""
    place, mounts = localedir, [localedir]
    while not place.exists():
        place = place.parent
    if place == Path("/"):
        pytest.skip(f"{localedir} would have to be made in /")
    if place != localedir:
        mounts.append(place)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(place))
        localedir.mkdir(parents=True)
    run("mount", "--bind", str(below(installed, localedir)), str(localedir))
    yield
    for path in mounts:
        run("umount", str(path))


@pytest.fixture(scope="module")
def locales():
    """Real locales: translations need one that is neither C nor C.UTF-8."""
    if not Path("/usr/share/i18n/locales/de_DE").exists():
        pytest.skip("there is nothing to make locales of (the package locales)")
    directory = WORK / "locales"
    directory.mkdir(parents=True, exist_ok=True)
    for name in LOCALES.values():
        if not (directory / f"{name}.UTF-8").exists():
            run("localedef", f"--inputfile={name}", "--charmap=UTF-8", str(directory / f"{name}.UTF-8"))
    return directory


@pytest.fixture(params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture
def locale(language, locales, catalogues_in_place):
    """The environment of a user of that language."""
    return {"LC_ALL": f"{LOCALES[language]}.UTF-8", "LOCPATH": str(locales), "LANGUAGE": ""}


@pytest.fixture
def says(language):
    return catalogue(PO / f"{language}.po")


def width(text):
    return sum(not unicodedata.combining(c) for c in text)


def english_in(text, says):
    """Whole messages in English that are another in this language."""
    whole = {m: translated for m, translated in says.items() if isinstance(m, str) and len(m) > 12 and "%" not in m}
    return [m for m, translated in whole.items() if m != translated and m in text]


def test_help(ctl, locale, says):
    english, text = ctl("alice", "--help").out, ctl("alice", "--help", env=locale).out
    assert says["Kill VMs at once"] in text and english_in(text, says) == []
    assert max(width(line) for line in text.splitlines()) <= 110
    for verb in VERBS:
        line = next(line for line in text.splitlines() if line.startswith(f"  {verb} "))
        original = next(line for line in english.splitlines() if line.startswith(f"  {verb} "))
        description = next(m for m in says if isinstance(m, str) and original.endswith(" " + m))
        assert line == original.removesuffix(description) + says[description]
        page = ctl("alice", verb, "--help", env=locale).out
        assert says[description] in page and english_in(page, says) == []
        assert max(width(line) for line in page.splitlines() if not line.startswith("JSON: ")) <= 110
        # the options, and where their texts begin, are those of the original: completions read them
        shape = re.compile(r"^ +(?:-\w, +)?-+[\w-]+(?:=\S+)? +", re.MULTILINE)
        assert shape.findall(page) == shape.findall(ctl("alice", verb, "--help").out)


def test_usage_error(ctl, locale, says):
    expected = says["'%.40s' is no verb of fcprocctl; did you mean '%s'?"].replace("%.40s", "crate-tap").replace("%s", "create-tap")
    assert ctl("alice", "crate-tap", code=USAGE, env=locale).err == f"fcprocctl: {expected}\n"
    expected = says["%s takes no arguments; see fcprocctl %s --help"].replace("%s", "list")
    assert ctl("alice", "list", "web", code=USAGE, env={**locale, **NOWHERE}).err == f"fcprocctl: {expected}\n"


def test_no_bus(ctl, locale, says):
    err = ctl("alice", "list", code=None, env={**locale, **NOWHERE}).err
    assert err.startswith("fcprocctl: " + says["Cannot connect to the system bus: %s; see 'systemctl status dbus'"].split("%s")[0])


def test_table(bridge, ctl, alice, locale, says):
    """Legend and count; a letter of two bytes is one column."""
    alice.do("CreateTap", "tap0")
    lines = ctl("alice", "taps", env=locale).out.splitlines()
    assert lines[-1] == says["%zu tap", 0].replace("%zu", "1")
    for legend, value in (("HELD", "no"), ("ISOLATED", "yes"), ("GONE-WITH-VM", "no")):
        column = lines[0].index(says[legend] + " ")
        assert lines[1][column:].startswith(says[value] + " ") and lines[1][column - 1] == " "
    alice.do("CreateTap", "tap1")
    assert ctl("alice", "taps", env=locale).out.splitlines()[-1] == says["%zu tap", 1].replace("%zu", "2")


def test_counts_by_name(language, says):
    """The plural is the plural, not only another text than the singular."""
    assert says["%zu tap", 1].replace("%zu", "2") == PLURAL_OF[language]


def test_status(bridge, ctl, language, locale, says):
    lines = ctl("alice", "status", env=locale).out.splitlines()
    assert english_in("\n".join(lines), says) == []
    labels = [says[label] for label in ("Version:", "Features:", "Bridge:", "Runtime directory:", "User ID:", "Calls at a time:")]
    for label in labels:
        assert sum(line.startswith(label.rjust(20) + " ") for line in lines) == 1, label
    none = says["%u port", 0 if language == "fr" else 1].replace("%u", "0")  # in French, none is singular
    assert any(line.endswith(f"({says['up']}), {none}") for line in lines)


def test_doctor(bridge, ctl, locale, says):
    text = ctl("alice", "doctor", code=None, env=locale).out
    assert says["polkit answers"] in text and says["The service answers, version %s"].removesuffix("%s") in text
    assert english_in(text, says) == []
    away = ctl("alice", "doctor", code=FAILED, env={**locale, **NOWHERE}).out
    assert says["The system bus cannot be reached"] in away and english_in(away, says) == []


def test_results(bridge, ctl, vmm, alice, locale, says):
    vmm(alice)
    timed_out = ctl("alice", "wait-for-exit", "--timeout=1.5", "web", code=TIMED_OUT, env=locale).err
    expected = says["%.100s is still running after %s"].replace("%.100s", "web").replace("%s", "1.5s")
    assert timed_out == f"fcprocctl: {expected}\n", "numbers have the point of the configuration and of JSON"
    assert ctl("alice", "kill", "web", env=locale).out == says["%s: killed"].replace("%s", "web") + "\n"
    absent = ctl("alice", "delete-tap", "tap7", env=locale).err
    assert absent == says["%s: there is no such tap, nothing to do"].replace("%s", "tap7") + "\n"


def test_the_services_own_words(service, ctl, alice, locale, says):
    """They come in one language, over the bus, and are passed on as they are; what to do is the client's to say."""
    arguments = ("alice", "find-pid", alice.sock("web"))
    hint = "'fcprocctl list' shows your VMs"
    words = ctl(*arguments, code=NO_OBJECT).err.removesuffix(f"; {hint}\n")
    assert words.startswith("fcprocctl: Nobody listens on ") and ";" not in words
    assert ctl(*arguments, code=NO_OBJECT, env=locale).err == f"{words}; {says[hint]}\n" and says[hint] != hint


def test_json_is_the_same_in_every_language(bridge, ctl, vmm, alice, locale, says):
    """Results, texts for people in them, errors of the service, of the client and of the command line."""
    vmm(alice)
    alice.do("CreateTap", "tap0", guest_mac="06:00:ac:10:00:02") if "locked-port" in alice.get("Features") else None
    commands = [
        (DONE, "list"), (DONE, "taps"), (DONE, "status"), (None, "doctor"), (DONE, "get-usage"), (DONE, "prune", "--dry-run"),
        (DONE, "delete-tap", "tap7"), (NO_OBJECT, "find-pid", "absent"), (USAGE, "crate-tap"), (USAGE, "list", "web"),
        (USAGE, "create-tap", "Tap0"), (TIMED_OUT, "wait-for-exit", "--timeout=0", "web"), (DENIED, "kill", "/run/banger/0/x.sock"),
        (USAGE, "run", "web"), (FAILED, "run", "web", "--config-file=/absent"),
    ]  # fmt: skip
    for code, *arguments in commands:
        for json_option in (["-j"], ["--json=pretty"], ["--json", "short"]):
            first = ctl("alice", *json_option, *arguments, code=code)
            second = ctl("alice", *json_option, *arguments, code=code, env=locale)
            assert (first.code, first.out, first.err) == (second.code, second.out, second.err)
    assert ctl("alice", "-j", "--json=off", "taps", env=locale).out == ctl("alice", "taps", env=locale).out
    assert says["HELD"] in ctl("alice", "-j", "--json=off", "taps", env=locale).out


def test_what_an_exit_code_means(service, begin, vmm, alice, knows, locale, says):
    """To people in their language, to programs in one."""
    vm = vmm(alice)
    waiting = [begin("alice", *arguments, env=locale) for arguments in (["wait-for-exit", "web"], ["-j", "wait-for-exit", "web"])]
    armed(alice, 2)
    alice.do("SendCtrlAltDel", vm.sock)
    people, program = (process.communicate(timeout=20)[0] for process in waiting)
    if knows("exited", 0)[0] == "unknown":
        assert people == f"web: {says['ended, how is not known']}\n"
    else:
        expected = says["exited, status %d: %s"].replace("%d", "0").replace("%s", says["ended by its guest"])
        assert people == f"web: {expected}\n" and json.loads(program)[0]["meaning"] == "ended by its guest"


def test_without_a_language(ctl, locale):
    """LC_ALL=C is English, whatever LANGUAGE says; so is a language that there is none of."""
    english = ctl("alice", "--help").out
    for other in ({"LC_ALL": "C", "LANGUAGE": "de:fr"}, {"LANGUAGE": "tlh"}):
        text = ctl("alice", "--help", env={**locale, **other}).out
        assert "Kill VMs at once" in text and len(text.splitlines()) == len(english.splitlines())


# --- polkit ---


@pytest.fixture
def actions(polkit, installed, options):
    """polkitd, with the policy as it is installed instead of the checkout's; actions(locale): id → (description, message)."""
    path = below(installed, Path(options["prefix"]) / options["datadir"]) / "polkit-1" / "actions" / POLICY
    shutil.copy(path, f"/usr/share/polkit-1/actions/{POLICY}")

    def ask(locale):
        reply = polkit.connection.call_sync(
            "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
            "EnumerateActions", GLib.Variant("(s)", (locale,)), None, Gio.DBusCallFlags.NO_AUTO_START, 10_000, None)  # fmt: skip
        return {a[0]: a[1:3] for a in reply.unpack()[0] if a[0].startswith(ACTIONS)}

    german = catalogue(PO / "de.po")["Kill one's own virtual machine"]
    eventually(lambda: ask("de").get(ACTIONS + "kill", [""])[0] == german, what="polkitd's reading of the new policy")
    yield ask
    shutil.copy(CHECKOUT / "polkit" / POLICY, f"/usr/share/polkit-1/actions/{POLICY}")


def test_polkit_knows_the_languages(actions, language, says):
    """For agents and settings dialogs; no locale of that language has to be there."""
    english = actions("C")
    assert len(english) == 11 and all(text in says for texts in english.values() for text in texts)
    for locale in (language, f"{LOCALES[language]}.UTF-8", f"{language}_XY"):
        assert actions(locale) == {action: tuple(says[text] for text in texts) for action, texts in english.items()}


def test_the_question_in_ones_language(bridge, actions, terminal, language, locale, says):
    shown = terminal("carol", "create-tap", "tap0", **{**locale, "LANG": locale["LC_ALL"]})
    question = says["Authentication is required to create the network tap $(tap) for a virtual machine"]
    shown.expect(question.replace("$(tap)", "tap0"))
