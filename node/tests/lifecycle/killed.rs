//! The runtime is killed at any of its steps. Whatever the engine believes then: a VM that is ended is
//! gone, with its NICs, and it can be started again.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onedock_common::state::boot::BootSpec;
use onedock_common::{ContainerId, VmId};
use onedock_node::request::Request;
use onedock_tests::test_host::{CRUN, IMAGE, TestHost};

use crate::{host_behind, links, nic, spec};

/// How long the VM sleeps, in seconds: a number by which it is known among all processes of the machine,
/// those of another test included.
fn sleep() -> String {
    format!("9{:07}", std::process::id())
}

/// Has root take back what is left of a VM that has ended.
fn settle(host: &TestHost, id: &ContainerId) -> Result<()> {
    let request = Request::Settle {
        vm: VmId::new(1),
        container: id.clone(),
    };
    host.request(env!("CARGO_BIN_EXE_onedock-node"), &request)
}

/// The VM's own processes, whatever the engine says.
fn processes(host: &TestHost) -> Result<Vec<String>> {
    let ours = format!("/bin/sleep\0{}\0", sleep()).into_bytes();
    host.engine.inside(|| {
        let all = fs::read_dir("/proc")?.flatten();
        let own = all.filter(|entry| {
            fs::read(entry.path().join("cmdline")).is_ok_and(|command| command == ours)
        });
        let pids = own.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(pids.collect())
    })
}

/// What `cancel` does, and the next `deploy`.
fn ends_and_starts_again(host: &TestHost, id: &ContainerId) -> Result<()> {
    for turn in ["after the kill", "after a start"] {
        // An engine that takes it for ended refuses.
        host.engine.output("docker", &["kill", id.as_str()])?;
        settle(host, id).context(turn)?;
        ensure!(processes(host)?.is_empty(), "{turn}: the VM still runs");
        let links = links(host)?;
        ensure!(links.is_empty(), "{turn}: {links:?}");
        if turn == "after the kill" {
            host.start_container(id)
                .context("it does not start again")?;
            let (running, processes) = (host.is_running(id)?, processes(host)?.len());
            ensure!(
                running && processes == 1,
                "the engine says {running}, {processes} run"
            );
        }
    }
    Ok(())
}

fn web() -> BootSpec {
    BootSpec {
        args: vec!["/bin/sleep".into(), sleep()],
        ..spec(
            1,
            vec![nic(1, 0, "10.77.0.41/24"), nic(1, 1, "10.78.0.41/24")],
        )
    }
}

fn vm(host: &TestHost) -> Result<ContainerId> {
    let id = host.create(&["--name", "one-1"], IMAGE)?;
    host.write_boot_spec(&id, &web())?;
    Ok(id)
}

/// A runtime in front of crun that kills who has called it, once, at the point that a file names. Where
/// the file `hold` asks for it, another process has entered the VM's network namespace before.
fn killing(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("killing");
    let point = folder.join("point");
    let text = format!(
        "#!/bin/sh\n\
         point=$(cat {point} 2>/dev/null)\n\
         verb=\n\
         for word; do case $word in create|start|delete) verb=$word; break ;; esac; done\n\
         at() {{ [ \"$point\" = \"$1 $verb\" ] && rm {point} && hold && kill -9 $PPID; }}\n\
         hold() {{\n\
             [ -e {hold} ] || return 0\n\
             for _ in $(seq 100); do vm=$(pgrep -fx '/bin/sleep {sleep}') && break; sleep 0.05; done\n\
             nsenter -t \"$vm\" -n sleep 60 </dev/null >/dev/null 2>&1 &\n\
             echo $! >{holder}\n\
             while [ -e /proc/$! ] && ! [ /proc/$!/ns/net -ef \"/proc/$vm/ns/net\" ]; do :; done\n\
         }}\n\
         at before && exit 1\n\
         {CRUN} \"$@\"\n\
         code=$?\n\
         at after\n\
         exit $code\n",
        point = point.display(),
        hold = folder.join("hold").display(),
        holder = folder.join("holder").display(),
        sleep = sleep(),
    );
    fs::write(&program, text)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

#[test]
fn fault_3_a_runtime_that_is_killed_around_the_real_one_leaves_no_vm_that_outlives_its_end()
-> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host_behind(killing(folder.path())?.to_str().unwrap())?;
    let id = vm(&host)?;
    let point = folder.path().join("point");
    for verb in ["create", "start", "delete"] {
        for when in ["before", "after"] {
            fs::write(&point, format!("{when} {verb}"))?;
            host.engine.output("docker", &["start", id.as_str()])?;
            ends_and_starts_again(&host, &id).with_context(|| format!("{when} {verb}"))?;
            ensure!(!point.exists(), "{when} {verb} was not reached");
        }
    }
    Ok(())
}

