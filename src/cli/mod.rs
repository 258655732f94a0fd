//! The `keywheel` command.
