# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# In a booted Debian: the service as its unit starts it. It serves everything, through a reload, a restart
# of its own and one of the bus; what is not for it is out of its reach. Each check prints a line.

cd /
export LC_ALL=C.UTF-8
failed=0
sandboxed=/run/systemd/system/fcproc.service.d

check() {
        local what=$1 output
        shift
        if output=$("$@" 2>&1); then
                echo "ok: $what"
        else
                echo "FAILED: $what: $(tail -n 3 <<<"$output")"
                failed=1
        fi
}

# Until a command succeeds, at most 10 s.
eventually() {
        for _ in {1..200}; do
                "$@" >/dev/null 2>&1 && return
                sleep 0.05
        done
        "$@"
}

called=()

# A call of alice's that must succeed, and answer what the pattern says.
calls() {
        local pattern=$1 method=$2
        shift 2
        called+=("$method")
        check "$method${1:+ ($*)}" answers "$pattern" "$method" "$@"
}

answers() {
        local pattern=$1
        shift
        local answer
        answer=$(runuser -u alice -- busctl --timeout=30 call org.banger.FcProc /org/banger/FcProc org.banger.FcProc "$@" 2>&1)
        # shellcheck disable=SC2053
        [[ $answer == $pattern ]] || { echo "the answer was: $answer" && return 1; }
}

main_pid() {
        systemctl show --property=MainPID --value fcproc
}

new_main_pid() {
        local pid
        pid=$(main_pid)
        [ "$pid" != 0 ] && [ "$pid" != "$1" ]
}

starts_vm() {
        runuser -u alice -- firecracker --api-sock "$1" --id vm --config-file /usr/local/share/vm.json >/run/vm.log 2>&1 </dev/null &
        eventually grep -q listening /run/vm.log
}

journal_has() {
        journalctl --sync
        journalctl --unit=fcproc --output=cat --quiet "$@" | grep -q .
}

useradd --create-home --groups banger alice
uid=$(id -u alice)
own=/run/banger/$uid
echo 'alice:200000:65536' >/etc/subuid

# --- every method once ---

calls "s \"$own\"" EnsureSocketDir 'a{sv}' 0
check "the bus started the unit" systemctl is-active fcproc
systemctl is-active --quiet fcproc || { systemctl status --no-pager fcproc && exit 1; }
check "as the account fcproc" test "$(stat --format=%U "/proc/$(main_pid)")" = fcproc
calls 'sis "br-fc" * "172.16.0.1/24"' EnsureBridge 'a{sv}' 0
calls 'i *' CreateTap 'sa{sv}' tap0 1 mtu u 1400
check "the kernel has the tap" ip link show tap0
calls '*"tap0"*' ListTaps
calls 's "/usr/local/bin/firecracker"' ResolveBinary
calls 'a{sv} *"taps" u 1*' GetUsage
starts_vm "$own/web.sock"
calls '' EnsureSocketAccess 'ssa{sv}' "$own/web.sock" web 0
calls 'u [1-9]*' FindPID s "$own/web.sock"
calls 'u [1-9]*' ResolvePID su "$own/web.sock" 0
calls 'uh [1-9]*' OpenProcess s "$own/web.sock"
calls '*web.sock*' ListProcesses
calls 'u [1-9]*' WatchExit 'usta{sv}' 0 "$own/web.sock" 1000000 0
calls 'u 0' CancelWait us 0 ""
calls '' Subscribe 'a{sv}' 0
calls '' Unsubscribe
calls '' SendCtrlAltDel 'sa{sv}' "$own/web.sock" 0 # libcurl is loaded
wait
rm -f "$own/web.sock"
starts_vm "$own/two.sock"
calls 'ssi "ctrl-alt-del" *' Shutdown 'sta{sv}' "$own/two.sock" 10000000 0
starts_vm "$own/three.sock"
calls '' Kill 'usa{sv}' 0 "$own/three.sock" 0
starts_vm "$own/four.sock"
(sleep 0.3 && pkill --uid "$uid" --exact firecracker) &
calls 'si *' WaitForExit 'usta{sv}' 0 "$own/four.sock" 10000000 0
calls '' DeleteTap 'sa{sv}' tap0 0
calls '' RemoveBridge 'a{sv}' 0
methods=$(busctl introspect org.banger.FcProc /org/banger/FcProc org.banger.FcProc | sed -n 's/^\.\([A-Za-z]*\) *method .*/\1/p' | sort)
check "no method was left out" test "$(printf '%s\n' "${called[@]}" | sort -u)" = "$methods"

