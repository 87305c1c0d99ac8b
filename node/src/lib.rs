//! What needs root on a node.
