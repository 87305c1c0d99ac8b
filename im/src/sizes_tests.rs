use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onedock_common::DiskId;

use super::*;
use crate::http::Socket;

fn layer(vm: u32, disk: u32, bytes: u64) -> LayerSize {
    LayerSize {
        vm: VmId::new(vm),
        disk: DiskId::new(disk),
        bytes,
    }
}

fn decoded(record: &str) -> String {
    let b64 = record.split("MONITOR=\"").nth(1).unwrap();
    let b64 = b64.split('"').next().unwrap();
    String::from_utf8(BASE64_STANDARD.decode(b64).unwrap()).unwrap()
}

#[test]
fn a_vm_s_layers_and_files_in_all_datastores_are_one_record() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["0/5", "101/5", "101/9", "x/5"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    // VM 9 is another driver's, and x is no datastore.
    for file in ["0/5/disk.2", "101/5/disk.1", "101/9/disk.0", "x/5/disk.7"] {
        fs::write(dir.path().join(file), vec![1; 4096]).unwrap();
    }
    let records = measure(&[layer(5, 0, 3 << 20), layer(5, 4, 0)], dir.path());
    assert_eq!(records.len(), 1);
    assert!(records[0].starts_with("VM = [ ID=\"5\", DEPLOY_ID=\"one-5\""));
    assert_eq!(
        decoded(&records[0]),
        "DISK_SIZE = [ ID=0, SIZE=3]\n\
         DISK_SIZE = [ ID=1, SIZE=1]\n\
         DISK_SIZE = [ ID=2, SIZE=1]\n\
         DISK_SIZE = [ ID=4, SIZE=0]\n"
    );
}

#[test]
fn fault_38_an_engine_that_does_not_answer_holds_nobody_and_reports_no_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::at(Socket::at(dir.path().join("none")));
    let mut sizer = Sizer::new(engine, dir.path().to_owned());
    let until = Instant::now() + Duration::from_secs(10);
    assert!(sizer.poll(Instant::now()).is_empty());
    while sizer.pending.is_some() && Instant::now() < until {
        assert!(sizer.poll(Instant::now()).is_empty());
        thread::yield_now();
    }
    assert!(
        sizer.due > Instant::now() + EVERY / 2,
        "not asked again at once"
    );
    sizer.measure_soon();
    sizer.poll(Instant::now());
    assert!(sizer.pending.is_some());
}
