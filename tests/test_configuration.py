# SPDX-License-Identifier: MIT
"""fcproc.conf: what is read, what stops the start, what a reload does; and the binary that is configured."""

import os
import signal
import subprocess

import pytest

import fcproc
from fcproc import WORK, eventually, pause, refused
from machines import links


def refuses_to_start(make_service, text, mode=0o644, owner=0):
    """Starts a service on this file; returns what it says."""
    service = make_service()
    service.expected_to_die = True
    service.config_file.write_text(text)
    service.config_file.chmod(mode)
    os.chown(service.config_file, owner, 0)
    service.launch()
    assert service.process.wait(20) not in (0, None)
    return service.log(), service.config_file


BROKEN = {
    "a key that is unknown": "[fcproc]\nno_such_key = 1\n",
    "a section that is unknown": "[other]\nbridge_name = br0\n",
    "no section": "bridge_name = br0\n",
    "no key": "[fcproc]\nnonsense\n",
    "no number": "[fcproc]\nmax_taps = many\n",
    "a negative number": "[fcproc]\nmax_taps = -1\n",
    "a number and more": "[fcproc]\nmax_taps = 5x\n",
    "too large a number": "[fcproc]\nmax_taps = 99999999999999999999\n",
    "no yes or no": "[fcproc]\nport_isolation = perhaps\n",
    "no address": "[fcproc]\nbridge_ip = 172.16.0\n",
    "too long a prefix": "[fcproc]\ncidr = 33\n",
    "too long a name": "[fcproc]\nbridge_name = bridge-name-16ch\n",
    "no name": "[fcproc]\nbridge_name = a/b\n",
    "a relative directory": "[fcproc]\nruntime_dir = run/banger\n",
    "a relative root": "[fcproc]\nsocket_roots = srv/jailer\n",
    "dots in a directory": "[fcproc]\nruntime_dir = /run/../etc\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_wrong_file_stops_the_start(make_service, text):
    """With file, line and reason."""
    log, file = refuses_to_start(make_service, text)
    line = len(text.splitlines())
    assert f"{file}:{line}" in log, log
    assert "br-fc" not in links()


@pytest.mark.parametrize("mode,owner", [(0o666, "root"), (0o664, "root"), (0o644, "alice")], ids=["world", "group", "owner"])
def test_a_file_that_others_can_write(make_service, mode, owner):
    log, file = refuses_to_start(make_service, "[fcproc]\n", mode, fcproc.Account(owner).uid)
    assert str(file) in log


def test_a_missing_file(make_service):
    """One that is named must be there."""
    service = make_service()
    service.expected_to_die = True
    service.write_config()
    service.config_file = service.directory / "none.conf"
    service.write_config = lambda: None
    service.launch()
    assert service.process.wait(20) != 0
    assert "none.conf" in service.log()


def test_drop_ins(make_service, client):
    """FILE.d/*.conf in name order, over FILE; comments, blanks and other names do not matter."""
    service = make_service(bridge_name="br-one", cidr=20)
    service.write_config()
    drop_ins = service.config_file.with_name(service.config_file.name + ".d")
    drop_ins.mkdir()
    (drop_ins / "20-last.conf").write_text("[fcproc]\nbridge_name = br-last\n")
    (drop_ins / "10-first.conf").write_text("# a comment\n\n[fcproc]\nbridge_name = br-first\nbridge_ip = 10.7.0.1\n")
    (drop_ins / "30-ignored.txt").write_text("[fcproc]\nbridge_name = br-ignored\n")
    service.start()
    values = client("alice").properties()
    assert values["BridgeName"] == "br-last" and values["BridgeAddress"] == "10.7.0.1/20"


def test_reload(service, alice):
    """PropertiesChanged, and the new values count."""
    changed = []
    alice.connection.signal_subscribe(fcproc.NAME, "org.freedesktop.DBus.Properties", "PropertiesChanged", fcproc.PATH, None, 0,
                                      lambda *a: changed.append(a[5].unpack()))  # fmt: skip
    alice.ping()
    assert alice.do("GetUsage")["taps-max"] == 64
    service.write_config(max_taps_per_user=5, bridge_name="br-new", bridge_ip="10.1.2.3")
    service.reload()
    fcproc.run_until(lambda: changed, 10, "PropertiesChanged")
    interface, values, invalidated = changed[0]
    values.update({name: alice.get(name) for name in invalidated})
    assert interface == fcproc.NAME and values["BridgeName"] == "br-new" and values["BridgeAddress"] == "10.1.2.3/24"
    assert alice.do("GetUsage")["taps-max"] == 5
    assert alice.do("EnsureBridge")[0] == "br-new"


def test_reload_of_a_broken_file(service, alice):
    """Hostile case 43: the old configuration stays, the log says why."""
    before, usage = alice.properties(), alice.do("GetUsage")
    service.config_file.write_text("[fcproc]\nmax_taps_per_user = 5\nbridge_name = br-new\nno_such_key = 1\n")
    service.reload()
    eventually(lambda: f"{service.config_file}:4" in service.log(), 10, "the reason in the log")
    assert alice.properties() == before and alice.do("GetUsage") == usage
    service.write_config(max_taps_per_user=6)
    service.reload()
    eventually(lambda: alice.do("GetUsage")["taps-max"] == 6, 10, "the repaired file")


# --- the binary ---


def test_resolve_binary(service, alice):
    assert alice.do("ResolveBinary") == str(WORK / "bin" / "firecracker") == alice.get("FirecrackerBin")


@pytest.mark.config(firecracker_bin="")
def test_no_binary_is_configured(service, alice):
    with refused("BinaryNotConfigured", says="firecracker_bin"):
        alice.do("ResolveBinary")


@pytest.mark.config(firecracker_bin="/run/fcproc-test/none/firecracker")
def test_no_binary_at_the_path(service, alice):
    with refused("BinaryNotFound", says="/run/fcproc-test/none/firecracker"):
        alice.do("ResolveBinary")


def test_the_binary_in_path(make_service, client):
    service = make_service(firecracker_bin="fc-other", environment={"PATH": f"/nowhere:{WORK / 'path'}:/usr/bin"})
    service.start()
    alice = client("alice")
    with refused("BinaryNotFound", says=["fc-other", "PATH"]) as error:
        alice.do("ResolveBinary")
    assert "install" in error.message.lower() or "firecracker_bin" in error.message
    (WORK / "path").mkdir(exist_ok=True)
    program = WORK / "path" / "fc-other"
    program.write_text("not yet executable")
    program.chmod(0o644)
    with refused("BinaryNotFound"):
        alice.do("ResolveBinary")
    program.chmod(0o755)
    assert alice.do("ResolveBinary") == str(program)
    program.unlink()


# --- the command line ---


@pytest.mark.parametrize("option,words", [("--help", "--config"), ("--version", "fcproc")])
def test_options(option, words):
    done = subprocess.run([fcproc.FCPROCD, option], capture_output=True, text=True)
    assert done.returncode == 0 and words in done.stdout


@pytest.mark.parametrize("arguments", [["--no-such-option"], ["--config"], ["an-argument"]])
def test_wrong_options(arguments):
    done = subprocess.run([fcproc.FCPROCD, *arguments], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0 and done.stderr


def test_what_a_reload_forbids_while_it_is_asked_about(service, bridge, polkit, alice):
    """A call that is run again and is refused before it begins is over: it counts no more (found by trying)."""
    polkit.process.send_signal(signal.SIGSTOP)
    calls = [alice.begin("CreateTap", f"fcx{n}") for n in range(60)]
    pause(0.2)
    service.write_config(tap_prefixes="tap")
    service.reload()
    eventually(lambda: "was reloaded" in service.log(), 5, "the reload")
    polkit.process.send_signal(signal.SIGCONT)
    for call in calls:
        with refused("InvalidArgs"):
            call.result()
    for call in [alice.begin("GetUsage") for _ in range(40)]:
        call.result()
