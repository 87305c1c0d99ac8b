//! From the DISKs of a template to what the container has of them, and where. Pure.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use onedock_common::DiskId;
use onedock_common::disk_file::Fs;
use onedock_common::opennebula::vm::{Disk, Vm};
use onedock_common::state::boot;
use onedock_common::types::names::{DeviceName, MountPath};

/// What lies at `disk.<n>` of the VM's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskForm {
    /// A container's descriptor.
    Container,
    /// A disk in a file.
    File,
}

/// Where a disk is shown in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDisk {
    /// DISK/DISK_ID.
    pub id: DiskId,
    /// Where it is mounted; `None`: only its device is shown.
    pub mount: Option<MountPath>,
    /// The device's name.
    pub device: DeviceName,
    /// Whether it can only be read.
    pub read_only: bool,
}

impl From<&boot::Disk> for PlannedDisk {
    fn from(disk: &boot::Disk) -> Self {
        Self {
            id: disk.id,
            mount: disk.mount.clone(),
            device: disk.device.clone(),
            read_only: disk.read_only,
        }
    }
}

/// The disk that is the VM's container: the first one in OS/BOOT that is a container, else the
/// first in the order of the disks.
pub fn root(vm: &Vm, forms: &BTreeMap<DiskId, DiskForm>) -> Option<DiskId> {
    let is_container = |id: &DiskId| forms.get(id) == Some(&DiskForm::Container);
    let booted = vm.boot_order.as_deref().unwrap_or_default().split(',');
    booted
        .filter_map(|word| word.trim().strip_prefix("disk")?.parse().ok())
        .find(is_container)
        .or_else(|| vm.disks.iter().map(|disk| disk.id).find(is_container))
}

/// A volatile swap disk.
pub fn is_swap(disk: &Disk) -> bool {
    disk.image.is_none() && disk.kind.as_deref() == Some("SWAP")
}

/// Whether the disk is shown in the container. A swap disk is an allowance for the memory, as a
/// container has no swap of its own, unless its device is asked for.
pub fn is_shown(disk: &Disk) -> bool {
    !is_swap(disk) || disk.device
}

/// What the swap disks among `disks` add to the memory, in bytes.
pub fn swap<'a>(disks: impl Iterator<Item = &'a Disk>) -> i64 {
    disks
        .filter(|disk| !is_shown(disk))
        .filter_map(|disk| i64::try_from(bytes(disk)?).ok())
        .fold(0, i64::saturating_add)
}

/// How large the disk's file has to be.
pub fn bytes(disk: &Disk) -> Option<u64> {
    disk.size_mib.and_then(|mib| mib.checked_mul(1 << 20))
}

/// Whether the VM's disk was asked for larger than its image.
pub fn bound(disk: &Disk) -> Option<u64> {
    disk.size_mib
        .filter(|size| disk.original_size_mib.is_some_and(|image| *size > image))
}

/// The file system that the disk gets while nothing was ever written to it.
pub fn file_system(disk: &Disk) -> anyhow::Result<Option<Fs>> {
    if disk.image.is_some() || is_swap(disk) || disk.read_only {
        return Ok(None);
    }
    match &disk.fs {
        None if disk.device => Ok(None),
        None => Ok(Some(Fs::Ext4)),
        Some(name) => name
            .parse()
            .map(Some)
            .with_context(|| format!("DISK {}, FS", disk.id)),
    }
}

/// Where all disks beside the root disk are shown, in the order of their ids.
pub fn all(
    vm: &Vm,
    root: DiskId,
    forms: &BTreeMap<DiskId, DiskForm>,
) -> anyhow::Result<Vec<PlannedDisk>> {
    let mut disks: Vec<&Disk> = vm
        .disks
        .iter()
        .filter(|disk| disk.id != root && is_shown(disk))
        .collect();
    disks.sort_by_key(|disk| disk.id);
    // A name that the template gives stands before one that is found here.
    disks.sort_by_key(|disk| named_device(disk).is_none());
    let mut planned_disks: Vec<PlannedDisk> = Vec::new();
    for disk in disks {
        let form = forms.get(&disk.id).copied().unwrap_or(DiskForm::File);
        let planned_disk = one(disk, form, &planned_disks)?;
        planned_disks.push(planned_disk);
    }
    planned_disks.sort_by_key(|planned_disk| planned_disk.id);
    if let Some((outer, inner)) = hidden(&planned_disks) {
        bail!(
            "DISK {} would be mounted over DISK {}; give them other MOUNTPOINTs, or the outer one the lower id",
            outer.id,
            inner.id
        );
    }
    Ok(planned_disks)
}

