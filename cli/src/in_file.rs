//! Errors of parsers, with the file that they speak of.

use std::path::{Path, PathBuf};

use redoubt_errors::{ErrorCode, UserError};

/// Something is wrong in a file.
#[derive(Debug, thiserror::Error)]
#[error("{path:?}")]
pub(crate) struct InFile<E: UserError> {
    path: PathBuf,
    #[source]
    cause: E,
}

impl<E: UserError> UserError for InFile<E> {
    fn code(&self) -> ErrorCode {
        self.cause.code()
    }

    fn hint(&self) -> Option<String> {
        self.cause.hint()
    }
}

/// Names the file in an error.
pub(crate) trait NameFile<T, E: UserError> {
    fn in_file(self, path: &Path) -> Result<T, InFile<E>>;
}

impl<T, E: UserError> NameFile<T, E> for Result<T, E> {
    fn in_file(self, path: &Path) -> Result<T, InFile<E>> {
        self.map_err(|cause| InFile {
            path: path.to_owned(),
            cause,
        })
    }
}
