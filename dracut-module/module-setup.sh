#!/bin/bash
# Puts vestibule into the image. What the configuration means is for `vestibule check` to say; this only copies.
# The number 95 only orders this module among others (dracut 059 to 107 and the renumbered ones from 108 on are
# alike for it); module-setup.sh's functions are described in dracut.modules(7).
# shellcheck disable=SC2154  # initdir, moddir, outfile and the directories are dracut's own variables

# called by dracut; 255: only when asked for, which the shipped dracut.conf.d file does. Asked for and impossible
# ends dracut, while a module that includes itself would be left out without a word.
check() {
    require_binaries vestibule || return 1
    return 255
}

# called by dracut; no network module: vestibule brings up the network by itself
depends() {
    echo crypt
}

# called by dracut; the wired drivers that dracut's own kernel-network-modules takes, which Debian ships in an
# extra package. instmods and dracut_instmods keep to this machine's when the image is host-only.
installkernel() {
    local elsewhere='/(wireless|isdn|uwb|net/ethernet|net/phy|net/team)/' module

    dracut_instmods -o -P ".*$elsewhere.*" -s 'eth_type_trans|register_virtio_device|usbnet_open' '=drivers/net'
    instmods '=drivers/net/mdio' '=drivers/net/phy' '=drivers/net/ethernet' virtio_net xen-netfront
    # DHCP needs packet sockets whatever the machine that builds the image has loaded.
    hostonly='' instmods af_packet ipv6
    # The kernel loads these by itself when a bond, VLAN or bridge is asked for (vlan=, bond=, bridge=).
    hostonly='' instmods bonding 8021q bridge
    # What the configuration makes necessary (vsock).
    while read -r module; do
        hostonly='' instmods "$module"
    done < <(vestibule check --modules --root "${dracutsysrootdir:-/}")
}

# called by dracut
install() {
    # dracut 059 ignores what install() returns, and an image that nobody can log in to must not be finished.
    if ! vestibule_says keys || ! vestibule_says check; then
        dfatal "vestibule: no image is built, as nobody could log in to it"
        exit 1
    fi
    protect_image
    install_keys_and_config

    inst_binary "$(find_binary vestibule)" /usr/bin/vestibule
    ln_r /usr/bin/vestibule /usr/bin/console_peek
    ln_r /usr/bin/vestibule /usr/bin/console_auth

    if dracut_module_included systemd; then
        inst_simple /usr/lib/vestibule/vestibule.service "$systemdsystemunitdir/vestibule.service"
        $SYSTEMCTL -q --root "$initdir" add-wants sysinit.target vestibule.service
    else
        inst_hook pre-trigger 20 "$moddir/vestibule-start.sh"
        inst_hook cleanup 10 "$moddir/vestibule-stop.sh"
        dracut_need_initqueue
    fi
}

# vestibule_says ACTION: runs it on the host's files and passes on what it prints. `keys` makes the host key at the
# first build and keeps it, so that known_hosts files stay true.
vestibule_says() {
    local said line status=0 tell=dinfo

    said=$(vestibule "$1" --root "${dracutsysrootdir:-/}" 2>&1) || status=1 tell=derror
    while read -r line; do
        $tell "vestibule: ${line#vestibule: }"
    done <<< "$said"
    return $status
}

# Readable by root only, whatever they are on the host.
install_keys_and_config() {
    local source destination

    while IFS=$'\t' read -r source destination; do
        # `command`: this file's own function has the same name.
        command install -D -m 0600 "$source" "$initdir$destination" || {
            dfatal "vestibule: $source can't be copied into the image"
            exit 1
        }
    done < <(vestibule check --files --root "${dracutsysrootdir:-/}")
}

# The image holds the host key. dracut makes new images 0600, but writes into one that exists, whose mode stays.
protect_image() {
    [[ -e $outfile ]] || return 0
    chmod go= "$outfile" || dwarn "vestibule: $outfile holds the SSH host key; make it readable by root only"
}
