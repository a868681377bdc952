//! Bodies of requests.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use redoubt_kbs_protocol::MAX_REQUEST_BYTES;

use crate::refusal::{Refusal, Refused};

/// Most that is set aside for a body before it arrives, in bytes.
const MAX_RESERVED_BYTES: usize = 64 * 1024;

/// A body that arrived whole and within its limit, or what was wrong with it.
///
/// Each piece is copied when it arrives: to keep the pieces would keep the
/// connection's buffers, several times the size of a body.
pub(super) struct Whole(pub(super) Result<Vec<u8>, Refused>);

impl<S: Sync> FromRequest<S> for Whole {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        Ok(Self(read(request.into_body(), MAX_REQUEST_BYTES).await))
    }
}

async fn read(body: Body, limit_bytes: usize) -> Result<Vec<u8>, Refused> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = Vec::with_capacity(announced.min(limit_bytes).min(MAX_RESERVED_BYTES));
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.map_err(|error| Refusal::MalformedRequest.because(error.to_string()))?;
        // What is no data is a trailer, which says nothing here.
        let piece = frame.into_data().unwrap_or_default();
        if piece.len() > limit_bytes - whole.len() {
            let reason = format!("the body has more than {limit_bytes} bytes");
            return Err(Refusal::TooLarge.because(reason));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_are_read_up_to_their_limit() {
        let read = async |size| {
            let outcome = read(Body::from(vec![7; size]), 1000).await;
            outcome.map(|body| body.len()).map_err(|why| why.refusal)
        };
        assert_eq!(read(0).await, Ok(0));
        assert_eq!(read(1000).await, Ok(1000));
        assert_eq!(read(1001).await, Err(Refusal::TooLarge));
    }
}
