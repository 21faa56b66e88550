#!/bin/sh
# Sourced by dracut's init (no systemd), synchronously: nothing here may wait.

# shellcheck source=/dev/null
type getargbool > /dev/null 2>&1 || . /lib/dracut-lib.sh

if getargbool 1 rd.vestibule; then
    # Started again when it fails, as the systemd unit has it (Restart=on-failure). The console is not its standard
    # input, which cryptsetup reads the passphrase from; what it says before its log works goes to the kernel log.
    (until vestibule serve; do sleep 1; done) < /dev/null > /dev/kmsg 2>&1 &
    echo $! > /run/vestibule-start.pid
fi
