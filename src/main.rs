//! The `handover` program.

fn main() {}