# --- what the manager and the bus do with it ---

check "the journal has who did what" journal_has FCPROC_METHOD=CreateTap "FCPROC_UID=$uid" FCPROC_RESULT=done

mkdir -p /etc/banger/fcproc.conf.d
printf '[fcproc]\nmax_taps_per_user = 7\n' >/etc/banger/fcproc.conf
check "reload" systemctl reload fcproc
check "the reload counts" eventually answers '*"taps-max" u 7*' GetUsage

pid=$(main_pid)
check "restart" systemctl restart fcproc
check "another process serves" new_main_pid "$pid"
calls "s \"$own\"" EnsureSocketDir 'a{sv}' 0

check "the bus can be restarted" systemctl restart dbus
check "the service is back on the bus" eventually answers "s \"$own\"" EnsureSocketDir 'a{sv}' 0
old=$(stat --format=%i /run/dbus/system_bus_socket)
check "and its socket, too" systemctl restart dbus.socket
check "which is a new one then" test "$old" != "$(stat --format=%i /run/dbus/system_bus_socket)"
check "the service is back on the new bus" eventually answers "s \"$own\"" EnsureSocketDir 'a{sv}' 0
touch /run/dbus/new
check "a service that runs sees what is new beside the socket" test -e "/proc/$(main_pid)/root/run/dbus/new"

# --- directories of one's own ---

# In a place that is hidden, and in one that is not.
mkdir -p /run/vms /srv/jailer $sandboxed
chmod 711 /run/vms
printf '[Service]\nBindPaths=/run/vms /srv/jailer\n' >$sandboxed/own.conf
printf '[fcproc]\nruntime_dir = /run/vms\nsocket_roots = /srv/jailer\n' >/etc/banger/fcproc.conf
systemctl daemon-reload
systemctl reset-failed fcproc # it was started often for ten seconds
check "restart with directories of one's own" systemctl restart fcproc
calls "s \"/run/vms/$uid\"" EnsureSocketDir 'a{sv}' 0
starts_vm "/run/vms/$uid/web.sock"
calls 'ssi "ctrl-alt-del" *' Shutdown 'sta{sv}' "/run/vms/$uid/web.sock" 10000000 0
install -d -o alice /srv/jailer/alice
starts_vm /srv/jailer/alice/web.sock
calls '' EnsureSocketAccess 'ssa{sv}' /srv/jailer/alice/web.sock web 0
calls 'ssi "ctrl-alt-del" *' Shutdown 'sta{sv}' /srv/jailer/alice/web.sock 10000000 0
rm -r $sandboxed /etc/banger/fcproc.conf
systemctl daemon-reload
systemctl restart fcproc

# --- what is out of its reach ---