/// Where one disk is shown beside those that are there.
pub fn one(disk: &Disk, form: DiskForm, others: &[PlannedDisk]) -> anyhow::Result<PlannedDisk> {
    let id = disk.id;
    let mount = mount(disk, form)?;
    let device = match named_device(disk) {
        Some(name) => name.parse().with_context(|| format!("DISK {id}, TARGET"))?,
        None => free_device(id, others)?,
    };
    for other in others.iter().filter(|other| other.id != id) {
        ensure!(
            mount.is_none() || mount != other.mount,
            "DISK {id} and DISK {} would both be mounted at {}; give one of them another MOUNTPOINT",
            other.id,
            mount.as_ref().map(MountPath::as_str).unwrap_or_default()
        );
        ensure!(
            device != other.device,
            "DISK {id} and DISK {} both have TARGET={device}; give one of them another TARGET",
            other.id
        );
    }
    Ok(PlannedDisk {
        id,
        mount,
        device,
        read_only: disk.read_only,
    })
}

/// Where the mount of a further disk would hide one that is there.
pub fn hides<'a>(planned_disk: &PlannedDisk, others: &'a [PlannedDisk]) -> Option<&'a PlannedDisk> {
    others
        .iter()
        .find(|other| other.id != planned_disk.id && is_beneath(planned_disk, other))
}

/// MOUNTPOINT, else a TARGET that is a path, else `/media/disk.<id>`.
fn mount(disk: &Disk, form: DiskForm) -> anyhow::Result<Option<MountPath>> {
    let id = disk.id;
    if disk.device {
        ensure!(
            form == DiskForm::File,
            "DISK {id} has DEVICE=YES, but its image is one of a container, which has no device; take DEVICE out of the template"
        );
        return Ok(None);
    }
    let (path, from) = match (&disk.mountpoint, &disk.target) {
        (Some(path), _) => (path.clone(), "MOUNTPOINT"),
        (None, Some(target)) if target.starts_with('/') => (target.clone(), "TARGET"),
        _ => (format!("/media/disk.{id}"), "MOUNTPOINT"),
    };
    let path = path.parse().with_context(|| format!("DISK {id}, {from}"))?;
    Ok(Some(path))
}

fn named_device(disk: &Disk) -> Option<&str> {
    disk.target.as_deref().filter(|name| !name.starts_with('/'))
}

/// `vda`, `vdb`, … by the disk's id, or the next one that is free.
fn free_device(id: DiskId, others: &[PlannedDisk]) -> anyhow::Result<DeviceName> {
    (0..700)
        .filter_map(|n| {
            format!("vd{}", letters(id.get().checked_add(n)?))
                .parse()
                .ok()
        })
        .find(|name: &DeviceName| others.iter().all(|other| other.device != *name))
        .with_context(|| format!("DISK {id} needs a TARGET such as vdb"))
}

/// `a` to `z`, `aa` …, as the kernel names disks.
fn letters(mut n: u32) -> String {
    let mut text = Vec::new();
    loop {
        text.push(char::from(b'a' + u8::try_from(n % 26).unwrap_or(0)));
        if n < 26 {
            break;
        }
        n = n / 26 - 1;
    }
    text.iter().rev().collect()
}

/// The first disk whose mount would hide that of one with a lower id, which is mounted before.
fn hidden(planned_disks: &[PlannedDisk]) -> Option<(&PlannedDisk, &PlannedDisk)> {
    planned_disks.iter().enumerate().find_map(|(n, outer)| {
        let inner = hides(outer, planned_disks.get(..n)?)?;
        Some((outer, inner))
    })
}

