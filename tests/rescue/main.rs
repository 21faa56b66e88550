//! What a session may have started, through the control protocol of a real daemon: real shells, terminals, processes.

#[path = "../common/mod.rs"]
#[allow(dead_code)]
mod common;
mod forwards;
mod hand_over;
mod lab;
mod programs;
mod terminals;