#[test]
fn fault_3_a_start_whose_runtime_is_killed_at_any_moment_leaves_no_vm_that_outlives_its_end()
-> Result<()> {
    // `make test-killed` asks for a hundred.
    let starts: u32 = std::env::var("ONEDOCK_KILLED_STARTS").map_or(Ok(16), |text| text.parse())?;
    let host = host_behind(CRUN)?;
    let id = vm(&host)?;
    let begin = Instant::now();
    host.start_container(&id)?;
    let whole = begin.elapsed();
    host.engine.docker(&["kill", id.as_str()])?;
    for step in 0..starts {
        host.start_killed(&id, whole * step / starts)?;
        ends_and_starts_again(&host, &id).with_context(|| format!("{step} of {starts}"))?;
    }
    Ok(())
}

#[test]
fn fault_3_host_ends_go_although_somebody_holds_the_namespace_of_a_vm_that_was_forgotten()
-> Result<()> {
    let folder = tempfile::tempdir()?;
    let host = host_behind(killing(folder.path())?.to_str().unwrap())?;
    let id = vm(&host)?;
    fs::write(folder.path().join("hold"), "")?;
    fs::write(folder.path().join("point"), "after start")?;
    // Newer engines end the VM right away, older ones know nothing of it.
    host.engine.output("docker", &["start", id.as_str()])?;
    let holder = fs::read_to_string(folder.path().join("holder"))
        .context("the namespace of the VM was not entered")?;
    let holds = Path::new("/proc").join(holder.trim());
    let held = host.engine.inside(|| Ok(holds.exists()))?;
    let settled = settle(&host, &id);
    let left = links(&host);
    host.engine.run("kill", &[holder.trim()])?;
    ensure!(held, "nobody held the namespace");
    settled?;
    ensure!(left.as_ref().is_ok_and(Vec::is_empty), "{left:?}");
    Ok(())
}

/// containerd compares the words, and crun has others (`checkKillError` of its shim).
#[test]
fn fault_3_a_signal_for_a_container_that_is_deleted_is_answered_in_containerd_s_words() -> Result<()>
{
    let states = tempfile::tempdir()?;
    let id = "ab".repeat(32);
    let output = Command::new(env!("CARGO_BIN_EXE_onedock-runtime"))
        .arg("--root")
        .arg(states.path())
        .args(["kill", &id, "9"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && said.contains("does not exist"),
        "{said}"
    );
    Ok(())
}

/// Somebody else's device with the name of the NIC is left alone.
#[test]
fn fault_51_a_foreign_device_of_the_nic_s_name_does_not_keep_a_vm_from_its_end() -> Result<()> {
    let host = host_behind(CRUN)?;
    let id = vm(&host)?;
    host.start_container(&id)?;
    host.engine.docker(&["kill", id.as_str()])?;
    settle(&host, &id)?;
    host.engine
        .run("ip", &["link", "add", "one-1-0", "type", "bridge"])?;
    let begin = Instant::now();
    settle(&host, &id)?;
    ensure!(
        begin.elapsed() < Duration::from_secs(5),
        "it was waited for"
    );
    ensure!(links(&host)? == ["one-1-0"], "the foreign device is gone");
    Ok(())
}
