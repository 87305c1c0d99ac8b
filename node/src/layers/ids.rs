//! The owners inside the container of what lies shifted on the host (userns-remap).
//!
//! The engine then keeps its data in `<data root>/<uid>.<gid>`, named by the host's ids of the
//! container's root, and takes the ranges of that user from `/etc/subuid` and of that group from
//! `/etc/subgid`, in ascending order. Its own `commit` turns owners back by the same ranges.

use std::fs;

/// What the kernel shows in a container for an owner that is none of its own (`overflowuid`).
const NOBODY: u32 = 65534;

/// Both kinds of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ids {
    users: Ranges,
    groups: Ranges,
}

impl Ids {
    /// The ids of a data folder whose container's root is this user and group of the host.
    pub(crate) fn remapped((uid, gid): (u32, u32)) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            users: Ranges::of(uid, &read("/etc/subuid")),
            groups: Ranges::of(gid, &read("/etc/subgid")),
        }
    }

    /// The container's user.
    pub(super) fn user(&self, host: u32) -> u32 {
        self.users.inside(host).unwrap_or(NOBODY)
    }

    /// The container's group.
    pub(super) fn group(&self, host: u32) -> u32 {
        self.groups.inside(host).unwrap_or(NOBODY)
    }

    /// The container's user, if it has this one.
    pub(super) fn known_user(&self, host: u32) -> Option<u32> {
        self.users.inside(host)
    }
}

/// First id on the host and how many follow, one range behind the other in the container; none at
/// all: the ids are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// The ranges of whoever has one that begins at `root`. Where the table names nobody (ids from
    /// a directory service), all ids from `root` on are taken as one range.
    fn of(root: u32, table: &str) -> Self {
        let entries: Vec<(&str, u32, u32)> = table.lines().filter_map(entry).collect();
        let owner = entries.iter().find(|(_, first, _)| *first == root);
        let Some((owner, ..)) = owner else {
            return Self(vec![(root, u32::MAX - root)]);
        };
        let mut ranges: Vec<(u32, u32)> = entries
            .iter()
            .filter(|(name, ..)| name == owner)
            .map(|(_, first, count)| (*first, *count))
            .collect();
        ranges.sort_unstable();
        Self(ranges)
    }

    fn inside(&self, host: u32) -> Option<u32> {
        if self.0.is_empty() {
            return Some(host);
        }
        let mut begin: u32 = 0;
        for (first, count) in &self.0 {
            if let Some(offset) = host.checked_sub(*first).filter(|o| o < count) {
                return begin.checked_add(offset);
            }
            begin = begin.checked_add(*count)?;
        }
        None
    }
}

/// `name:first:count`
fn entry(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.trim().split(':');
    let name = fields.next()?;
    let first = fields.next()?.parse().ok()?;
    let count = fields.next()?.parse().ok()?;
    Some((name, first, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_shift_every_owner_stays() {
        let ids = Ids::default();
        assert_eq!((ids.user(0), ids.group(4_000_000_000)), (0, 4_000_000_000));
    }

    #[test]
    fn ranges_follow_each_other_in_ascending_order() {
        let table = "# none\nother:100000:5\nremap:300000:10\nbad\nremap:200000:3\n";
        let ranges = Ranges::of(200_000, table);
        for (host, inside) in [
            (200_000, Some(0)),
            (200_002, Some(2)),
            (300_000, Some(3)),
            (300_009, Some(12)),
            (300_010, None),
            (200_003, None),
            (0, None),
        ] {
            assert_eq!(ranges.inside(host), inside, "{host}");
        }
    }

    #[test]
    fn a_table_that_names_nobody_leaves_one_range() {
        let ranges = Ranges::of(100_000, "");
        assert_eq!(ranges.inside(100_000), Some(0));
        assert_eq!(ranges.inside(165_534), Some(65_534));
        assert_eq!(ranges.inside(99_999), None);
    }
}
