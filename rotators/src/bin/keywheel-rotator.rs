//! keywheel-rotator.
fn main() -> std::process::ExitCode {
    keywheel_rotators::cli::main(std::env::args_os().skip(1))
}
