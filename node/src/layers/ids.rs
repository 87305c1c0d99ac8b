//! The owners inside the container of what lies shifted on the host (userns-remap), by the mappings
//! of the container's user namespace.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the kernel shows in a container for an owner that is none of its own (`overflowuid`).
const NOBODY: u32 = 65534;

/// Both kinds of ids; without a mapping they are the same inside and outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ids {
    users: Vec<Range>,
    groups: Vec<Range>,
}

/// `LinuxIDMapping` of the runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range {
    #[serde(rename = "containerID")]
    inside: u32,
    #[serde(rename = "hostID")]
    host: u32,
    size: u32,
}

impl Ids {
    /// The mappings in the part `linux` of a bundle's configuration.
    ///
    /// # Errors
    ///
    /// They are no mappings.
    pub(crate) fn of_bundle(linux: &Value) -> serde_json::Result<Self> {
        let read = |key: &str| match linux.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(list) => serde_json::from_value(list.clone()),
        };
        Ok(Self {
            users: read("uidMappings")?,
            groups: read("gidMappings")?,
        })
    }

    /// The host's ids of the container's root.
    pub(crate) fn root(&self) -> (u32, u32) {
        let host = |ranges: &[Range]| {
            let of_root = ranges.iter().find(|range| range.inside == 0);
            of_root.map_or(0, |range| range.host)
        };
        (host(&self.users), host(&self.groups))
    }

    /// The container's user.
    pub(super) fn user(&self, host: u32) -> u32 {
        inside(&self.users, host).unwrap_or(NOBODY)
    }

    /// The container's group.
    pub(super) fn group(&self, host: u32) -> u32 {
        inside(&self.groups, host).unwrap_or(NOBODY)
    }

    /// The container's user, if it has this one.
    pub(super) fn known_user(&self, host: u32) -> Option<u32> {
        inside(&self.users, host)
    }
}

fn inside(ranges: &[Range], host: u32) -> Option<u32> {
    if ranges.is_empty() {
        return Some(host);
    }
    ranges.iter().find_map(|range| {
        let offset = host.checked_sub(range.host).filter(|o| *o < range.size)?;
        range.inside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn without_a_mapping_every_owner_stays() {
        for linux in [json!({}), json!({"uidMappings": null, "gidMappings": []})] {
            let ids = Ids::of_bundle(&linux).unwrap();
            assert_eq!(ids, Ids::default());
            assert_eq!((ids.user(0), ids.group(4_000_000_000)), (0, 4_000_000_000));
            assert_eq!(ids.root(), (0, 0));
        }
    }

    #[test]
    fn owners_are_those_that_the_user_namespace_maps() {
        let ids = Ids::of_bundle(&json!({
            "uidMappings": [{"containerID": 3, "hostID": 300_000, "size": 10},
                {"containerID": 0, "hostID": 200_000, "size": 3}],
            "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65_536}],
        }))
        .unwrap();
        assert_eq!(ids.root(), (200_000, 100_000));
        for (host, inside) in [
            (200_000, Some(0)),
            (200_002, Some(2)),
            (200_003, None),
            (300_000, Some(3)),
            (300_009, Some(12)),
            (300_010, None),
            (0, None),
        ] {
            assert_eq!(ids.known_user(host), inside, "{host}");
            assert_eq!(ids.user(host), inside.unwrap_or(65_534), "{host}");
        }
        assert_eq!((ids.group(165_535), ids.group(165_536)), (65_535, 65_534));
    }

    #[test]
    fn a_mapping_that_is_none_is_refused() {
        for bad in [
            json!({"uidMappings": 5}),
            json!({"gidMappings": [{"hostID": 1}]}),
        ] {
            assert!(Ids::of_bundle(&bad).is_err());
        }
    }
}
