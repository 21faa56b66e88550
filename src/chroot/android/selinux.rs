//! The SELinux context that this process runs in, and whether a chroot can be started from it.
//!
//! Processes of the chroot inherit it. Root of a context that the policy restricts may mount nothing: mount(2) fails with
//! EACCES, whatever the user. Which contexts do is in docs/android.md, with where that is known from.

use std::fmt::{self, Display, Formatter};

use crate::root::Root;

/// proc(5): the security context of this process.
const CURRENT: &str = "/proc/self/attr/current";
/// selinuxfs: `0` while violations are only logged.
const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// Types (the third part of a context) of which Android's own policy says what they may do, and that is not mounting. Apps'
/// types have a suffix for the version that they were made for (`untrusted_app_27`).
const RESTRICTED: [&str; 8] =
    ["untrusted_app", "isolated_app", "ephemeral_app", "platform_app", "priv_app", "system_app", "shell", "adbd"];

/// `u:r:magisk:s0`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    text: String,
    enforcing: bool,
}

/// Of this process; none where there is no SELinux.
pub fn context(root: &Root) -> Option<Context> {
    // Reading fails (EINVAL) in a kernel without any such module.
    let bytes = std::fs::read(root.join(CURRENT)).ok()?;
    let text = String::from_utf8(bytes).ok()?.trim_end_matches(['\0', '\n']).to_owned();
    // user:role:type:range; AppArmor's, in the same file, are the names of profiles.
    let is_selinux = text.splitn(4, ':').filter(|part| !part.is_empty()).count() >= 3;
    // Who may not read whether it is enforced lives under one that is.
    let enforcing = !std::fs::read(root.join(ENFORCE)).is_ok_and(|value| value.starts_with(b"0"));
    is_selinux.then_some(Context { text, enforcing })
}

impl Context {
    /// What is wrong with it, and what to do; nothing, if nothing is known against it.
    pub fn warning(&self) -> Option<String> {
        let kind = self.text.split(':').nth(2).unwrap_or_default();
        let is = |restricted: &&str| {
            let rest = kind.strip_prefix(*restricted);
            rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('_') && restricted.ends_with("_app")))
        };
        (self.enforcing && RESTRICTED.iter().any(is)).then(|| {
            format!(
                "the SELinux context {} may not make mounts, even as root: start this with su of Magisk, KernelSU or \
                 SuperSU (su -c 'vestibule chroot start NAME'), or at boot (vestibule chroot install android NAME)",
                self.text
            )
        })
    }
}

impl Display for Context {
    fn fmt(&self, formatter: &mut Formatter) -> fmt::Result {
        write!(formatter, "{} ({})", self.text, if self.enforcing { "enforcing" } else { "permissive" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::tests::Fixture;

    #[test]
    fn contexts() {
        for (current, enforce, shown, warned) in [
            (&b"u:r:magisk:s0\0"[..], "1", Some("u:r:magisk:s0 (enforcing)"), false),
            (b"u:r:su:s0\n", "1", Some("u:r:su:s0 (enforcing)"), false),
            (b"u:r:shell:s0\0", "1", Some("u:r:shell:s0 (enforcing)"), true),
            (b"u:r:shell:s0", "0", Some("u:r:shell:s0 (permissive)"), false),
            (b"u:r:untrusted_app_27:s0:c512,c768", "1", Some("u:r:untrusted_app_27:s0:c512,c768 (enforcing)"), true),
            (b"u:r:system_app:s0", "1", Some("u:r:system_app:s0 (enforcing)"), true),
            (b"u:r:shell_tool:s0", "1", Some("u:r:shell_tool:s0 (enforcing)"), false),
            (b"u:r:app:s0", "", Some("u:r:app:s0 (enforcing)"), false),
            (b"unconfined\n", "1", None, false),
            (b"", "1", None, false),
        ] {
            let root =
                Fixture::new(&[("/proc/self/attr/current", current), ("/sys/fs/selinux/enforce", enforce.as_bytes())]);
            let context = context(&root);
            assert_eq!(context.as_ref().map(Context::to_string).as_deref(), shown);
            assert_eq!(context.and_then(|context| context.warning()).is_some(), warned, "{shown:?}");
        }
        assert_eq!(context(&Fixture::new(&[])), None);
    }
}
