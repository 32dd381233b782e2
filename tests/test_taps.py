# SPDX-License-Identifier: MIT
"""Taps: names, ownership, replacing, quotas and what a tap looks like. Bridges, the guests' frames and
auto-delete have files of their own."""

import subprocess

import pytest

from daemons import grant
from fcproc import eventually, refused
from machines import TUNSETOWNER, add_link, assert_unchanged, fdb, links, run, snapshot, steady, taps

BAD_NAMES = ["", "tap0123456789abc", "../x", ".", "..", "fc%d", "tap%d", "tap 0", "tap0\n", "tap\x1b[0m", "täp0", "lo", "eth0",
             "all", "default", "123", "tap/0", "-tap", "Tap0", "TAP0", "tap0:1", "br-fc", "tap\t", "tapé", "fc\x7f"]  # fmt: skip


def of(link):
    return link.get("linkinfo", {}).get("info_data", {}), link.get("linkinfo", {}).get("info_slave_data", {})


# --- what is made ---


def test_a_new_tap(bridge, alice):
    index = alice.do("CreateTap", "tap0")
    link = links()["tap0"]
    data, port = of(link)
    assert link["ifindex"] == index
    assert link["master"] == "br-fc" and "UP" in link["flags"]
    assert link["ifalias"] == f"org.banger.FcProc uid={alice.uid}"
    assert data["type"] == "tap" and data["persist"] and not data.get("multi_queue") and data["user"] in ("alice", alice.uid)
    assert "group" not in data
    assert port["isolated"] and port["root_block"] and port["guard"]
    assert link["mtu"] == links()["br-fc"]["mtu"]


def test_firecracker_can_attach(bridge, alice, hold):
    """As Firecracker opens it, and only its owner; a second opener is refused."""
    alice.do("CreateTap", "tap0")
    with pytest.raises(PermissionError):
        hold("bob", "tap0")
    hold("alice", "tap0")
    with pytest.raises(OSError, match="busy"):
        hold("alice", "tap0")
    eventually(lambda: alice.do("ListTaps")[0][3]["carrier"], 2, "the carrier")


def test_list_taps(bridge, alice, bob, root):
    first = alice.do("CreateTap", "tap0")
    second = bob.do("CreateTap", "fc1", guest_mac="02:fc:00:00:00:01", mtu=1400, auto_delete=True)
    assert [(t[0], t[1], t[2]) for t in alice.do("ListTaps")] == [("tap0", first, alice.uid)]
    name, index, uid, more = bob.do("ListTaps")[0]
    assert (name, index, uid) == ("fc1", second, bob.uid)
    expected = {"bridge": "br-fc", "carrier": False, "auto-delete": True, "isolated": True,
                "guest-mac": "02:fc:00:00:00:01", "mtu": 1400, "tun-uid": bob.uid}  # fmt: skip
    assert {k: more[k] for k in expected} == expected
    assert {t[0] for t in root.do("ListTaps")} == {"tap0", "fc1"}
    assert "guest-mac" not in alice.do("ListTaps")[0][3]


def test_tun_uid_and_gid(bridge, alice, bob, hold):
    alice.do("CreateTap", "tap0", tun_uid=bob.uid, tun_gid=bob.account.gid)
    data, _ = of(links()["tap0"])
    assert data["user"] in ("bob", bob.uid) and data["group"] in ("bob", bob.account.gid)
    with pytest.raises(PermissionError):
        hold("alice", "tap0")
    hold("bob", "tap0")
    assert alice.do("ListTaps")[0][3]["tun-uid"] == bob.uid
    assert bob.do("ListTaps") == []  # who may attach is not who owns


def test_signals(bridge, alice, bob):
    alice.do("Subscribe")
    bob.do("Subscribe")
    index = alice.do("CreateTap", "tap0")
    signal = alice.wait_signal("TapCreated", "tap0")
    assert signal.args[:3] == ("tap0", index, alice.uid)
    alice.do("DeleteTap", "tap0")
    assert alice.wait_signal("TapDeleted", "tap0").args[:3] == ("tap0", index, alice.uid)
    bob.ping()
    assert bob.signals == []


def test_a_tap_that_somebody_else_deletes_is_signalled(bridge, alice):
    alice.do("Subscribe")
    index = alice.do("CreateTap", "tap0")
    run("ip", "link", "del", "tap0")
    assert alice.wait_signal("TapDeleted", "tap0").args[1] == index