# The same unit with another program, so that the manager makes the same sandbox of it.
unit=$(systemctl show --property=FragmentPath --value fcproc)
attempts=() allowed=()
deny() {
        attempts+=("$@")
}
allow() {
        attempts+=("$@")
        for ((i = 1; i < $#; i += 2)); do
                allowed+=("${*:i:2}")
        done
}
cat >/run/systemd/system/root-only.socket <<'EOF'
[Socket]
ListenStream=/run/docker.sock
SocketMode=0600
EOF
printf '[Service]\nExecStart=sleep infinity\n' >/run/systemd/system/root-only.service
systemctl daemon-reload
systemctl start root-only.socket
for secret in /etc/ssh/ssh_host_ed25519_key /etc/ssl/private/key.pem /etc/wireguard/wg0.conf /root/secret /home/alice/secret \
              /etc/NetworkManager/system-connections/wifi /etc/krb5.keytab /var/lib/other/secret /var/log/secret \
              /var/lib/sss/pipes/private/pam /var/backups/shadow.bak /boot/secret /run/other/secret /dev/shm/secret; do
        mkdir -p "${secret%/*}"
        install -m 600 /dev/null "$secret"
        echo secret >"$secret"
        deny read "$secret"
done
script --quiet --command 'sleep 60' /dev/null >/dev/null 2>&1 </dev/null & # another's terminal
eventually test -e /dev/pts/0
mknod -m 600 /dev/watched c 10 229 # FUSE
allow connect /run/dbus/system_bus_socket connect /run/systemd/journal/stdout
allow read /etc/passwd read /etc/subuid read /etc/nsswitch.conf read /usr/local/bin/firecracker read /proc/1/stat
allow write "$own/code" write /tmp/code write /proc/sys/net/ipv6/conf/lo/accept_ra device /dev/net/tun
libc=$(ldd /usr/libexec/fcprocd | sed -n 's/.*libc.so.6 => \([^ ]*\) .*/\1/p')
deny read /etc/shadow read /etc/gshadow
deny connect /run/docker.sock connect /run/systemd/private
deny exec /bin/sh exec /usr/bin/busctl loader /bin/sh map /bin/sh map "$own/code" map /tmp/code memory code
deny write /etc/written write /usr/written write /run/written write /var/lib/written write /run/dbus/written
deny write /run/systemd/journal/written write /srv/written write /root/written write /dev/written
deny write "${libc%/*}/written"
deny device /dev/watched device /dev/pts/0 family inet family packet
allow map "$libc"

sed -e 's/^Type=.*/Type=oneshot/' -e '/^BusName=/d' -e '/^Restart/d' -e 's,/libexec/fcprocd,/libexec/probe,' \
    -e "s,^ExecStart=.*,& ${attempts[*]}," -e '/^\[Service\]/a StandardOutput=truncate:/out/inside' "$unit" \
    >/run/systemd/system/probe.service
systemctl daemon-reload
check "the probe runs" systemctl start probe
# The control: root of this host can do it all.
/usr/libexec/probe "${attempts[@]}" >/out/outside
while read -r attempt path result; do
        verdict=yes
        [[ " ${allowed[*]/%/,} " == *" $attempt $path, "* ]] || verdict=no
        inside=$(sed -n "s,^$attempt $path ,,p" /out/inside)
        if [ $verdict = yes ]; then
                check "inside, $attempt $path" test "$inside" = yes
        elif [ "$result" != yes ]; then
                echo "note: $attempt $path says nothing: outside too it is $result"
        else
                check "inside, no $attempt $path: ${inside:-no answer}" test -n "$inside" -a "$inside" != yes
        fi
done </out/outside

writable() { # of what is mounted at a place twice the last counts
        awk '{ super = $NF; options[$5] = $6 "," super } END { for (m in options) print m, options[m] }' "/proc/$(main_pid)/mountinfo" |
                grep -v '[ ,]ro\(,\|$\)' | sort
}
check "nothing that the service can write can be executed" sh -c '! grep -v -e noexec -e ^/dev/net/tun' <<<"$(writable)"
# systemd 254 and later give each service its own memory.pressure
check "the service can write where it should" \
      diff <(writable | grep -v /memory.pressure | cut -d ' ' -f 1) <(printf '%s\n' /dev/net/tun /proc /proc/sys/net/ipv6/conf /run/banger /tmp /var/tmp)
check "/run of the service has what it needs and no more" \
      diff <(cd "/proc/$(main_pid)/root/run" && find . -mindepth 1 -maxdepth 2 -not -path './dbus/*' -not -path './banger/*' -not -name user | sort) \
           <(printf './%s\n' banger dbus systemd systemd/incoming systemd/journal systemd/notify systemd/userdb)

echo "systemd-analyze security: $(systemd-analyze security --no-pager fcproc | tail -n 1)"
check "nothing in the unit is unknown to this systemd" sh -c '! systemd-analyze --man=no verify fcproc.service 2>&1 | grep -F fcproc.service'
exit $failed
