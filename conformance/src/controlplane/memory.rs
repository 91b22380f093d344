//! What a component may do with memory.
//!
//! All of them are Go programs on two processors that they share with the scenarios. With Go's own settings a fifth of
//! the API server's processor time went into collecting garbage (docs/performance.md).

/// Variables of a Go program that rarely collects garbage while its heap is smaller than `limit` (in MiB), and no less
/// often than by default when what it needs comes near that. No program fails for the limit: it is a soft one.
///
/// Source: Go's package `runtime`, GOGC and GOMEMLIMIT.
pub(super) fn collect_rarely(limit: u32) -> [(&'static str, String); 2] {
    [("GOGC", "300".to_owned()), ("GOMEMLIMIT", format!("{limit}MiB"))]
}
