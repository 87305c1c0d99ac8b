//! How a container ended, in words for the VM's log.

use onedock_common::engine::{ContainerInfo, Engine};
use onedock_common::types::text::folded;

/// How many of the last lines are reported.
const LINES: u32 = 10;
/// How much of them, in bytes.
const LIMIT: usize = 400;

/// Whether a stopped container ended in a way that is worth a line: not as the stop signal, KILL
/// or the end of its work leave it, which is how the drivers end it themselves.
pub(super) fn is_telling(container: &ContainerInfo) -> bool {
    const ENDS_OF_OURS: [i64; 3] = [0, 128 + 9, 128 + 15];
    container.started_before
        && !container.running
        && (container.oom_killed || !ENDS_OF_OURS.contains(&container.exit_code))
}

/// `exit code 3; last output: …`.
pub(super) async fn told<E: Engine>(engine: &E, container: &ContainerInfo) -> String {
    let mut text = if container.oom_killed {
        format!(
            "exit code {}, killed because it ran out of MEMORY",
            container.exit_code
        )
    } else {
        format!("exit code {}", container.exit_code)
    };
    // Lines that cannot be had must not hide the code.
    match engine.last_lines(&container.id, LINES).await {
        Ok(lines) if !lines.is_empty() => {
            // The end says why it died; the beginning is dropped when there is too much.
            let all = lines.join(" | ");
            let mut from = all.len().saturating_sub(LIMIT);
            while !all.is_char_boundary(from) {
                from += 1;
            }
            text.push_str("; last output: ");
            text.push_str(&folded(all.get(from..).unwrap_or_default(), LIMIT));
        }
        Ok(_) => text.push_str("; it wrote no output"),
        Err(e) => tracing::warn!("last lines: {e}"),
    }
    text
}