fn is_beneath(outer: &PlannedDisk, inner: &PlannedDisk) -> bool {
    let (Some(outer), Some(inner)) = (&outer.mount, &inner.mount) else {
        return false;
    };
    inner
        .as_str()
        .strip_prefix(outer.as_str())
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::opennebula::nic::DEFAULT_PREFIX;

    const RECORDED: [&str; 2] = [
        include_str!("../../../common/testdata/deploy-7.4.0.xml"),
        include_str!("../../../common/testdata/deploy-6.10.xml"),
    ];

    fn vms() -> Vec<Vm> {
        let read = |text: &&str| Vm::from_deployment(text.as_bytes(), DEFAULT_PREFIX).unwrap();
        RECORDED.iter().map(read).collect()
    }

    fn forms(containers: &[u32], files: &[u32]) -> BTreeMap<DiskId, DiskForm> {
        let of = |ids: &[u32], form| {
            ids.iter()
                .map(|id| (DiskId::new(*id), form))
                .collect::<Vec<_>>()
        };
        of(containers, DiskForm::Container)
            .into_iter()
            .chain(of(files, DiskForm::File))
            .collect()
    }

    fn planned_disks(vm: &Vm) -> anyhow::Result<Vec<String>> {
        let forms = forms(&[0, 3], &[1, 2, 4]);
        Ok(all(vm, DiskId::new(0), &forms)?
            .iter()
            .map(|p| {
                let mount = p.mount.as_ref().map_or("-", |m| m.as_str());
                let mode = if p.read_only { "ro" } else { "rw" };
                format!("{} {mount} {} {mode}", p.id, p.device)
            })
            .collect())
    }

    #[test]
    fn the_recorded_disks_of_both_releases_are_mounted_by_their_ids_and_swap_is_an_allowance() {
        let expected = [
            [
                "1 /media/disk.1 sdb rw",
                "3 /media/disk.3 sdf rw",
                "4 /media/disk.4 sdc ro",
            ],
            [
                "1 /media/disk.1 sdb rw",
                "3 /media/disk.3 sdd rw",
                "4 /media/disk.4 hda ro",
            ],
        ];
        for (vm, expected) in vms().iter().zip(expected) {
            assert_eq!(planned_disks(vm).unwrap(), expected);
            assert_eq!(swap(vm.disks.iter()), 32 << 20);
            let fs: Vec<_> = vm.disks.iter().map(|d| file_system(d).unwrap()).collect();
            assert_eq!(fs, [None, Some(Fs::Ext4), None, None, None]);
            assert_eq!(bytes(&vm.disks[1]), Some(50 << 20));
            assert_eq!(bound(&vm.disks[0]), None);
        }
    }

    #[test]
    fn a_volatile_disk_without_a_file_system_has_ext4_unless_its_device_is_asked_for() {
        for vm in vms() {
            let mut disk = vm.disks[1].clone();
            disk.fs = None;
            assert_eq!(file_system(&disk).unwrap(), Some(Fs::Ext4));
            disk.device = true;
            assert_eq!(file_system(&disk).unwrap(), None);
            disk.fs = Some("xfs".to_owned());
            assert_eq!(file_system(&disk).unwrap(), Some(Fs::Xfs));
        }
    }

    #[test]
    fn the_root_is_the_first_container_of_os_boot_else_the_first_of_all() {
        for mut vm in vms() {
            let forms = forms(&[0, 3], &[1, 2, 4]);
            for (order, id) in [
                (Some("disk3,disk0"), 3),
                (Some("nic0, disk1,disk3"), 3),
                (Some("disk9"), 0),
                (None, 0),
            ] {
                vm.boot_order = order.map(str::to_owned);
                assert_eq!(root(&vm, &forms), Some(DiskId::new(id)), "{order:?}");
            }
            assert_eq!(root(&vm, &self::forms(&[], &[0, 1, 2, 3, 4])), None);
        }
    }

    #[test]
    fn mountpoint_stands_before_a_target_that_is_a_path_and_device_before_both() {
        for mut vm in vms() {
            vm.disks[1].target = Some("/srv/one".into());
            vm.disks[4].mountpoint = Some("/srv//cd".into());
            vm.disks[2].device = true;
            vm.disks[2].target = None;
            let planned_disks = planned_disks(&vm).unwrap();
            assert_eq!(planned_disks[0], "1 /srv/one vdb rw");
            assert_eq!(planned_disks[1], "2 - vdc rw");
            assert!(
                planned_disks[3].starts_with("4 /srv/cd "),
                "{planned_disks:?}"
            );
            assert_eq!(swap(vm.disks.iter()), 0);
            vm.disks[1].device = true;
            assert_eq!(self::planned_disks(&vm).unwrap()[0], "1 - vdb rw");
        }
    }

    /// The error of a template after this change.
    type Change = (&'static str, fn(&mut Vm));

    #[test]
    fn what_cannot_be_shown_is_refused_with_the_disk_named() {
        let change: [Change; 9] = [
            ("DISK 1, MOUNTPOINT: ", |vm| {
                vm.disks[1].mountpoint = Some("data".into());
            }),
            ("DISK 1, MOUNTPOINT: ", |vm| {
                vm.disks[1].mountpoint = Some("/a/../etc".into());
            }),
            ("DISK 1, TARGET: ", |vm| {
                vm.disks[1].target = Some("/proc".into());
            }),
            ("DISK 1, TARGET: ", |vm| {
                vm.disks[1].target = Some("null".into());
            }),
            ("both be mounted at /media/disk.3", |vm| {
                vm.disks[1].mountpoint = Some("/media/disk.3".into());
            }),
            ("both have TARGET=sdz", |vm| {
                vm.disks[1].target = Some("sdz".into());
                vm.disks[3].target = Some("sdz".into());
            }),
            ("DISK 4 would be mounted over DISK 1", |vm| {
                vm.disks[1].mountpoint = Some("/data/in".into());
                vm.disks[4].mountpoint = Some("/data".into());
            }),
            ("DISK 3 has DEVICE=YES", |vm| vm.disks[3].device = true),
            ("DISK 1, FS: ", |vm| vm.disks[1].fs = Some("ntfs".into())),
        ];
        for (text, change) in change {
            for mut vm in vms() {
                change(&mut vm);
                let error = planned_disks(&vm)
                    .map(drop)
                    .and_then(|()| file_system(&vm.disks[1]).map(drop))
                    .unwrap_err();
                let error = format!("{error:#}");
                assert!(error.contains(text), "{error}");
            }
        }
    }

    #[test]
    fn devices_without_a_name_are_lettered_as_the_kernel_does_and_never_twice() {
        assert_eq!(
            [letters(0), letters(25), letters(26), letters(701)],
            ["a", "z", "aa", "zz"]
        );
        let taken = PlannedDisk {
            id: DiskId::new(9),
            mount: None,
            device: "vdb".parse().unwrap(),
            read_only: false,
        };
        let found = free_device(DiskId::new(1), &[taken]).unwrap();
        assert_eq!(found.as_str(), "vdc");
    }
}
