"""What the boot tests are made of: cached guests, disks, QEMU, and the vocabulary that cases are written in."""
