//! What is different on Android: a Linux kernel below a user land of its own, without /etc/passwd and /bin/sh, with SELinux,
//! and with sockets for members of a group alone. Nothing here links to bionic.

pub mod install;
pub mod properties;
pub mod script;
pub mod selinux;

use crate::root::Root;

/// Every Android has one of them. Names are looked at and not opened: since Android 8 not everybody may read the first.
const SIGNS: [&str; 2] = ["/system/build.prop", "/system/bin/app_process"];

/// `AID_INET` of AOSP's `system/core/libcutils/include/private/android_filesystem_config.h`: "can create AF_INET and
/// AF_INET6 sockets". Kernels of Android with `CONFIG_ANDROID_PARANOID_NETWORK` (up to 4.x) refuse them to all others but
/// root.
const INET: u32 = 3003;

/// Whether the system outside is an Android.
pub fn is_android(root: &Root) -> bool {
    SIGNS.iter().any(|path| root.join(path).symlink_metadata().is_ok())
}

/// Groups, by number, without which a process that isn't root's has no network on Android. Those that give more than
/// sockets are not among them: the same kernels take `net_raw` (3004) and `net_admin` (3005) for the capabilities of these
/// names, which is for the chroot's owner to give, to one service or account.
pub fn network_groups() -> [u32; 1] {
    [INET]
}

/// What is to be known of the system outside, for people: nothing, where it is no Android and has no SELinux.
pub fn remarks(root: &Root) -> Vec<String> {
    let Some(context) = selinux::context(root) else { return Vec::new() };
    let shown = format!("SELinux context: {context}");
    [shown].into_iter().chain(context.warning()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    #[test]
    fn android_is_recognized() {
        let root = Fixture::new(&[("/system/bin/sh", b"")]);
        assert!(!is_android(&root));
        // A link that leads nowhere in the fixture, as it may on a phone whose partitions are not all mounted yet.
        std::os::unix::fs::symlink("/nowhere/app_process64", root.join("/system/bin/app_process")).unwrap();
        assert!(is_android(&root));
        assert!(is_android(&Fixture::new(&[("/system/build.prop", b"")])));
    }
}
