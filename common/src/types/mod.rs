//! The checked small types: a value of one of them has been read once and is trusted afterwards.

pub mod capability;
pub mod cpu_list;
pub mod date;
pub mod decimal;
pub mod digest;
pub mod dns;
pub mod environment;
pub mod ids;
pub mod image_config;
pub mod names;
pub mod nic;
pub mod reference;
pub mod registry_pattern;
pub mod secret;
pub mod system_datastore;
pub mod text;
