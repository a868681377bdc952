//! The guest agent, PID 1 of the confidential VM.

fn main() {}
