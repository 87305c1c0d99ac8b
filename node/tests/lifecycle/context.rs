//! The context of a VM, applied inside by `onedock-init`: at the start, and while it runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use onedock_common::ContainerId;
use onedock_common::state::boot::{BootSpec, FirstProcess};
use onedock_node::request::Request;
use onedock_tests::test_host::{IMAGE, RUNC, RUNTIMES, TestHost};
use onedock_tests::wait::wait_until;

use crate::{host_behind, spec};

/// A host whose image has what the scripts here use, and busybox's init at its usual place.
fn host_with_applets(runtime: &str) -> Result<TestHost> {
    let host = host_behind(runtime)?;
    let applets = [
        "sh", "sleep", "cat", "ps", "cp", "date", "grep", "id", "stty", "test", "touch", "hostname",
    ];
    let root = host.engine.busybox_root(&applets)?;
    fs::create_dir(root.path().join("sbin"))?;
    fs::create_dir_all(root.path().join("usr/sbin"))?;
    std::os::unix::fs::symlink("../bin/busybox", root.path().join("sbin/init"))?;
    host.engine
        .import(IMAGE, root.path(), &["CMD [\"/bin/sleep\", \"1000\"]"])?;
    Ok(host)
}

/// All that it wrote.
fn said(host: &TestHost, id: &ContainerId) -> Result<String> {
    let output = host.engine.output("docker", &["logs", id.as_str()])?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).replace('\r', ""))
}

/// A folder with a context, of the user that owns the datastores.
fn context(host: &TestHost, vm: u32, text: &str, files: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = PathBuf::from(format!("/var/lib/one/datastores/0/{vm}/disk.1"));
    host.engine.inside(|| {
        fs::create_dir_all(&folder)?;
        for (name, content) in [("context.sh", text)].iter().chain(files) {
            fs::write(folder.join(name), content)?;
        }
        Ok(())
    })?;
    Ok(folder)
}

fn with_context(vm: u32, folder: &Path, args: &[&str]) -> BootSpec {
    let mut spec = spec(vm, Vec::new());
    spec.first = FirstProcess::Init;
    spec.args = args.iter().map(|word| (*word).to_owned()).collect();
    spec.context = Some(folder.to_owned());
    spec
}

/// Makes a container and starts it as this VM.
fn start(host: &TestHost, options: &[&str], spec: &BootSpec) -> Result<ContainerId> {
    let id = host.create(options, IMAGE)?;
    host.write_boot_spec(&id, spec)?;
    host.start_container(&id)?;
    Ok(id)
}

fn read(host: &TestHost, id: &ContainerId, path: &str) -> Result<String> {
    host.exec(id, &format!("cat {path}"))
}

const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];

#[test]
fn what_the_context_says_of_the_inside_is_in_force_before_the_command_runs() -> Result<()> {
    let text = "USERNAME='web'\nCRYPTED_PASSWORD='$6$a$b'\nSSH_PUBLIC_KEY='ssh-rsa AAAA x'\n\
        TIMEZONE='Europe/Berlin'\nGREETING='it'\\''s $(id)'\nVMID='1'\n\
        START_SCRIPT='#!/bin/sh\necho \"$GREETING\" > /greeting; pwd > /where; exit 3'\n\
        INIT_SCRIPTS='second.sh missing.sh'\n";
    let second = "echo second >> /where";
    let command = ["/bin/sh", "-c", "cp /where /seen; exec sleep 1000"];
    for runtime in RUNTIMES {
        let host = host_with_applets(runtime)?;
        let folder = context(
            &host,
            1,
            text,
            &[("second.sh", second), ("token.txt", "t0k")],
        )?;
        let id = start(&host, &[], &with_context(1, &folder, &command))?;
        wait_until("the command runs", || {
            Ok(host.exec(&id, "test -e /seen").is_ok())
        })?;
        // The scripts had ended when it began.
        ensure!(read(&host, &id, "/seen")? == "/context\nsecond");
        ensure!(read(&host, &id, "/greeting")? == "it's $(id)");
        let passwd = read(&host, &id, "/etc/passwd")?;
        ensure!(
            passwd.contains("web:x:1000:1000::/home/web:/bin/sh"),
            "{passwd}"
        );
        ensure!(read(&host, &id, "/etc/shadow")?.contains("web:$6$a$b:"));
        let keys = read(&host, &id, "/home/web/.ssh/authorized_keys")?;
        ensure!(keys == "ssh-rsa AAAA x", "{keys}");
        let zone = host.sh(&id, "date +%Z")?;
        ensure!(zone.starts_with("CE"), "{zone}");
        ensure!(read(&host, &id, "/dev/onedock/one_env")?.contains("export TOKENTXT=t0k\n"));
        let processes = host.exec(&id, "ps -o pid,args")?;
        ensure!(processes.contains("1 /dev/onedock-init run"), "{processes}");
        let log = said(&host, &id)?;
        for line in [
            "START_SCRIPT ended with exit status: 3",
            "missing.sh cannot be read",
        ] {
            ensure!(log.contains(line), "{log}");
        }
        // Nothing of it is in the layer but what the context asked for.
        let changed = host.engine.docker(&["diff", id.as_str()])?;
        ensure!(
            !changed.contains("onedock") && !changed.contains("/dev"),
            "{changed}"
        );
        host.engine.docker(&["rm", "-f", id.as_str()])?;
    }
    Ok(())
}

