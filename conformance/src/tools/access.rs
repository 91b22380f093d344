//! Tools for another user: as root, PostgreSQL and pgBackRest run as `nobody`, who cannot enter root's cache.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::error::ToolError;
use super::tool::Tool;

/// The tool at a place where every user can start it: where it is, if they can; else a copy below `directory`, which
/// everyone can pass through. Made once: a second call with the same directory finds the first one's copy.
///
/// Files are linked where that is possible (the same file system, readable by all), so that nothing is copied.
pub fn accessible(tool: &Tool, directory: &Path) -> Result<Tool, ToolError> {
    let Some(root) = tool.root.as_deref().filter(|root| !is_passable(root)) else { return Ok(tool.clone()) };
    let target = directory.join(root.file_name().unwrap_or_default());
    if !target.exists() {
        fs::create_dir_all(directory).map_err(ToolError::file("create", directory))?;
        let unfinished =
            tempfile::tempdir_in(directory).map_err(ToolError::file("create a directory in", directory))?;
        copy_tree(root, unfinished.path()).map_err(ToolError::file("copy to", unfinished.path()))?;
        match fs::rename(unfinished.path(), &target) {
            Ok(()) => drop(unfinished.keep()),
            // Someone else was faster; ours is removed.
            Err(_) if target.exists() => {}
            Err(error) => return Err(ToolError::file("rename", target)(error)),
        }
    }
    Ok(moved(tool, root, &target))
}

/// The tool after its root has moved.
fn moved(tool: &Tool, root: &Path, target: &Path) -> Tool {
    let rebase = |path: &Path| path.strip_prefix(root).map_or_else(|_| path.to_owned(), |rest| target.join(rest));
    let value = |value: &String| rebase(Path::new(value)).display().to_string();
    Tool {
        path: rebase(&tool.path),
        env: tool.env.iter().map(|(name, text)| (name.clone(), value(text))).collect(),
        root: Some(target.to_owned()),
        ..tool.clone()
    }
}

/// Whether everyone may pass through the directory and all of its parents.
fn is_passable(directory: &Path) -> bool {
    directory.ancestors().all(|part| part.metadata().is_ok_and(|metadata| metadata.mode() & 0o001 != 0))
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target): (PathBuf, PathBuf) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            copy_file(&source, &target, entry.metadata()?.mode())?;
        }
    }
    Ok(())
}

fn copy_file(source: &Path, target: &Path, mode: u32) -> io::Result<()> {
    let readable = mode & 0o004 != 0 && (mode & 0o100 == 0 || mode & 0o001 != 0);
    if readable && fs::hard_link(source, target).is_ok() {
        return Ok(());
    }
    fs::copy(source, target)?;
    let open_to_all = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
    fs::set_permissions(target, fs::Permissions::from_mode(open_to_all))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_tool_in_a_closed_directory_is_copied_for_everyone() {
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let root = closed.path().join("postgresql-16");
        fs::create_dir_all(root.join("bin")).unwrap();
        for (file, bits) in [("bin/initdb", 0o700), ("bin/postgres", 0o755), ("share", 0o600)] {
            fs::write(root.join(file), file).unwrap();
            fs::set_permissions(root.join(file), fs::Permissions::from_mode(bits)).unwrap();
        }
        symlink("initdb", root.join("bin/link")).unwrap();
        let tool = Tool {
            path: root.join("bin"),
            env: BTreeMap::from([("LD_LIBRARY_PATH".to_owned(), root.join("lib").display().to_string())]),
            version: "16".to_owned(),
            source: "test".to_owned(),
            root: Some(root.clone()),
        };

        let run = tempfile::tempdir().unwrap();
        let copy = accessible(&tool, run.path()).unwrap();
        let target = run.path().join("postgresql-16");
        assert_eq!(copy.path, target.join("bin"));
        assert_eq!(copy.env["LD_LIBRARY_PATH"], target.join("lib").display().to_string());
        for (path, expected) in
            [("", 0o755), ("bin", 0o755), ("bin/initdb", 0o755), ("bin/postgres", 0o755), ("share", 0o644)]
        {
            assert_eq!(mode(&target.join(path)), expected, "{path}");
        }
        assert_eq!(fs::read_link(target.join("bin/link")).unwrap(), Path::new("initdb"));
        assert_eq!(mode(&root.join("bin/initdb")), 0o700, "the cache keeps its modes");
        assert_eq!(accessible(&tool, run.path()).unwrap(), copy, "the second time nothing is made");
    }

    #[test]
    fn the_machine_s_own_tools_stay_where_they_are() {
        let tool = Tool {
            path: "/usr/bin/psql".into(),
            env: BTreeMap::new(),
            version: "15".to_owned(),
            source: "on this machine".to_owned(),
            root: None,
        };
        assert_eq!(accessible(&tool, Path::new("/nowhere")).unwrap(), tool);
    }
}
