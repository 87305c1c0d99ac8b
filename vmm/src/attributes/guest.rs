//! What a template asks of the inside of the VM (CONTEXT), and what others read (USER_TEMPLATE).

use super::row::{Row, Section, Verdict, row};

/// The rows, in the order in which they count.
pub(super) const ROWS: &[Row] = {
    use Section::{Context, User};
    use Verdict::{Logged, Supported, WithoutMeaning};
    &[
        // CONTEXT
        row(
            Context,
            Supported,
            &[
                "START_SCRIPT",
                "START_SCRIPT_BASE64",
                "INIT_SCRIPTS",
                "SSH_PUBLIC_KEY",
                "EC2_PUBLIC_KEY",
                "PASSWORD",
                "PASSWORD_BASE64",
                "CRYPTED_PASSWORD",
                "CRYPTED_PASSWORD_BASE64",
                "USERNAME",
                "USERNAME_SUDO",
                "USERNAME_SHELL",
                "USERNAME_PASSWORD_RESET",
                "GRANT_SUDO",
                "TIMEZONE",
                "REPORT_READY",
                "READY_SCRIPT",
                "READY_SCRIPT_PATH",
            ],
            "applied inside the VM at each start, and when the context of a running VM changes (docs/context.md)",
        ),
        row(
            Context,
            Logged,
            &["DNS_HOSTNAME"],
            "the VM's name is SET_HOSTNAME, or that of the VM",
        ),
        row(
            Context,
            Supported,
            &[
                "USER_DATA",
                "USERDATA",
                "USER_DATA_ENCODING",
                "USERDATA_ENCODING",
            ],
            "options of Docker in JSON or YAML (docs/options.md); what is for cloud-init is noted in the VM's log",
        ),
        row(
            Context,
            WithoutMeaning,
            &[
                "GROW_FS",
                "GROW_ROOTFS",
                "SECURETTY",
                "DEV_PREFIX",
                "DRIVER",
            ],
            "disks grow with their file systems by themselves, and a container has no consoles",
        ),
        row(
            Context,
            Supported,
            &["*"],
            "every variable is in the files at /context; NETWORK, ETHx_…, DNS, SEARCH_DOMAIN, SET_HOSTNAME and EC2_HOSTNAME are in force besides",
        ),
        // USER_TEMPLATE
        row(
            User,
            Supported,
            &["DOCKER", "DOCKER_*"],
            "options of Docker, as far as the policy allows them (docs/options.md)",
        ),
        row(
            User,
            WithoutMeaning,
            &["*"],
            "they are for other programs, or for people",
        ),
    ]
};