#[test]
fn the_command_runs_as_the_image_s_user_with_no_more_than_without_a_context() -> Result<()> {
    let facts = "id; grep -E Cap /proc/self/status; echo $HOME; stty size > /dev/null && echo tty; \
        echo x > /dev/stdout; sleep 1000";
    let args = ["/bin/sh", "-c", facts];
    for runtime in RUNTIMES {
        let host = host_with_applets(runtime)?;
        let folder = context(&host, 1, "SSH_PUBLIC_KEY='k'\n", &[])?;
        let mut logs = Vec::new();
        for first in [FirstProcess::Command, FirstProcess::Init] {
            let spec = BootSpec {
                first,
                ..with_context(1, &folder, &args)
            };
            let options = ["--user=1000:100", "--group-add=7", "--tty", "--interactive"];
            let id = start(&host, &options, &spec)?;
            wait_until("the command has written", || {
                Ok(said(&host, &id)?.contains("\nx"))
            })?;
            logs.push(said(&host, &id)?);
            if first == FirstProcess::Init {
                ensure!(host.exec(&id, "cat /root/.ssh/authorized_keys").is_err());
                let key = host.engine.docker(&[
                    "exec",
                    "-u0",
                    id.as_str(),
                    "cat",
                    "/root/.ssh/authorized_keys",
                ])?;
                ensure!(key == "k");
            }
            host.engine.docker(&["rm", "-f", id.as_str()])?;
        }
        ensure!(logs[0] == logs[1], "{logs:#?}");
        ensure!(
            logs[0].contains("uid=1000 gid=100") && logs[0].contains("tty"),
            "{logs:#?}"
        );
    }
    Ok(())
}

#[test]
fn the_end_of_the_command_is_the_vm_s_and_signals_reach_it() -> Result<()> {
    let host = host_with_applets(RUNC)?;
    let folder = context(&host, 1, "TIMEZONE='UTC'\n", &[])?;
    let ends = |args: &[&str], signal: Option<&str>, options: &[&str]| -> Result<String> {
        let id = start(&host, options, &with_context(1, &folder, args))?;
        if let Some(signal) = signal {
            // Behind the trap, where there is one.
            wait_until("the command runs", || {
                let processes = host.exec(&id, "ps -o args")?;
                Ok(processes
                    .lines()
                    .any(|line| line.trim().ends_with("sleep 1000") && !line.contains('/')))
            })?;
            host.engine.docker(&["kill", "-s", signal, id.as_str()])?;
        }
        let code = host.engine.docker(&["wait", id.as_str()])?;
        host.engine.docker(&["rm", id.as_str()])?;
        Ok(code)
    };
    ensure!(ends(&["/bin/sh", "-c", "exit 42"], None, &[])? == "42");
    ensure!(ends(&["/bin/sh", "-c", "kill -9 $$"], None, &[])? == "137");
    ensure!(ends(&["/no/such/program"], None, &[])? == "127");
    ensure!(ends(&["/context/context.sh"], None, &[])? == "126");
    let trap = ["/bin/sh", "-c", "trap 'exit 5' USR1; sleep 1000 & wait"];
    ensure!(ends(&trap, Some("USR1"), &[])? == "5");
    ensure!(ends(&["sleep", "1000"], Some("TERM"), &[])? == "143");
    // A shell at a terminal ignores TERM, and is hung up.
    let begin = std::time::Instant::now();
    let shell = ["/bin/sh", "-c", "trap '' TERM; sleep 1000"];
    ends(&shell, Some("TERM"), &["--tty", "--interactive"])?;
    ensure!(begin.elapsed().as_secs() < 5, "it was waited for");
    Ok(())
}

