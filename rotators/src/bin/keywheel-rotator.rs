//! keywheel-rotator.
fn main() {}
