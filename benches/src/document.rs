//! The VM of a bench, as `oned` describes it.

use onedock_common::opennebula::oned::Attributes;
use onedock_common::opennebula::oned::vm::{Disk, Vm};
use onedock_common::{DatastoreId, ImageId, VmId};

/// A VM with one disk of the image `source`, these NICs and no context.
pub(crate) fn vm(id: u32, memory_mib: &str, source: &str, nics: Vec<Attributes>) -> String {
    let disk = Disk {
        number: 0,
        image: ImageId::new(1),
        image_name: "bench",
        datastore: (DatastoreId::new(1), "bench"),
        source,
        format: "raw",
        size_mb: 1,
        persistent: false,
        dockerrun: None,
    };
    let vm = Vm {
        name: "bench".into(),
        cpu: "1".into(),
        memory: memory_mib.into(),
        disks: vec![disk.attributes()],
        nics,
        ..Vm::default()
    };
    vm.deployment(VmId::new(id), "localhost", DatastoreId::new(0))
}