#[test]
fn a_vm_that_is_kept_alive_outlives_its_command_and_reaps_what_it_left() -> Result<()> {
    let host = host_with_applets(RUNC)?;
    let folder = context(&host, 1, "TIMEZONE='UTC'\n", &[])?;
    let spec = BootSpec {
        first: FirstProcess::KeepAlive,
        ..with_context(1, &folder, &["/bin/sh", "-c", "sleep 0.3 & exit 7"])
    };
    let id = start(&host, &[], &spec)?;
    wait_until("the command and its orphan have ended", || {
        let log = said(&host, &id)?;
        let processes = host.exec(&id, "ps")?;
        let orphan = processes
            .lines()
            .any(|line| line.trim().ends_with("sleep 0.3"));
        Ok(log.contains("exit code 7; the VM lives on") && !orphan)
    })?;
    host.engine.docker(&["stop", id.as_str()])?;
    ensure!(host.engine.docker(&["wait", id.as_str()])? == "0");
    // While the command runs, a stop ends it and the VM.
    let spec = BootSpec {
        first: FirstProcess::KeepAlive,
        ..with_context(1, &folder, &["sleep", "1000"])
    };
    host.write_boot_spec(&id, &spec)?;
    host.start_container(&id)?;
    let begin = std::time::Instant::now();
    host.engine.docker(&["stop", "-t", "20", id.as_str()])?;
    ensure!(host.engine.docker(&["wait", id.as_str()])? == "143");
    ensure!(begin.elapsed().as_secs() < 10, "the stop was waited for");
    Ok(())
}

#[test]
fn a_command_that_has_to_be_process_1_is_it() -> Result<()> {
    let host = host_with_applets(RUNC)?;
    let folder = context(&host, 1, "SSH_PUBLIC_KEY='k'\n", &[])?;
    let spec = BootSpec {
        give_way: true,
        ..with_context(
            1,
            &folder,
            &["/bin/sh", "-c", "echo $$ > /pid; exec sleep 1000"],
        )
    };
    let id = start(&host, &["--user=1000"], &spec)?;
    let found = host.engine.docker(&[
        "exec",
        "-u0",
        id.as_str(),
        "cat",
        "/root/.ssh/authorized_keys",
    ])?;
    ensure!(found == "k");
    let processes = host.exec(&id, "ps -o pid,user,args")?;
    ensure!(processes.contains("1 1000     sleep 1000"), "{processes}");
    Ok(())
}

#[test]
fn an_init_system_of_the_image_is_process_1() -> Result<()> {
    let host = host_with_applets(RUNC)?;
    let folder = context(&host, 1, "START_SCRIPT='touch /done'\n", &[])?;
    // busybox's own, by its usual path.
    let id = start(&host, &[], &with_context(1, &folder, &["/sbin/init"]))?;
    wait_until("the script has run beside it", || {
        Ok(host.exec(&id, "test -e /done").is_ok())
    })?;
    let processes = host.exec(&id, "ps -o pid,args")?;
    ensure!(
        processes.lines().any(|line| line.trim() == "1 init"),
        "{processes}"
    );
    // With the context packages of OpenNebula in the image they apply it.
    host.engine.docker(&["rm", "-f", id.as_str()])?;
    let id = host.create(&[], IMAGE)?;
    let packages = folder.join("one-contextd").display().to_string();
    host.engine
        .inside(|| Ok(fs::write(&packages, "#!/bin/sh\n")?))?;
    host.engine
        .docker(&["cp", &packages, &format!("{id}:/usr/sbin/one-contextd")])?;
    host.write_boot_spec(&id, &with_context(1, &folder, &["/sbin/init"]))?;
    host.start_container(&id)?;
    onedock_common::wait::pause(std::time::Duration::from_millis(500));
    ensure!(host.exec(&id, "test -e /done").is_err());
    Ok(())
}

