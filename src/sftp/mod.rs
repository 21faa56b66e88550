//! SFTP version 3: its packets (`message`), paths as a client sees them (`path`), and what a client may do (`access`).

pub mod access;
pub mod message;
pub mod path;
