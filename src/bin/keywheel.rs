//! The `keywheel` command; all of it is in [`keywheel::cli`].

fn main() -> std::process::ExitCode {
    keywheel::cli::main()
}
