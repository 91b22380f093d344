//! Image archives in the format of `docker save`, which Docker, containerd and kind read. The same directory always gives
//! the same bytes.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// Times in images say nothing. 2025-01-01, in seconds since the epoch and as Docker writes it.
const EPOCH: u64 = 1_735_689_600;
const CREATED: &str = "2025-01-01T00:00:00Z";

/// How containers of an image start.
#[derive(Clone, Debug, Default)]
pub(super) struct Config {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, which a container may replace.
    pub command: Vec<String>,
    /// A number; empty: root.
    pub user: String,
}

/// Writes an image of one layer, the directory `root`, into the file `output`. Everything in it belongs to root.
pub(super) fn write(root: &Path, config: &Config, names: &[String], output: &Path) -> io::Result<()> {
    let mut layer = tempfile::NamedTempFile::new_in(output.parent().unwrap_or(Path::new(".")))?;
    let mut hashed = Hashed { inner: BufWriter::new(layer.as_file_mut()), hasher: Sha256::new() };
    let mut builder = Builder::new(&mut hashed);
    append_directory(&mut builder, root)?;
    builder.finish()?;
    drop(builder);
    hashed.flush()?;
    let digest = hex::encode(hashed.hasher.finalize_reset());
    drop(hashed);

    let config = json!({
        "created": CREATED,
        "architecture": crate::tools::architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "User": config.user,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        "history": [{ "created": CREATED, "created_by": "conformance" }],
    });
    let config = config.to_string();
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let layer_name = format!("{digest}/layer.tar");
    let manifest = json!([{ "Config": config_name, "RepoTags": names, "Layers": [layer_name] }]).to_string();

    let mut archive = Builder::new(BufWriter::new(File::create(output)?));
    append_bytes(&mut archive, &config_name, config.as_bytes())?;
    let size = layer.as_file().metadata()?.len();
    archive.append_data(&mut header(EntryType::Regular, 0o644, size), &layer_name, BufReader::new(layer.reopen()?))?;
    append_bytes(&mut archive, "manifest.json", manifest.as_bytes())?;
    archive.into_inner()?.flush()
}

/// Copies an archive that `docker save` wrote, and gives its one image other names.
pub(super) fn rename(input: &Path, names: &[String], output: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(BufReader::new(File::open(input)?));
    let mut copy = Builder::new(BufWriter::new(File::create(output)?));
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let renamed: fn(&Value, &[String]) -> Value = match path.to_str() {
            Some("manifest.json") => rename_manifest,
            Some("index.json") => rename_index,
            // An older list of the names, which nobody needs.
            Some("repositories") => continue,
            _ => {
                let mut header = entry.header().clone();
                match entry.link_name()? {
                    Some(target) if !entry.header().entry_type().is_file() => {
                        copy.append_link(&mut header, &path, target)?;
                    }
                    _ => copy.append_data(&mut header, &path, entry)?,
                }
                continue;
            }
        };
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        let list = renamed(&serde_json::from_str(&text)?, names);
        append_bytes(&mut copy, &path.to_string_lossy(), list.to_string().as_bytes())?;
    }
    copy.into_inner()?.flush()
}

/// Docker's own list of images.
fn rename_manifest(list: &Value, names: &[String]) -> Value {
    let mut list = list.clone();
    for image in list.as_array_mut().into_iter().flatten() {
        image["RepoTags"] = json!(names);
    }
    list
}

