//! A directory with all images of a run: made once, used by runs on other machines.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::prepare::{Archive, Images};
use crate::tools::ToolError;

const INDEX: &str = "index.json";

/// What is in such a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The images for the nodes of a cluster.
    pub images: Images,
    /// MinIO, for Docker; `None`: from wherever the run takes it.
    pub minio: Option<Archive>,
}

/// `index.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    operator: Listed,
    workload: Listed,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postgres: Option<Listed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minio: Option<Listed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    names: Vec<String>,
    /// In the same directory.
    file: String,
}

impl Bundle {
    /// Copies the archives into `directory`, which is created when it is missing.
    pub fn export(&self, directory: &Path) -> Result<(), ToolError> {
        fs::create_dir_all(directory).map_err(ToolError::file("create", directory))?;
        let copy = |name: &str, archive: &Archive| {
            let file = format!("{name}.tar");
            let path = directory.join(&file);
            fs::copy(&archive.path, &path).map_err(ToolError::file("write", path))?;
            Ok::<_, ToolError>(Listed { names: archive.names.clone(), file })
        };
        let index = Index {
            operator: copy("operator", &self.images.operator)?,
            workload: copy("workload", &self.images.workload)?,
            postgres: self.images.postgres.as_ref().map(|archive| copy("postgres", archive)).transpose()?,
            minio: self.minio.as_ref().map(|archive| copy("minio", archive)).transpose()?,
        };
        let path = directory.join(INDEX);
        let text = serde_json::to_vec_pretty(&index).unwrap_or_default();
        fs::write(&path, text).map_err(ToolError::file("write", path))
    }

    /// Reads what [`Bundle::export`] wrote.
    ///
    /// # Errors
    /// The directory holds no index, or not all that it names.
    pub fn import(directory: &Path) -> Result<Self, ToolError> {
        let path = directory.join(INDEX);
        let wrong = |error: &dyn std::fmt::Display| {
            let path = path.display();
            ToolError::Request(format!("{path}: {error}; make it by `conformance env images --output DIR`"))
        };
        let text = fs::read(&path).map_err(|error| wrong(&error))?;
        let index: Index = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
        let archive = |listed: Listed| {
            let path = directory.join(&listed.file);
            if !path.is_file() {
                return Err(wrong(&format!("{} is missing", listed.file)));
            }
            if listed.names.is_empty() {
                return Err(wrong(&format!("{} has no name", listed.file)));
            }
            Ok(Archive { names: listed.names, path })
        };
        Ok(Self {
            images: Images {
                operator: archive(index.operator)?,
                workload: archive(index.workload)?,
                postgres: index.postgres.map(archive).transpose()?,
            },
            minio: index.minio.map(archive).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn archive(directory: &Path, name: &str) -> Archive {
        let path = directory.join(format!("{name}-0123"));
        fs::write(&path, name).unwrap();
        Archive { names: vec![format!("localhost/{name}:1")], path }
    }

    fn bundle(directory: &Path) -> Bundle {
        Bundle {
            images: Images {
                operator: archive(directory, "operator"),
                workload: archive(directory, "workload"),
                postgres: None,
            },
            minio: Some(archive(directory, "minio")),
        }
    }

    #[test]
    fn what_was_exported_is_imported_from_elsewhere() {
        let cache = tempfile::tempdir().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (there, moved) = (directory.path().join("a/images"), directory.path().join("b"));
        let exported = bundle(cache.path());
        exported.export(&there).unwrap();
        fs::rename(&there, &moved).unwrap();
        let imported = Bundle::import(&moved).unwrap();
        assert_eq!(imported.images.operator.names, exported.images.operator.names);
        assert_eq!(imported.images.postgres, None);
        assert_eq!(fs::read_to_string(&imported.minio.unwrap().path).unwrap(), "minio");
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        bundle(directory.path()).export(directory.path()).unwrap();
        fs::remove_file(directory.path().join("workload.tar")).unwrap();
        let error = Bundle::import(directory.path()).unwrap_err().to_string();
        assert!(error.contains("index.json: workload.tar is missing; make it by"), "{error}");
    }

    #[test]
    fn a_directory_without_an_index_is_named() {
        let error = Bundle::import(&PathBuf::from("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/index.json: No such file or directory"), "{error}");
    }
}
