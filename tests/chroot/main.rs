//! `vestibule chroot`, on trees that the tests make. Most of it needs root, and mounts nothing outside of a mount namespace of
//! the test's own.

mod android;
mod log;
