//! `oned`'s side of the contract, for programs that play its part: `onedock run`, the replay
//! of recorded calls, tests and benches. How a driver is called ([`call`]), what is read of its
//! answer ([`reply`]), and the documents that it is handed ([`vm`], [`context`], [`datastore`]).

pub mod attributes;
pub mod call;
pub mod context;
pub mod datastore;
pub mod reply;
pub mod vm;

pub use attributes::{Attributes, Value};
pub use call::call;
pub use reply::Reply;

#[cfg(test)]
mod tests;
