//! The kernel modules of the initrd.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::error::LoaderError;

/// Every module in it is needed; the names begin with the order of loading.
const FOLDER: &str = "/modules";

/// Loads all modules.
pub(crate) fn load_all() -> Result<(), LoaderError> {
    in_order(Path::new(FOLDER))?
        .iter()
        .try_for_each(|path| load(path))
}

fn in_order(folder: &Path) -> Result<Vec<PathBuf>, LoaderError> {
    let failed = || LoaderError::file("read", folder);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        paths.push(entry.map_err(failed())?.path());
    }
    paths.sort();
    Ok(paths)
}

fn load(path: &Path) -> Result<(), LoaderError> {
    let file = File::open(path).map_err(LoaderError::file("open", path))?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(LoaderError::file("load", path)(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["02-b.ko", "00-z.ko", "11-a.ko", "01-y.ko"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = in_order(folder.path())
            .unwrap()
            .into_iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["00-z.ko", "01-y.ko", "02-b.ko", "11-a.ko"]);
        assert!(in_order(&folder.path().join("missing")).is_err());
    }
}
