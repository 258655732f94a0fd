//! keywheel.
fn main() {}
