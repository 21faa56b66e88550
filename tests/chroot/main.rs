//! `vestibule chroot` as root, each test on a machine of its own: mounts, processes and network go with it.

mod android;
mod house;
mod inside;
mod lab;
mod log;
mod mounts;
mod namespaces;
mod old_kernel;
mod outside;
mod server;
mod services;
mod strangers;
mod trees;
mod wanted;
