//! The NICs of a VM: links of the host and of its network namespace ([`links`]), plugged and pulled
//! ([`plug`]), and the chain in which OpenNebula filters them ([`chain`]).

pub mod chain;
pub mod links;
pub mod plug;
