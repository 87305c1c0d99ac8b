//! Every action as `one_datastore` runs it: the program itself, the recorded XML of both releases
//! on its standard input, and a real registry.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

mod disks;
mod export;
mod images;
mod sources;
mod test_datastore;