# --- names ---


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_names(bridge, service, alice, name):
    """Hostile case 1."""
    before = snapshot()
    lines = len(service.log().splitlines())
    with refused("InvalidArgs"):
        alice.do("CreateTap", name)
    with refused("InvalidArgs"):
        alice.do("DeleteTap", name)
    assert_unchanged(before)
    assert len(service.log().splitlines()) - lines <= 2  # a line for each event, whatever the name
    assert "\x1b" not in service.log()


def test_a_name_that_cannot_be_sent_twice_over(bridge, alice):
    with refused("InvalidArgs"):
        alice.do("CreateTap", "tap" + "0" * 100_000)


@pytest.mark.parametrize("name", ["tap0123456789ab", "fc", "tap", "tap.0_-", "fc-web"])
def test_good_names(bridge, alice, name):
    assert alice.do("CreateTap", name) == links()[name]["ifindex"]


@pytest.mark.config(tap_prefixes="vm- x")
def test_configured_prefixes(bridge, alice):
    alice.do("CreateTap", "vm-1")
    with refused("InvalidArgs", says="tap0"):
        alice.do("CreateTap", "tap0")


# --- whose is it ---


def test_another_users_tap(bridge, alice, bob):
    """Hostile case 2."""
    index = bob.do("CreateTap", "tap0")
    before = snapshot()
    for method in ("CreateTap", "DeleteTap"):
        with refused("AccessDenied", "InteractiveAuthorizationRequired"):
            alice.do(method, "tap0")
    assert_unchanged(before)
    assert links()["tap0"]["ifindex"] == index


def test_manage_others_deletes_but_never_replaces(bridge, alice, bob, root, polkit):
    index = bob.do("CreateTap", "tap0")
    polkit.rules(grant("alice", "manage-others", "create-tap"))
    with refused("AccessDenied"):
        alice.do("CreateTap", "tap0")
    with refused("AccessDenied", says=["tap0", "delete"]):
        root.do("CreateTap", "tap0")
    assert links()["tap0"]["ifindex"] == index
    alice.do("DeleteTap", "tap0")
    assert "tap0" not in links()


def test_a_tap_made_by_hand(bridge, alice, root):
    """Hostile case 3."""
    run("ip", "tuntap", "add", "mode", "tap", "name", "tap0", "user", "alice")
    add_link("fc0")
    run("ip", "link", "set", "fc0", "alias", f"org.banger.FcProc uid={alice.uid}")  # the mark alone is not the kind
    before = snapshot()
    for client in (alice, root):
        for name in ("tap0", "fc0"):
            for method in ("CreateTap", "DeleteTap"):
                with refused("NotOurs", says=name):
                    client.do(method, name)
    assert_unchanged(before)
    assert alice.do("ListTaps") == []


@pytest.mark.parametrize("alias", ["org.banger.FcProc", "org.banger.FcProc uid=", "org.banger.FcProc uid=x", "org.banger.FcProc uid=-1",
                                   "org.banger.FcProc uid=4294967296", "org.banger.FcProc uid={uid} and more",
                                   " org.banger.FcProc uid={uid}", "org.banger.FcProc uid={uid}x", "org.banger.FcProc uid=0{uid}",
                                   "org.banger.FcProc uid={uid} auto-delete=",
                                   "org.banger.FcProc uid={uid} guest-mac=02:FC:00:00:00:01"])  # fmt: skip
def test_the_alias_grammar(bridge, alice, alias):
    """What is not to the letter the mark is not the mark."""
    run("ip", "tuntap", "add", "mode", "tap", "name", "tap0")
    run("ip", "link", "set", "tap0", "alias", alias.format(uid=alice.uid))
    with refused("NotOurs"):
        alice.do("DeleteTap", "tap0")
    assert alice.do("ListTaps") == []


def test_a_tap_of_an_earlier_run(bridge, service, alice, client):
    """The alias is all there is: it survives the service."""
    alice.do("CreateTap", "tap0")
    before = steady(links())
    service.restart()
    assert steady(links()) == before
    assert [t[0] for t in alice.do("ListTaps")] == ["tap0"]
    alice.do("DeleteTap", "tap0")


def test_missing(bridge, alice):
    with refused("NoSuchTap", says="tap0"):
        alice.do("DeleteTap", "tap0")


def test_public_before_polkit(bridge, carol, polkit):
    """That a link is missing or not ours is told before polkit is asked."""
    run("ip", "tuntap", "add", "mode", "tap", "name", "tap1")
    polkit.stop()
    with refused("NoSuchTap"):
        carol.do("DeleteTap", "tap0")
    with refused("NotOurs"):
        carol.do("DeleteTap", "tap1")


