#!/bin/bash
# Puts vestibule into the image. What the configuration means is for `vestibule check` to say; this only copies.
# The number 95 only orders this module among others (dracut 059 to 107 and the renumbered ones from 108 on are
# alike for it); module-setup.sh's functions are described in dracut.modules(7).
# shellcheck disable=SC2154  # initdir, moddir, outfile and the directories are dracut's own variables

# called by dracut; 255: only when asked for, which the shipped dracut.conf.d file does
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
    local elsewhere='/(wireless|isdn|uwb|net/ethernet|net/phy|net/team)/'

    dracut_instmods -o -P ".*$elsewhere.*" -s 'eth_type_trans|register_virtio_device|usbnet_open' '=drivers/net'
    instmods '=drivers/net/mdio' '=drivers/net/phy' '=drivers/net/ethernet' virtio_net xen-netfront
    # DHCP needs packet sockets whatever the machine that builds the image has loaded.
    hostonly='' instmods af_packet ipv6
}

# called by dracut
install() {
    # dracut before 060 ignores what install() returns, and an image that nobody can log in to must not be finished.
    install_keys_and_config || exit 1
    protect_image

    inst_binary "$(find_binary vestibule)" /usr/bin/vestibule
    ln_r /usr/bin/vestibule /usr/bin/console_peek
    ln_r /usr/bin/vestibule /usr/bin/console_auth

    if dracut_module_included systemd; then
        inst_simple "$systemdsystemunitdir/vestibule.service"
        $SYSTEMCTL -q --root "$initdir" add-wants sysinit.target vestibule.service
    else
        inst_hook pre-trigger 20 "$moddir/vestibule-start.sh"
        inst_hook cleanup 10 "$moddir/vestibule-stop.sh"
        dracut_need_initqueue
    fi
}

# The host key is made at the first build and kept, so that known_hosts files stay true.
install_keys_and_config() {
    local host="${dracutsysrootdir-}" action said line keys

    for action in keys check; do
        if ! said=$(vestibule "$action" --root "$host/" 2>&1); then
            dfatal "vestibule $action: $said"
            dfatal "vestibule: no image is built, as nobody could log in to it"
            return 1
        fi
        while read -r line; do
            [[ $line ]] && dinfo "vestibule: $line"
        done <<< "$said"
    done

    keys=/etc/vestibule/authorized_keys
    [[ -e $host$keys ]] || keys=/root/.ssh/authorized_keys
    inst_secret "$keys" /etc/vestibule/authorized_keys
    inst_secret /etc/vestibule/ssh_host_ed25519_key
    inst_secret /etc/vestibule/config.toml
}

# inst_secret SOURCE [DESTINATION]: copies a file that exists, readable by root only.
inst_secret() {
    local source="$1" destination="${2:-$1}"

    [[ -e ${dracutsysrootdir-}$source ]] || return 0
    inst_simple "$source" "$destination" && chmod 0600 "$initdir/$destination"
}

# The image holds the host key. dracut makes new images 0600, but writes into one that exists, whose mode stays.
protect_image() {
    [[ -e $outfile ]] || return 0
    chmod go= "$outfile" || dwarn "vestibule: $outfile holds the SSH host key; make it readable by root only"
}
