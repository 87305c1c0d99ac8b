//! Whole-program tests: see `tests/`.

pub mod dns_server;
pub mod engine_server;
pub mod machine;
pub mod registry_server;
pub mod replay;
