//! The one type that a passphrase travels in.
//!
//! A [`Secret`] is wiped when it is dropped, can't be printed, compared or cloned by accident, and is kept out of
//! swap and core dumps by the process that holds it (`mlockall`, non-dumpable: see `hardening`). Copies that
//! libraries make on the way (SSH packets, channel buffers) are wiped by the zero-on-free allocator in `main.rs`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

/// Longest passphrase that is accepted, in bytes. cryptsetup reads 512 bytes interactively and up to 8 MiB from a
/// pipe; systemd's agents protocol carries 2048 (`LINE_MAX`, systemd `src/shared/ask-password-api.c`). A source with
/// a smaller limit says so in its verdict.
pub const MAX_LEN: usize = 8192;

/// Longest content of a key file that is fed, in bytes: it fits into a pipe whole (pipe(7)), and into memory that is
/// locked. Real ones have 32 to 4096; systemd would read 64 MiB (`READ_FULL_BYTES_MAX`), cryptsetup 8 MiB.
pub const MAX_KEY_LEN: usize = 64 << 10;

/// Bytes that nobody else may see: a passphrase, a PIN, or the content of a key file.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the one place that hands them over. Never format them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A second copy, for offering one passphrase to several prompts. Named and not `Clone`, so that every copy is a
    /// decision that a reader can see.
    pub fn duplicate(&self) -> Self {
        Self::new(self.0.to_vec())
    }

    /// Drops one trailing newline, as a passphrase from a pipe or a file has (`echo hunter2 | ssh host unlock`).
    pub fn without_trailing_newline(mut self) -> Self {
        if self.0.last() == Some(&b'\n') {
            let last = self.0.len() - 1;
            self.0[last].zeroize();
            self.0.truncate(last);
        }
        self
    }
}

/// Only the control protocol serialises a secret, over a socket pair that nobody else can read.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Secret;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("the bytes of a secret")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Secret, E> {
                Ok(Secret::new(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_newline_is_dropped() {
        for (given, kept) in [("x\n", "x"), ("x\n\n", "x\n"), ("x", "x"), ("", ""), ("\n", ""), ("a\nb", "a\nb")] {
            assert_eq!(Secret::new(given.into()).without_trailing_newline().expose(), kept.as_bytes(), "{given:?}");
        }
    }

    #[test]
    fn survives_the_control_protocol() {
        let bytes = postcard::to_allocvec(&Secret::new(vec![0, 255, b'\n'])).unwrap();
        assert_eq!(postcard::from_bytes::<Secret>(&bytes).unwrap().expose(), [0, 255, b'\n']);
    }
}
