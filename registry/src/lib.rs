//! Registry v2.