# --- replacing ---


def test_replacing_cuts_the_holder_off(bridge, alice, hold):
    first = alice.do("CreateTap", "tap0")
    old = hold("alice", "tap0")
    second = alice.do("CreateTap", "tap0")
    assert second != first and links()["tap0"]["ifindex"] == second
    with pytest.raises(OSError):
        old.send(bytes(60))
    new = hold("alice", "tap0")
    assert new.arp("02:00:00:00:00:05", "172.16.0.5", "172.16.0.1")


@pytest.mark.config(max_taps_per_user=4)
def test_replacing_without_end(bridge, alice, root):
    """Hostile case 7: at the quota, and the deletes lag behind; it may wait, it never fails."""
    for n in range(4):
        alice.do("CreateTap", f"tap{n}")
    pending = [alice.begin("CreateTap", f"tap{n % 4}") for n in range(60)]
    indexes = [call.result() for call in pending]
    assert len(set(indexes)) == 60
    assert {links()[f"tap{n}"]["ifindex"] for n in range(4)} <= set(indexes)
    with refused("LimitsExceeded"):
        alice.do("CreateTap", "tap4")


def test_a_shape_changes_with_the_replacement(bridge, alice):
    alice.do("CreateTap", "tap0", guest_mac="02:fc:00:00:00:01", mtu=1400)
    alice.do("CreateTap", "tap0", guest_mac="02:fc:00:00:00:01")
    assert links()["tap0"]["mtu"] == 1500
    alice.do("CreateTap", "tap0")
    assert not of(links()["tap0"])[1].get("locked")
    assert not [e for e in fdb("tap0") if e["mac"] == "02:fc:00:00:00:01"]


# --- quotas ---


def test_the_65th_tap(bridge, alice, bob):
    """Hostile case 7."""
    for call in [alice.begin("CreateTap", f"tap{n}") for n in range(60)]:
        call.result()
    for n in range(60, 64):
        alice.do("CreateTap", f"tap{n}")
    with refused("LimitsExceeded", says="64"):
        alice.do("CreateTap", "tap64")
    assert "tap64" not in links()
    alice.do("CreateTap", "tap0")
    usage = alice.do("GetUsage")
    assert usage["taps"] == 64 and usage["taps-max"] == 64
    bob.do("CreateTap", "tap64")
    alice.do("DeleteTap", "tap63")
    alice.do("CreateTap", "tap65")


@pytest.mark.config(max_taps_per_user=2)
def test_the_quota_is_not_fooled_by_another_tun_owner(bridge, alice, bob, hold):
    """Hostile case 7: the holder gives his tap away; it is still his by its alias."""
    for n in range(2):
        alice.do("CreateTap", f"tap{n}")
        hold("alice", f"tap{n}").ioctl(TUNSETOWNER, bob.uid)
    with refused("LimitsExceeded"):
        alice.do("CreateTap", "tap2")
    assert {t[0] for t in alice.do("ListTaps")} == {"tap0", "tap1"}
    assert bob.do("ListTaps") == []
    alice.do("DeleteTap", "tap0")


@pytest.mark.config(max_taps=3)
def test_the_limit_over_all_users(bridge, alice, bob, root):
    alice.do("CreateTap", "tap0")
    bob.do("CreateTap", "tap1")
    root.do("CreateTap", "tap2")
    for client in (alice, bob, root):
        with refused("LimitsExceeded"):
            client.do("CreateTap", "tap3")


@pytest.mark.config(max_taps_per_user=1)
def test_uid_0_has_the_global_limit_only(bridge, root):
    for n in range(3):
        root.do("CreateTap", f"tap{n}")


@pytest.mark.config(max_taps=2)
def test_a_replacement_counts_once(bridge, root):
    """A tap that is a link and is just being made anew is one tap, not two."""
    root.do("CreateTap", "tap0")
    for _ in range(50):
        again, more, usage = root.begin("CreateTap", "tap0"), root.begin("CreateTap", "tap1"), root.begin("GetUsage")
        again.result(), more.result()
        assert usage.result()["taps"] == 2
        root.do("DeleteTap", "tap1")
    for _ in range(20):
        pending = [root.begin("CreateTap", "tap0") for _ in range(3)]
        assert root.do("GetUsage")["taps"] == 1
        for call in pending:
            call.result()


# --- options ---


