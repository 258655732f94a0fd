//! The report of all benches: one table, a row when it is known.

/// The head of the table.
#[allow(dead_code, reason = "the first bench prints it")]
pub(crate) fn head() {
    line("", "MEASURED", "BAR", "");
}

/// A figure beside its bar.
pub(crate) fn row(name: &str, measured: &str, bar: &str, holds: bool) {
    line(name, measured, bar, if holds { "ok" } else { "MISSED" });
}

/// A figure that has none.
#[allow(dead_code, reason = "not every bench has one")]
pub(crate) fn figure(name: &str, measured: &str) {
    line(name, measured, "", "");
}

fn line(name: &str, measured: &str, bar: &str, verdict: &str) {
    println!("{name:<52}  {measured:<34}  {bar:<14}  {verdict}");
}
