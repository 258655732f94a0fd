//! The built-in rotators.
