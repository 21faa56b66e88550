//! `vestibule chroot` as root, each test on a machine of its own: mounts, processes and network go with it.

mod android;
mod inside;
mod lab;
mod log;
mod mounts;
mod namespaces;
mod old_kernel;
mod outside;
mod server;
mod services;
mod trees;
mod wanted;
