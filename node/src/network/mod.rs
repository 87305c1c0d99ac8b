//! The NICs of a VM: links of the host and of its network namespace ([`links`]), plugged and pulled
//! ([`plug`]), set up inside ([`inside`]), changed while the VM runs ([`change`]), as ports of Linux
//! and Open vSwitch bridges ([`open_vswitch`]), guarded at their host ends ([`guard`]), and the chain in
//! which OpenNebula filters them ([`chain`]).

pub mod chain;
pub mod change;
mod error;
mod guard;
mod inside;
pub mod links;
mod open_vswitch;
pub mod plug;
mod token_bucket;

pub use error::PlugError;
