//! The manifest compiler: TOML to checked model to compiled plan.
#![forbid(unsafe_code)]
