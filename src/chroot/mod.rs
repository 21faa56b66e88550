//! `vestibule chroot`: a Linux system in a directory, brought up inside whatever runs here: a rooted phone, a board, a rescue
//! medium.

pub mod android;
pub mod definition;
pub mod log;