/// OCI's list of images, which Docker writes too since version 25, and which containerd prefers.
fn rename_index(list: &Value, names: &[String]) -> Value {
    let mut list = list.clone();
    let images = list["manifests"].as_array().cloned().unwrap_or_default();
    let with_name = |image: &Value, full: &String| {
        let mut image = image.clone();
        let tag = full.rsplit(':').next().unwrap_or_default();
        image["annotations"] = json!({ "io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag });
        image
    };
    list["manifests"] = images.iter().flat_map(|image| names.iter().map(|name| with_name(image, name))).collect();
    list
}

struct Hashed<W> {
    inner: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(EPOCH);
    header
}

fn append_bytes<W: Write>(builder: &mut Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    builder.append_data(&mut header(EntryType::Regular, 0o644, bytes.len() as u64), name, bytes)
}

/// Appends all that is below `root`, in the order of the names. What is neither file nor directory nor link is left out.
fn append_directory<W: Write>(builder: &mut Builder<W>, root: &Path) -> io::Result<()> {
    for path in sorted(root)? {
        let name = path.strip_prefix(root).map_err(io::Error::other)?;
        let metadata = path.symlink_metadata()?;
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            builder.append_link(&mut header(EntryType::Symlink, 0o777, 0), name, fs::read_link(&path)?)?;
        } else if metadata.is_dir() {
            builder.append_data(&mut header(EntryType::Directory, mode, 0), name, io::empty())?;
        } else if metadata.is_file() {
            let file = File::open(&path)?;
            builder.append_data(&mut header(EntryType::Regular, mode, metadata.len()), name, file)?;
        }
    }
    Ok(())
}

fn sorted(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs::create_dir(root.path().join("tmp")).unwrap();
        fs::set_permissions(root.path().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(root.path().join("usr/bin/tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(root.path().join("usr/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("usr/bin", root.path().join("bin")).unwrap();
        root
    }

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    fn written(root: &Path, names: &[&str]) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let config =
            Config { entrypoint: vec!["/usr/bin/tool".to_owned()], user: "65532".to_owned(), ..Config::default() };
        write(root, &config, &names, &path).unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn the_same_directory_gives_the_same_bytes_whatever_the_time() {
        let names = ["localhost/tool:1"];
        let (first, second) = (root(), root());
        let old = File::options().write(true).open(second.path().join("usr/bin/tool")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(written(first.path(), &names), written(second.path(), &names));
    }

    #[test]
    fn what_docker_reads_is_consistent() {
        let archive = entries(&written(root().path(), &["localhost/tool:1"]));
        let manifest: Value = serde_json::from_slice(&archive["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["localhost/tool:1"]));
        let layer = &archive[manifest[0]["Layers"][0].as_str().unwrap()];
        let config: Value = serde_json::from_slice(&archive[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(layer)));
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest]));
        assert_eq!(config["config"]["User"], "65532");

        let mut layer = tar::Archive::new(layer.as_slice());
        let listed = layer.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.mtime().unwrap()), (0, EPOCH));
            format!("{:o} {}", header.mode().unwrap(), entry.path().unwrap().display())
        });
        assert_eq!(listed.collect::<Vec<_>>(), ["777 bin", "1777 tmp", "755 usr", "755 usr/bin", "755 usr/bin/tool"]);
    }

    #[test]
    fn a_saved_image_gets_other_names_and_keeps_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let saved = directory.path().join("saved.tar");
        let mut archive = Builder::new(File::create(&saved).unwrap());
        let index = json!({ "manifests": [{ "digest": "sha256:1", "annotations": { "x": "old" } }] });
        for (name, text) in [
            ("blob", "content".to_owned()),
            ("index.json", index.to_string()),
            ("manifest.json", json!([{ "Config": "c", "RepoTags": ["old:1"], "Layers": ["blob"] }]).to_string()),
            ("repositories", json!({ "old": { "1": "x" } }).to_string()),
        ] {
            append_bytes(&mut archive, name, text.as_bytes()).unwrap();
        }
        archive.finish().unwrap();

        let names = ["localhost/probe:2".to_owned(), "ghcr.io/x/dittofs:0.1.0".to_owned()];
        let output = directory.path().join("renamed.tar");
        rename(&saved, &names, &output).unwrap();
        let renamed = entries(&fs::read(output).unwrap());
        assert_eq!(renamed.keys().collect::<Vec<_>>(), ["blob", "index.json", "manifest.json"]);
        assert_eq!(renamed["blob"], b"content");
        let manifest: Value = serde_json::from_slice(&renamed["manifest.json"]).unwrap();
        assert_eq!(manifest, json!([{ "Config": "c", "RepoTags": names, "Layers": ["blob"] }]));
        let index: Value = serde_json::from_slice(&renamed["index.json"]).unwrap();
        let annotations: Vec<_> =
            index["manifests"].as_array().unwrap().iter().map(|image| &image["annotations"]).collect();
        assert_eq!(annotations[1]["io.containerd.image.name"], "ghcr.io/x/dittofs:0.1.0");
        assert_eq!(annotations[1]["org.opencontainers.image.ref.name"], "0.1.0");
        assert_eq!(annotations.len(), 2);
    }
}