@pytest.mark.parametrize("mtu", [0, 68, 1279, 1501, 65536, 2**32 - 1])
def test_bad_mtu(bridge, alice, mtu):
    """Hostile case 8: and the bridge keeps its own."""
    before = snapshot()
    with refused("InvalidArgs", says="mtu"):
        alice.do("CreateTap", "tap0", mtu=mtu)
    assert_unchanged(before)


@pytest.mark.parametrize("mtu", [1280, 1400, 1500])
def test_good_mtu(bridge, alice, mtu):
    alice.do("CreateTap", "tap0", mtu=mtu)
    assert links()["tap0"]["mtu"] == mtu
    assert links()["br-fc"]["mtu"] == 1500


def test_isolated_false_needs_manage_others(bridge, alice, polkit):
    """Hostile case 8."""
    before = snapshot()
    with refused("AccessDenied", "InteractiveAuthorizationRequired"):
        alice.do("CreateTap", "tap0", isolated=False)
    assert_unchanged(before)
    polkit.rules(grant("alice", "create-tap", "manage-others"))
    alice.do("CreateTap", "tap0", isolated=False)
    assert not of(links()["tap0"])[1]["isolated"]
    assert alice.do("ListTaps")[0][3]["isolated"] is False


@pytest.mark.config(port_isolation="no")
def test_isolation_off_by_configuration(bridge, alice):
    alice.do("CreateTap", "tap0")
    alice.do("CreateTap", "tap1", isolated=True)
    assert not of(links()["tap0"])[1]["isolated"] and of(links()["tap1"])[1]["isolated"]


# --- at once, and half-way ---


def test_two_callers_one_name(bridge, alice, bob):
    """Hostile case 5: one tap, one clear answer each."""
    for n in range(10):
        pending = [client.begin("CreateTap", f"tap{n}") for client in (alice, bob)]
        answers = []
        for call in pending:
            try:
                answers.append(call.result())
            except Exception as error:
                answers.append(error.name.rpartition(".")[2])
        assert sorted(map(type, answers), key=str) == [int, str], answers
        assert set(answers) & {"AccessDenied", "InteractiveAuthorizationRequired"}, answers
        winner = alice if isinstance(answers[0], int) else bob
        assert links()[f"tap{n}"]["ifalias"] == f"org.banger.FcProc uid={winner.uid}"


def test_the_same_caller_twice(bridge, alice):
    indexes = [call.result() for call in [alice.begin("CreateTap", "tap0") for _ in range(10)]]
    assert links()["tap0"]["ifindex"] in indexes
    assert len(taps()) == 1 or all(name == "tap0" or not name.startswith("tap") for name in taps())


def test_deleting_beside_ones_own_replacing(bridge, alice):
    """A tap that was displaced meanwhile is no tap any more; its reserved name is nobody's business."""
    for _ in range(20):
        pending = [alice.begin(method, "tap0") for method in ("CreateTap", "DeleteTap", "CreateTap") * 5]
        for call in pending:
            try:
                call.result()
            except Exception as error:
                assert error.name.endswith("NoSuchTap") and "tap0" in str(error) and "_fcx" not in str(error), error


def test_sixty_deletes_at_once(bridge, alice, bob):
    for call in [alice.begin("CreateTap", f"tap{n}") for n in range(60)]:
        call.result()
    add_link("keep-me")
    deletes = [alice.begin("DeleteTap", f"tap{n}") for n in range(60)]
    bob.do("GetUsage")
    assert not all(call.done for call in deletes)  # the loop did not wait for them
    for call in deletes:
        call.result()
    assert not taps() and "keep-me" in links() and "lo" in links()


def test_deleted_when_the_reply_is_sent(bridge, alice):
    for _ in range(5):
        alice.do("CreateTap", "tap0")
        alice.do("DeleteTap", "tap0")
        assert subprocess.run(["ip", "link", "show", "tap0"], capture_output=True).returncode != 0


def test_no_bridge(alice):
    """Hostile case 4: no orphan is left."""
    before = snapshot()
    with refused("NoSuchBridge", says=["br-fc", "tap0"]):
        alice.do("CreateTap", "tap0")
    assert_unchanged(before)


def test_a_step_that_fails_leaves_nothing(bridge, alice):
    """The guest's MAC is taken, which shows only at the last step."""
    alice.do("CreateTap", "tap0", guest_mac="02:fc:00:00:00:01")
    before = snapshot()
    with refused("InUse", says="02:fc:00:00:00:01"):
        alice.do("CreateTap", "tap1", guest_mac="02:fc:00:00:00:01")
    assert_unchanged(before)
