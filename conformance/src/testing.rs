//! What unit tests of several modules use. Base layer, and in no build but that of the tests.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

/// Runs the ignored test `name` in a process of its own that can write nothing to its standard error, as on a full disk,
/// and holds that it passes there.
pub fn passes_on_a_full_disk(name: &str) {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .stdin(Stdio::null())
        .stderr(full)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
}
