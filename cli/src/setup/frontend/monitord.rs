//! `monitord.conf`: which agent watches the nodes.

use std::path::Path;

use super::oned::{Edit, open};
use crate::error::Result;

/// The file with our IM_MAD.
pub(super) fn edit(path: &Path, text: &str) -> Result<Edit> {
    let mut template = open(path, text)?;
    template.ensure_vector(
        "IM_MAD",
        "onedock",
        &[
            ("SUNSTONE_NAME", "Docker"),
            ("EXECUTABLE", "one_im_ssh"),
            ("ARGUMENTS", "-r 3 -t 15 -w 90 onedock"),
            ("THREADS", "0"),
        ],
    );
    Ok(template.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_declared_behind_the_others() {
        let text = "DB = [ CONNECTIONS = 15 ]\nIM_MAD = [\n    NAME = \"lxc\",\n    THREADS = 0\n]\n# end\n";
        let (out, changes, _) = edit(Path::new("monitord.conf"), text).unwrap();
        assert_eq!(changes, ["IM_MAD onedock"]);
        assert!(out.starts_with("DB = [ CONNECTIONS = 15 ]\nIM_MAD = [\n    NAME = \"lxc\","));
        assert!(out.ends_with("    THREADS = \"0\"\n]\n# end\n"));
        assert_eq!(edit(Path::new("monitord.conf"), &out).unwrap().0, out);
    }
}
