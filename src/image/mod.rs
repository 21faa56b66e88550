//! What runs at image build, on the host: host keys, the check that somebody will get in, and
//! what is taken over from dropbear.

pub mod check;
pub mod import;
pub mod keys;
