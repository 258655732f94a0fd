//! keywheeld.
fn main() {}
