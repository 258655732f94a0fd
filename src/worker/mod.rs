//! Running rotators: one process per step, caged, killed at its deadline.
