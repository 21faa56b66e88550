//! What a systemd question wants, and of whom. Pure.
//!
//! What is a passphrase and what a PIN (a PIN is only answered when its volume is named): systemd-cryptsetup marks the
//! passphrase questions of volumes with `Id=cryptsetup:…`; its questions for TPM2, FIDO2 and token PINs have no such
//! `Id`. Questions of other programs (`systemd-ask-password` in a script) count as passphrases only when they are those
//! of ZFS, or their text says so and says nothing of a PIN; everything else is treated as a PIN.

use super::Kind;
use super::ask_file::Ask;
use super::zfs::message_dataset;

/// The ZFS dataset that a script asks for.
pub fn dataset(ask: &Ask) -> Option<&str> {
    message_dataset(&ask.message).filter(|_| ask.id.is_none())
}

/// The UUID of the file system that `bcachefs unlock` or `mount.bcachefs` asks for: an `Id=` like a volume's, of no device
/// (`ask_from_systemd_and_check()` in `src/key.rs` of bcachefs-tools).
pub fn bcachefs(ask: &Ask) -> Option<String> {
    let uuid = ask.disk()?.device.strip_prefix("UUID=")?.to_owned();
    let plain = uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (plain && !uuid.is_empty() && ask.message.trim() == "Enter passphrase:").then_some(uuid)
}

/// What a question wants; `attach` says that systemd-cryptsetup asks it. Whatever is not known for a passphrase is a PIN.
pub fn kind(ask: &Ask, attach: bool) -> Kind {
    let script = || !attach && ask.id.is_none() && (dataset(ask).is_some() || wants_passphrase(&ask.message));
    match ask.disk().is_some() || script() {
        true => Kind::Passphrase,
        false => Kind::Pin,
    }
}

/// Whether a question that no volume is known for asks for a passphrase: it must say so.
fn wants_passphrase(message: &str) -> bool {
    let message = message.to_lowercase();
    let mut words = message.split(|c: char| !c.is_alphanumeric());
    let pin = words.clone().any(|word| word == "pin");
    !pin && words.any(|word| matches!(word, "passphrase" | "password" | "passphrases" | "passwords"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What systemd-cryptsetup 252 and 257 ask (`cryptsetup.c`, `cryptsetup-{fido2,tpm2}.c` in `src/cryptsetup`,
    /// `src/shared/pkcs11-util.c`); 252's PKCS#11 questions end in "unlock disk …" in older point releases.
    #[test]
    fn no_pin_is_taken_for_a_passphrase() {
        #[rustfmt::skip]
        let asked = [
            ("Please enter passphrase for disk QEMU (root):", "Id=cryptsetup:/dev/vda2", Kind::Passphrase),
            ("Please enter recovery key for disk QEMU (root):", "Id=cryptsetup:/dev/vda2", Kind::Passphrase),
            ("Please enter passphrase or recovery key for disk QEMU (root):", "Id=cryptsetup:/dev/vda2", Kind::Passphrase),
            ("Please enter passphrase for disk PIN PIN:", "Id=cryptsetup:/dev/disk/by-label/PIN\\x20PIN", Kind::Passphrase),
            ("Please enter passphrase for disk QEMU (root): (verification)", "Id=cryptsetup-verification:/dev/vda2", Kind::Passphrase),
            ("Please enter TPM2 PIN:", "", Kind::Pin),
            ("Please enter LUKS2 token PIN:", "", Kind::Pin),
            ("Please enter security token PIN:", "", Kind::Pin),
            ("Please enter PIN for security token 'my passphrase' in order to unlock disk root:", "Id=pkcs11:pkcs11:token=x", Kind::Pin),
            ("Please enter PIN for security token 'x' in order to unlock disk root (try #2):", "Id=pkcs11:pkcs11:token=x", Kind::Pin),
            ("Please enter correct PIN for security token 'x' in order to unlock disk root (final try):", "Id=pkcs11:pkcs11:token=x", Kind::Pin),
            ("PIN has been entered incorrectly previously, please enter correct PIN for security token 'x' in order to unlock root:", "Id=pkcs11:pkcs11:token=x", Kind::Pin),
            ("Something new about a password:", "", Kind::Pin),
            ("Something new about a passphrase:", "Id=new:/dev/vda2", Kind::Pin),
        ];
        for (message, id, expected) in asked {
            let ask = Ask::parse(format!("[Ask]\nPID=1\nSocket=/s\nMessage={message}\n{id}\n").as_bytes()).unwrap();
            assert_eq!(kind(&ask, true), expected, "{message}");
        }
    }
}
