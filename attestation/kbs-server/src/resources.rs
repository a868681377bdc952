use std::io;
use std::path::PathBuf;

use redoubt_kbs_protocol::{MAX_RESOURCE_BYTES, ResourcePath};
use zeroize::Zeroizing;

use crate::KbsServerError;
use crate::files::read_bytes;
use crate::refusal::{Refusal, Refused, chain_text};

/// Resources in files, `<repository>/<type>/<tag>` below one directory.
///
/// A [`ResourcePath`] has three safe file names, so that no request can leave
/// the directory. Symbolic links in it are its owner's and are followed.
#[derive(Debug)]
pub(crate) struct ResourceStore {
    dir: PathBuf,
}

impl ResourceStore {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, KbsServerError> {
        std::fs::read_dir(&dir).map_err(|source| KbsServerError::Read {
            path: dir.clone(),
            source,
        })?;
        Ok(Self { dir })
    }

    pub(crate) fn read(&self, path: &ResourcePath) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let file = path
            .parts()
            .iter()
            .fold(self.dir.clone(), |dir, part| dir.join(part));
        read_bytes(&file, MAX_RESOURCE_BYTES as u64).map_err(|error| match &error {
            KbsServerError::Read { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Refusal::NoSuchResource.because("there is no such file")
            }
            _ => Refusal::Internal.because(chain_text(&error)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_bounded_size_are_resources() {
        let dir = tempfile::tempdir().unwrap();
        let store = ResourceStore::open(dir.path().to_owned()).unwrap();
        let at = |path: &str| store.read(&ResourcePath::parse(path).unwrap());
        std::fs::create_dir_all(dir.path().join("a/b/dir")).unwrap();
        std::fs::write(dir.path().join("a/b/key"), b"\0secret").unwrap();
        std::fs::write(dir.path().join("a/b/empty"), b"").unwrap();
        std::fs::write(
            dir.path().join("a/b/large"),
            vec![0; MAX_RESOURCE_BYTES + 1],
        )
        .unwrap();
        assert_eq!(at("a/b/key").unwrap().as_slice(), b"\0secret");
        assert_eq!(at("a/b/empty").unwrap().as_slice(), b"");
        assert_eq!(at("a/b/none").unwrap_err().refusal, Refusal::NoSuchResource);
        assert_eq!(
            at("a/none/key").unwrap_err().refusal,
            Refusal::NoSuchResource
        );
        assert_eq!(at("a/b/dir").unwrap_err().refusal, Refusal::Internal);
        assert_eq!(at("a/b/large").unwrap_err().refusal, Refusal::Internal);
    }
}
