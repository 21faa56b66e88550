//! `vestibule chroot`, as root, in namespaces of each test.

mod services;
