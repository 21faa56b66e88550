//! Commands that pass a session on.
