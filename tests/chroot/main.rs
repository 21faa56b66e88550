//! `vestibule chroot` as root, each test on a machine of its own: mounts, processes and network go with it.

mod inside;
mod lab;
mod mounts;
mod services;
mod trees;
