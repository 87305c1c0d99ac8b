//! Whether the kernel makes a loop device for whoever opens the node of one that is not there. Every container
//! may make nodes; a device that comes about so is free, and the host puts files of its own behind it
//! (docs/decisions/0017-loop-devices.md).

use std::fs;
use std::path::Path;

/// From this index on, loop devices are containers' own.
pub const RESERVED: u32 = 65_536;
/// What a kernel answers when nothing was set: 0, or, in newer ones, the number of devices at the
/// start (`CONFIG_BLK_DEV_LOOP_MIN_COUNT`, 0 or 8), which then bounds nothing.
const NOT_SET: [u32; 2] = [0, 8];

/// What bounds the devices that an open makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopBound {
    /// `max_loop` of the driver, below those of containers.
    InForce,
    /// Nothing; the driver is a module, and an option is read when it is loaded.
    UnsetInModule,
    /// Nothing; the driver is built in, and an option is on the kernel's command line.
    UnsetInKernel,
}

impl LoopBound {
    /// Of the running kernel; none when it has no loop driver (yet).
    pub fn of_kernel() -> Option<Self> {
        let module = Path::new("/sys/module/loop");
        let bound = fs::read_to_string(module.join("parameters/max_loop")).ok()?;
        // Only a module that was loaded has a state (Documentation/ABI/stable/sysfs-module).
        Some(Self::of(&bound, !module.join("initstate").exists()))
    }

    fn of(bound: &str, built_in: bool) -> Self {
        let bound: u32 = bound.trim().parse().unwrap_or(0);
        match bound <= RESERVED && !NOT_SET.contains(&bound) {
            true => Self::InForce,
            false if built_in => Self::UnsetInKernel,
            false => Self::UnsetInModule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_set_is_told_from_a_default() {
        for (text, built_in, expected) in [
            ("16\n", false, LoopBound::InForce),
            ("64\n", true, LoopBound::InForce),
            ("65536\n", true, LoopBound::InForce),
            ("65537\n", true, LoopBound::UnsetInKernel),
            ("0\n", false, LoopBound::UnsetInModule),
            ("8\n", true, LoopBound::UnsetInKernel),
            ("?", false, LoopBound::UnsetInModule),
        ] {
            assert_eq!(LoopBound::of(text, built_in), expected, "{text:?}");
        }
    }
}
