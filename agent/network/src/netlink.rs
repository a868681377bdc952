//! The connection to the kernel.

use futures::{Stream, TryStreamExt};
use rtnetlink::Handle;

use crate::error::NetworkError;

/// A connection in the network namespace of this thread; it ends with its handle.
pub(crate) fn connect() -> Result<Handle, NetworkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Connect)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// All answers to a request for a list.
pub(crate) async fn dump<T>(
    action: &str,
    answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetworkError> {
    answers.try_collect().await.map_err(failed(action))
}

/// Says what was tried when the kernel refused it.
pub(crate) fn failed(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    let action = action.into();
    move |source| NetworkError::Netlink { action, source }
}

/// True if the kernel refused with one of these error numbers.
pub(crate) fn is_errno(error: &rtnetlink::Error, numbers: &[i32]) -> bool {
    let rtnetlink::Error::NetlinkError(message) = error else {
        return false;
    };
    message
        .to_io()
        .raw_os_error()
        .is_some_and(|number| numbers.contains(&number))
}
