//! The images of the recordings, as Docker Hub would have them, and the files on the front-end
//! that images are made of.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::cloud::{Cloud, run};
use super::contents::{Payload, Tree};

/// The size of the files that become data blocks.
const BLOCK: u64 = 256 << 20;

/// The image that stands for `nginx:1.27-alpine`: its command takes nginx's arguments and serves
/// two ports; like nginx's it ends at QUIT, as its STOPSIGNAL says, and at nothing
/// else. It has a VOLUME.
const NGINX: &str = "#!/bin/sh
if [ $# -ne 2 ] || [ \"$1\" != -g ] || [ \"$2\" != 'daemon off;' ]; then
  echo \"nginx was called with: $*\" >&2
  exit 64
fi
trap 'exit 0' QUIT
/bin/busybox mkdir -p /www
echo \"nginx on $(/bin/busybox hostname)\" > /www/index.html
httpd -p 80 -h /www
httpd -p 8080 -h /www
while :; do
  sleep 1000 &
  wait $!
done
";

impl Cloud {
    /// The two images of the recording, as Docker Hub would have them.
    pub(super) fn fill_hub(&self) -> Result<()> {
        let engine = &self.nodes[0].engine;
        let root = tempfile::tempdir_in(engine.folder())?;
        let bin = root.path().join("bin");
        fs::create_dir(&bin)?;
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .context("busybox is not installed; install the package busybox-static")?;
        fs::copy(busybox, bin.join("busybox"))?;
        for applet in [
            "sh", "sleep", "cat", "ls", "ip", "httpd", "touch", "mkdir", "hostname",
        ] {
            symlink("busybox", bin.join(applet))?;
        }
        let name = self.in_hub("busybox:latest");
        engine.import(&name, root.path(), &["CMD [\"sh\"]"])?;
        self.to_hub(&name)?;

        // A folder that a VM replaces and a file that it removes.
        fs::create_dir_all(root.path().join("srv/old"))?;
        fs::write(root.path().join("srv/old/of the image"), "old\n")?;
        fs::write(bin.join("nginx"), NGINX)?;
        fs::set_permissions(bin.join("nginx"), Permissions::from_mode(0o755))?;
        let changes = ["CMD [\"nginx\", \"-V\"]", "VOLUME /data"];
        let name = self.in_hub("nginx:1.27-alpine");
        engine.import(&name, root.path(), &changes)?;
        // `import` takes no STOPSIGNAL; a container has one, and its image keeps it.
        let container = engine.docker(&[
            "create",
            "--network",
            "none",
            "--stop-signal",
            "SIGQUIT",
            &name,
        ])?;
        engine.docker(&["commit", &container, &name])?;
        engine.docker(&["rm", "-v", &container])?;
        // The archive that an administrator would have made of it.
        let archive = engine.folder().join("web.tar");
        engine.docker(&["save", "-o", text(&archive)?, &name])?;
        self.on_front_end(&archive, "/var/tmp/web.tar")?;
        self.to_hub(&name)
    }

    /// The files on the front-end that images are made of: a CD, and a file system as raw and as
    /// qcow2. Answers what is on the file system.
    pub fn fill_files(&self, payload: &Payload) -> Result<Tree> {
        let folder = tempfile::tempdir_in(self.front.folder())?;
        let at = |name: &str| folder.path().join(name);
        let root = at("root");
        fs::create_dir(&root)?;
        let tree = payload.fill(&root, 0xcd)?;
        let (iso, raw, qcow2) = (at("cd.iso"), at("block.raw"), at("block.qcow2"));
        fs::File::create(&raw)?.set_len(BLOCK)?;
        for (program, words) in [
            ("mkfs.ext4", vec!["-q", "-d", text(&root)?, text(&raw)?]),
            (
                "qemu-img",
                vec![
                    "convert",
                    "-f",
                    "raw",
                    "-O",
                    "qcow2",
                    text(&raw)?,
                    text(&qcow2)?,
                ],
            ),
            (
                "genisoimage",
                vec!["-quiet", "-R", "-V", "cd", "-o", text(&iso)?, text(&root)?],
            ),
        ] {
            run(&self.front, program, &words)?;
        }
        for (file, name) in [
            (&iso, "cd.iso"),
            (&raw, "block.raw"),
            (&qcow2, "block.qcow2"),
        ] {
            self.on_front_end(file, &format!("/var/tmp/{name}"))?;
        }
        Ok(tree)
    }

    fn in_hub(&self, image: &str) -> String {
        format!("{}/library/{image}", self.hub.address())
    }

    /// Into the registry and off the engine, so that staging an image is work.
    fn to_hub(&self, name: &str) -> Result<()> {
        let engine = &self.nodes[0].engine;
        engine.docker(&["push", "--quiet", name])?;
        engine.docker(&["rmi", name]).map(drop)
    }

    /// A file that oneadmin may read.
    fn on_front_end(&self, from: &Path, to: &str) -> Result<()> {
        self.front.inside(|| {
            fs::copy(from, to)?;
            Ok(fs::set_permissions(to, Permissions::from_mode(0o644))?)
        })?;
        Ok(fs::remove_file(from)?)
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
