//! A root file system of another system, and programs in it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MsFlags, mount};

use crate::{FOLDER, HOSTS_NAME, OWN_NAME, PROGRAMS};

/// The root, with a layer of memory over it.
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// Mounts what the programs need. The caller has given this process namespaces of its own.
    pub(crate) fn enter(lower: &Path, memory: &Path, programs: &Path) -> anyhow::Result<Self> {
        ensure!(
            has_own_namespaces(),
            "onedock-roots mounts and names things: call tests/roots/run.sh, which gives it \
             namespaces of its own"
        );
        nix::unistd::sethostname(OWN_NAME)?;
        command("ip", ["link", "set", "lo", "up"])?;
        let none = None::<&str>;
        mount(Some("tmpfs"), memory, Some("tmpfs"), MsFlags::empty(), none)?;
        let at = |name: &str| memory.join(name);
        for name in ["upper", "work", "root", "tmp"] {
            fs::create_dir(at(name))?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            at("upper").display(),
            at("work").display()
        );
        let path = at("root");
        mount(
            Some("overlay"),
            &path,
            Some("overlay"),
            MsFlags::empty(),
            Some(layers.as_str()),
        )?;
        mount(
            Some("proc"),
            &path.join("proc"),
            Some("proc"),
            MsFlags::empty(),
            none,
        )?;
        // The test's own files, the registry's among them.
        mount(Some(&at("tmp")), "/tmp", none, MsFlags::MS_BIND, none)?;
        let root = Self { path };
        fs::create_dir_all(root.at(FOLDER))?;
        for name in PROGRAMS.iter().chain(&["onedock-init"]) {
            let to = root.at(FOLDER).join(name);
            fs::copy(programs.join(name), to)
                .with_context(|| format!("{name} is not in {}", programs.display()))?;
        }
        root.write(
            "/etc/hosts",
            &format!("127.0.0.1 localhost\n127.0.0.1 {HOSTS_NAME}\n"),
        )?;
        root.name_servers(&["127.0.0.1"])?;
        Ok(root)
    }

    /// A path of the root as this process sees it.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.at(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Not through a link of the root, which would lead out of it.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).with_context(|| format!("{}", path.display()))
    }

    pub(crate) fn name_servers(&self, servers: &[&str]) -> anyhow::Result<()> {
        let lines: Vec<String> = servers
            .iter()
            .map(|s| format!("nameserver {s}\n"))
            .collect();
        self.write(
            "/etc/resolv.conf",
            &format!("search cloud.test\n{}", lines.concat()),
        )
    }

    /// Calls a program in the root. A signal is a failure of its own, whatever was expected.
    pub(crate) fn call(&self, words: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut child = Command::new("timeout")
            .args(["-k", "5", "60", "chroot"])
            .arg(&self.path)
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("ONEDOCK_CONF", "/etc/onedock/onedock.conf")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that dies does not read.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        // `timeout` ends by the signal that ended the program, or with 128 and its number.
        let signal = output.status.signal().or(output
            .status
            .code()
            .filter(|code| *code > 128)
            .map(|code| code - 128));
        if let Some(signal) = signal {
            bail!("{} died by signal {signal}", words.join(" "));
        }
        ensure!(
            output.status.code() != Some(124),
            "{} did not end within 60 s",
            words.join(" ")
        );
        Ok(output)
    }

    pub(crate) fn program(
        &self,
        name: &str,
        words: &[&str],
        input: &str,
    ) -> anyhow::Result<Output> {
        let path = format!("{FOLDER}/{name}");
        let mut all = vec![path.as_str()];
        all.extend(words);
        self.call(&all, input)
    }

    /// The standard output of a call that has to succeed.
    pub(crate) fn answer(&self, name: &str, words: &[&str], input: &str) -> anyhow::Result<String> {
        let output = self.program(name, words, input)?;
        ensure!(
            output.status.success(),
            "{name} {} failed: {}",
            words.join(" "),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// The one line of a call that has to fail.
    pub(crate) fn refusal(
        &self,
        name: &str,
        words: &[&str],
        input: &str,
    ) -> anyhow::Result<String> {
        let output = self.program(name, words, input)?;
        ensure!(
            !output.status.success(),
            "{name} {} succeeded",
            words.join(" ")
        );
        let line = text(&output.stderr);
        ensure!(line.trim_end().lines().count() == 1, "not one line: {line}");
        Ok(line)
    }
}

/// Whether `unshare` has made namespaces for this process: `timeout` is the first one there.
fn has_own_namespaces() -> bool {
    std::process::id() == 2
}

fn command<S: AsRef<OsStr>>(
    program: &str,
    words: impl IntoIterator<Item = S>,
) -> anyhow::Result<()> {
    let status = Command::new(program).args(words).status()?;
    ensure!(status.success(), "{program} failed");
    Ok(())
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
