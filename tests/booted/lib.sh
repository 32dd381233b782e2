# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# A Debian that is booted, to be sourced by root:
#
#   booted_missing             says what is missing for it, or fails
#   booted_root SUITE          makes a base system once, in $BOOTED_CACHE, and prints its directory; what went
#                              wrong is in $BOOTED_CACHE/debootstrap.log
#   boot ROOT SCRIPT OUT [DIR…]
#                              boots a throw-away copy of ROOT with the files of each DIR laid over it, runs
#                              the files SCRIPT in it, and ends with its exit status; 124 if it hung.
#                              OUT is /out in there, and has log (what SCRIPT said), journal and console
#                              afterwards. BOOT_SECONDS is the limit, 120.
#
# The host's links, files and processes stay as they are: it is a container, with a network of its own.

: "${BOOTED_CACHE:=build-test/booted}"

# What a root has beside Debian's own minimum: what FcProc runs with. These names changed with the 64-bit time_t.
booted_packages() {
        local suite=$1 t64=t64

        case $suite in bookworm | jammy) t64= ;; esac
        echo "systemd,systemd-sysv,dbus,polkitd,libpam-systemd,iproute2,procps,libjson-c5,libmnl0,libinih1," \
             "libcurl4$t64,libglib2.0-0$t64" | tr -d ' '
}

booted_missing() {
        local program

        for program in debootstrap systemd-nspawn; do
                command -v $program >/dev/null || { echo "there is no $program" && return; }
        done
        [ -e /dev/net/tun ] || { echo "there is no /dev/net/tun" && return; }
        [ -d /run/systemd/system ] || [ -f /sys/fs/cgroup/cgroup.controllers ] || [ -d /sys/fs/cgroup/unified ] ||
                { echo "there are no unified control groups" && return; }
        return 1
}

# Where apt has this suite from, if it is one of its sources; else debootstrap knows itself.
booted_mirror() {
        apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Identifier: Packages' 2>/dev/null |
                sed -n "s/^$1 main //p" | head -n 1
}

booted_root() {
        local suite=$1 packages root proxy=

        packages=$(booted_packages "$suite")
        root=$BOOTED_CACHE/$suite-$(printf %s "$packages" | cksum | cut -d ' ' -f 1)
        if [ ! -d "$root" ]; then
                mkdir -p "$BOOTED_CACHE"
                rm -rf "$root.new"
                eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null)"
                if ! ${proxy:+env http_proxy="$proxy"} \
                   debootstrap --variant=minbase --include="$packages" "$suite" "$root.new" $(booted_mirror "$suite") \
                   >"$BOOTED_CACHE/debootstrap.log" 2>&1 </dev/null; then
                        rm -rf "$root.new"
                        return 1
                fi
                rm -rf "$root.new"/var/cache/apt/archives/*.deb
                mv "$root.new" "$root"
        fi
        echo "$root"
}

# In a subshell of its own: its traps clean up, whatever happens.
boot() (
        root=$1 script=$2 out=$(realpath "$3")
        shift 3
        groups=() options=(--register=no) name=booted-$BASHPID

        work=$(mktemp -d) || exit 125
        clean() {
                umount -R "$work" 2>/dev/null
                rmdir "$work"
                for group in "${groups[@]}"; do
                        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
                done
        }
        trap clean EXIT
        mount -t tmpfs -o mode=755 booted "$work" && mkdir "$work/upper" "$work/work" "$work/root" &&
                mount -t overlay -o "lowerdir=$(realpath "$root"),upperdir=$work/upper,workdir=$work/work" \
                      booted "$work/root" || exit 125
        for tree; do # not cp: a directory in the tree may be a symlink in the root, as /lib is
                tar --create --directory "$tree" --owner=0 --group=0 . |
                        tar --extract --keep-directory-symlink --no-overwrite-dir --same-permissions --directory "$work/root" || exit 125
        done

        cat >"$out/init" <<'EOF'
#!/bin/bash
exec >>/out/log 2>&1
systemctl start multi-user.target # else nothing is up but the basics
bash /out/script
status=$?
journalctl --boot >/out/journal
exit $status
EOF
        chmod 755 "$out/init"
        install -m 644 "$script" "$out/script"
        rm -f "$out/log" "$out/journal"

        # Under systemd it makes a scope for the container; elsewhere the container gets control groups of
        # its own here, else all the containers would share those of this shell.
        if [ ! -d /run/systemd/system ]; then
                options+=(--keep-unit)
                if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
                        groups=("/sys/fs/cgroup/$name")
                else
                        groups=("/sys/fs/cgroup/unified/$name" "/sys/fs/cgroup/systemd/$name")
                fi
                mkdir -p "${groups[@]}" || exit 125
        fi
        (
                for group in "${groups[@]}"; do
                        echo $BASHPID >"$group/cgroup.procs" || exit 125
                done
                # bpf: without it DeviceAllow= and IPAddressDeny= are passed over in silence.
                SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec timeout --kill-after=10 "${BOOT_SECONDS:-120}" \
                        systemd-nspawn --quiet --directory="$work/root" --machine="$name" --boot \
                        "${options[@]}" --private-network --capability=all --system-call-filter='bpf @keyring' \
                        --bind=/dev/net/tun --bind="$out:/out" --console=pipe --link-journal=no \
                        systemd.run=/out/init systemd.show_status=no </dev/null >"$out/console" 2>&1
        )
)
