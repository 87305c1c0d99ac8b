//! Editors for files that belong to others: each knows one syntax, finds one value, and leaves
//! every other byte alone.

pub mod daemon_json;
pub mod docker_config;
pub mod json;
pub mod shell_rc;
pub mod template;
pub mod template_read;
mod template_scan;
