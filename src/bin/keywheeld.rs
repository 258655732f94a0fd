//! `keywheeld`; everything it does is in the library.

fn main() -> std::process::ExitCode {
    keywheel::daemon::main()
}
