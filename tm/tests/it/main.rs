//! The scripts of the transfer manager with real engines, a real registry and real ssh between two
//! hosts; needs root.

mod bursts;
mod containers;
mod cuts;
mod faults;
mod files;
mod hiding_registry;
mod hosts;
mod sshd;
mod trust;

/// The program that is tested.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_onedock-tm");

/// Makes 3 MB, a hard link, a pipe, an owner, a mode, and a file of the image that is gone.
pub(crate) const WRITE: &str = "/bin/busybox dd if=/dev/urandom of=/data bs=1M count=3 2>/dev/null; /bin/busybox ln /data /hard; /bin/busybox mknod /fifo p; /bin/busybox rm /bin/wget; /bin/busybox chown 5:6 /data; /bin/busybox chmod 4750 /data";
/// All of that, to be compared.
pub(crate) const SHOW: &str = "/bin/busybox md5sum /data /hard; /bin/busybox stat -c '%u %g %a %h %F' /data /fifo; ls /bin/wget 2>&1 || true";
