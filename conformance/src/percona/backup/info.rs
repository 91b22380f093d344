//! What `pgbackrest info --output=json` says.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A stanza and its backups, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Stanza {
    /// Its backups.
    #[serde(default)]
    pub backup: Vec<Backup>,
    /// Whether it can be used.
    pub status: Status,
}

/// State of a stanza.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// 0: usable, with a backup; 1: missing; 2: no backup yet; others: see pgBackRest's source, `infoStanza*`.
    pub code: u32,
    /// In words.
    pub message: String,
}

/// A finished backup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Backup {
    /// Its name, such as `20261124-071220F`.
    pub label: String,
    /// `full`, `incr` or `diff`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The annotations that it was made with.
    #[serde(default)]
    pub annotation: BTreeMap<String, String>,
    /// The WAL that it needs.
    pub archive: Archive,
    /// When it began and ended.
    pub timestamp: Timestamps,
}

/// First and last WAL segment of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Archive {
    /// First segment.
    pub start: String,
    /// Last segment.
    pub stop: String,
}

/// Begin and end of a backup, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Timestamps {
    /// Begin.
    pub start: i64,
    /// End.
    pub stop: i64,
}

/// Reads the output of `info`; `None` when it tells nothing about the stanza.
pub(super) fn parse(output: &str) -> serde_json::Result<Option<Stanza>> {
    let stanzas: Vec<Stanza> = serde_json::from_str(output)?;
    Ok(stanzas.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_found_by_its_annotation() {
        // From pgBackRest 2.55.1, shortened.
        let output = r#"[{"archive":[{"database":{"id":1,"repo-key":1},"id":"16-1","max":"000000010000000000000004",
            "min":"000000010000000000000002"}],"backup":[{"annotation":{"percona.com/backup-job-type":"replica-create"},
            "archive":{"start":"000000010000000000000003","stop":"000000010000000000000003"},
            "backrest":{"format":5,"version":"2.55.1"},"database":{"id":1,"repo-key":1},"error":false,
            "info":{"delta":23000000,"repository":{"delta":3000000,"size":3000000},"size":23000000},
            "label":"20261124-083520F","lsn":{"start":"0/3000028","stop":"0/3000158"},"prior":null,"reference":null,
            "timestamp":{"start":1795509320,"stop":1795509323},"type":"full"}],"cipher":"none",
            "db":[{"id":1,"repo-key":1,"system-id":7711623898163724385,"version":"16"}],"name":"db",
            "status":{"code":0,"lock":{"backup":{"held":false}},"message":"ok"}}]"#;
        let stanza = parse(output).unwrap().unwrap();
        assert_eq!(stanza.status.message, "ok");
        assert_eq!(stanza.backup[0].label, "20261124-083520F");
        assert_eq!(stanza.backup[0].kind, "full");
        assert_eq!(stanza.backup[0].annotation["percona.com/backup-job-type"], "replica-create");
        assert_eq!(stanza.backup[0].timestamp, Timestamps { start: 1_795_509_320, stop: 1_795_509_323 });
    }

    #[test]
    fn a_missing_stanza_has_no_backups() {
        let output = r#"[{"backup":[],"db":[],"name":"db","status":{"code":1,"message":"missing stanza path"}}]"#;
        let stanza = parse(output).unwrap().unwrap();
        assert_eq!((stanza.status.code, stanza.backup.len()), (1, 0));
        assert_eq!(parse("[]").unwrap(), None);
    }
}
