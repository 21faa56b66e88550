#!/bin/sh
# Sourced by dracut's init (no systemd) just before the real root takes over.

# shellcheck source=/dev/null
type warn > /dev/null 2>&1 || . /lib/dracut-lib.sh

if [ -e /run/vestibule-start.pid ]; then
    # First what would start it again, then the daemon, which has its own deadline for undoing the network.
    kill "$(cat /run/vestibule-start.pid)" 2> /dev/null
    rm -f /run/vestibule-start.pid
    vestibule stop || warn "vestibule did not stop in order; its addresses or processes may be left"
fi
