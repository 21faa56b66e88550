"""Images of initramfs-tools, for `images.KINDS`. A kind's options are what it has besides vestibule and cryptsetup-initramfs:
`plymouth`, `dropbear-initramfs`; and `no-vestibule` for a guest that something else is measured in."""

from . import disks
from .tools import REPOSITORY

PACKAGES = "initramfs-tools cryptsetup-initramfs busybox udev kmod e2fsprogs iproute2 zstd make plymouth dropbear-initramfs"
PACKAGES_BY_SUITE = {}

# Files whose change makes a new image.
SOURCES = (REPOSITORY / "initramfs-tools-hook",)

# In the tree, after vestibule was installed; $version is the kernel's, $options the kind's. The tree has every package,
# and what the kind hasn't is removed as a user would. `initramfs` in crypttab: the disk is not this system's own root.
# The size is that of the image as it is. The guests get it uncompressed, which saves the emulated processor time; not
# where it has several parts (trixie: modules, which are compressed by themselves, and the rest).
SCRIPT = r"""
for package in plymouth dropbear-initramfs; do
    case " $options " in
        *" $package "*) ;;
        *) chroot /mnt/root dpkg --no-triggers --purge "$package" ;;
    esac
done
case " $options " in
    *" dropbear-initramfs "*)
        cp "$2/authorized_keys" /mnt/root/etc/dropbear/initramfs/authorized_keys ;;
esac
case " $options " in
    *" no-vestibule "*)
        make -C "$3" uninstall DESTDIR=/mnt/root PREFIX=/usr
        echo 'DROPBEAR_OPTIONS="-p 2222 -s -j -k"' > /mnt/root/etc/dropbear/initramfs/dropbear.conf
        key=$(chroot /mnt/root dropbearkey -y -f /etc/dropbear/initramfs/dropbear_ed25519_host_key | grep '^ssh-ed25519')
        echo "known_hosts: dropbear $key" ;;
esac
echo "CRYPTTAB" > /mnt/root/etc/crypttab
chroot /mnt/root update-initramfs -c -k "$version"
stat -c %s "/mnt/root/boot/initrd.img-$version" > "$2/size"
stat -c "mode %a" "/mnt/root/boot/initrd.img-$version"
if zstd -q -t "/mnt/root/boot/initrd.img-$version" 2> /dev/null; then
    (umask 0777; zstd -q -d -c < "/mnt/root/boot/initrd.img-$version" > /mnt/root/boot/initramfs.plain)
    chmod --reference="/mnt/root/boot/initrd.img-$version" /mnt/root/boot/initramfs.plain
    mv /mnt/root/boot/initramfs.plain /mnt/root/boot/initramfs
else
    mv "/mnt/root/boot/initrd.img-$version" /mnt/root/boot/initramfs
fi
"""


def crypttab(*volumes):
    """crypttab(5) for these disks."""
    return "".join(f"{disk.volume} UUID={disk.uuid} none luks,initramfs\n" for disk in volumes)


SCRIPT = SCRIPT.replace("CRYPTTAB", crypttab(disks.ROOT).strip())


def kernel_arguments(volumes, root_uuid):
    """What finds the file system of the root; crypttab in the image says what opens the disks."""
    return [f"root=UUID={root_uuid}", "ro"]