#[test]
fn an_image_without_a_shell_and_one_that_can_only_be_read_say_what_they_cannot() -> Result<()> {
    let host = host_with_applets(RUNC)?;
    let text = "SSH_PUBLIC_KEY='ssh-rsa K'\nSTART_SCRIPT='#!/bin/bash\ntrue'\n";
    let folder = context(&host, 1, text, &[])?;
    let id = start(&host, &[], &with_context(1, &folder, &SLEEP))?;
    ensure!(read(&host, &id, "/root/.ssh/authorized_keys")? == "ssh-rsa K");
    let log = said(&host, &id)?;
    ensure!(
        log.contains("START_SCRIPT was not run: the image does not have /bin/bash"),
        "{log}"
    );
    host.engine.docker(&["rm", "-f", id.as_str()])?;

    let id = start(&host, &["--read-only"], &with_context(1, &folder, &SLEEP))?;
    wait_until("the command runs", || {
        Ok(host.exec(&id, "ps")?.contains("sleep"))
    })?;
    let log = said(&host, &id)?;
    ensure!(
        log.contains("SSH_PUBLIC_KEY cannot be written") && log.contains("Read-only"),
        "{log}"
    );
    Ok(())
}

#[test]
fn a_context_that_changes_is_applied_in_the_running_vm_once() -> Result<()> {
    let host = host_with_applets(RUNC)?;
    let script = "START_SCRIPT='echo run >> /runs'\n";
    let folder = context(&host, 1, script, &[])?;
    let id = start(&host, &[], &with_context(1, &folder, &SLEEP))?;
    let runs = |count: usize| {
        wait_until("the script has run", || {
            Ok(read(&host, &id, "/runs").is_ok_and(|text| text.lines().count() == count))
        })
    };
    let reconfigure = || {
        host.engine.docker(&[
            "exec",
            "-u0",
            id.as_str(),
            "/dev/onedock-context",
            "reconfigure",
        ])
    };
    runs(1)?;
    ensure!(reconfigure()?.is_empty());
    context(
        &host,
        1,
        &format!("SSH_PUBLIC_KEY='ssh-rsa N'\nTIMEZONE='No/Where'\n{script}"),
        &[],
    )?;
    let said = reconfigure()?;
    ensure!(
        said.starts_with("TIMEZONE No/Where is not a time zone") && said.lines().count() == 1,
        "{said}"
    );
    runs(2)?;
    ensure!(read(&host, &id, "/root/.ssh/authorized_keys")? == "ssh-rsa N");
    // The same again changes nothing, and runs nothing.
    ensure!(reconfigure()?.is_empty());
    onedock_common::wait::pause(std::time::Duration::from_millis(300));
    runs(2)
}

#[test]
fn new_names_are_those_of_the_running_vm() -> Result<()> {
    let host = host_with_applets(RUNC)?;
    let folder = context(&host, 1, "TIMEZONE='UTC'\n", &[])?;
    let before = with_context(1, &folder, &SLEEP);
    let id = start(&host, &[], &before)?;
    host.sh(
        &id,
        "echo '10.9.9.9 own' >> /etc/hosts; echo own >> /etc/resolv.conf",
    )?;
    let mut spec = before.clone();
    spec.search = vec!["corp.example".parse()?];
    let change = |spec: &BootSpec| {
        let request = Request::ChangeNames {
            container: id.clone(),
            before: Box::new(before.clone()),
            spec: Box::new(spec.clone()),
        };
        host.request(env!("CARGO_BIN_EXE_onedock-node"), &request)
    };
    change(&spec)?;
    ensure!(host.sh(&id, "hostname")? == "web1");
    // Only what has another content is written anew.
    ensure!(read(&host, &id, "/etc/hosts")?.contains("own"));
    let resolver = read(&host, &id, "/etc/resolv.conf")?;
    ensure!(
        resolver.contains("search corp.example") && !resolver.contains("own"),
        "{resolver}"
    );
    spec.hostname = "db".parse()?;
    change(&spec)?;
    ensure!(host.sh(&id, "hostname")? == "db");
    ensure!(read(&host, &id, "/etc/hostname")? == "db");
    ensure!(read(&host, &id, "/etc/hosts")?.ends_with("127.0.1.1\tdb"));
    ensure!(
        host.engine.run("hostname", &[])? != "db",
        "it is the host's name"
    );
    // Another VM's container, and one that is gone, are left alone.
    spec.vm = onedock_common::VmId::new(2);
    ensure!(change(&spec).is_err());
    spec.vm = onedock_common::VmId::new(1);
    host.engine.docker(&["kill", id.as_str()])?;
    ensure!(change(&spec).is_err());
    Ok(())
}
