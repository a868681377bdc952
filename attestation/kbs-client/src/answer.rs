use redoubt_kbs_protocol::{ErrorBody, ErrorKind, ResourcePath};
use reqwest::StatusCode;

use crate::KbsClientError;
use crate::transport::Answer;

/// The request that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    Auth,
    Attest,
    Resource(&'a ResourcePath),
}

impl Step<'_> {
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Self::Auth => "asking for a challenge",
            Self::Attest => "showing evidence",
            Self::Resource(_) => "asking for the resource",
        }
    }
}

/// Turns an answer that is not a success into an error.
///
/// Trustee says 401 to nearly everything, so the body's `type` counts for more
/// than the status.
pub(crate) fn refusal(url: &str, step: Step<'_>, answer: &Answer) -> KbsClientError {
    let url = url.to_owned();
    let status = answer.status.as_u16();
    let body = ErrorBody::parse(&answer.body);
    let detail = body
        .as_ref()
        .map(ErrorBody::short_detail)
        .filter(|detail| !detail.is_empty())
        .unwrap_or_else(|| format!("HTTP status {status}"));
    if answer.status.is_server_error()
        || matches!(
            answer.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
    {
        return KbsClientError::Unavailable {
            url,
            status,
            tries: 1,
            detail,
        };
    }
    let kind = body.as_ref().map(ErrorBody::kind);
    if kind.as_ref().is_some_and(ErrorKind::is_about_session) {
        return KbsClientError::SessionRefused { url, detail };
    }
    let refused = matches!(
        answer.status,
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    );
    match step {
        Step::Auth if refused => KbsClientError::HandshakeRefused { url, detail },
        Step::Attest if refused => KbsClientError::EvidenceRefused { url, detail },
        Step::Resource(path) => {
            let path = path.clone();
            match (kind, answer.status) {
                (Some(ErrorKind::PolicyDeny), _) | (_, StatusCode::FORBIDDEN) => {
                    KbsClientError::Denied { url, path, detail }
                }
                (
                    Some(
                        ErrorKind::PluginInternal
                        | ErrorKind::PluginNotFound
                        | ErrorKind::InvalidPath,
                    ),
                    _,
                )
                | (_, StatusCode::NOT_FOUND) => KbsClientError::NotFound { url, path, detail },
                (None, StatusCode::UNAUTHORIZED) => KbsClientError::SessionRefused { url, detail },
                _ => unexpected(url, status, step, detail),
            }
        }
        Step::Auth | Step::Attest => unexpected(url, status, step, detail),
    }
}

fn unexpected(url: String, status: u16, step: Step<'_>, detail: String) -> KbsClientError {
    KbsClientError::UnexpectedStatus {
        url,
        status,
        doing: step.doing(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use redoubt_errors::UserError as _;
    use zeroize::Zeroizing;

    use super::*;

    fn code(step: Step<'_>, status: u16, body: &str) -> &'static str {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            cookie: None,
            body: Zeroizing::new(body.as_bytes().to_vec()),
        };
        refusal("https://b", step, &answer).code().0
    }

    fn body(name: &str) -> String {
        serde_json::to_string(&ErrorBody::new(&ErrorKind::from_name(name), "x")).unwrap()
    }

    #[test]
    fn type_decides_where_every_status_is_401() {
        let path = ResourcePath::parse("a/b/c").unwrap();
        let resource = Step::Resource(&path);
        assert_eq!(code(resource, 401, &body("PolicyDeny")), "RDT-KBC-006");
        assert_eq!(
            code(resource, 401, &body("PluginInternalError")),
            "RDT-KBC-007"
        );
        assert_eq!(
            code(resource, 401, &body("TokenVerifierError")),
            "RDT-KBC-010"
        );
        assert_eq!(code(resource, 401, &body("TokenNotFound")), "RDT-KBC-010");
        assert_eq!(code(resource, 401, &body("JweError")), "RDT-KBC-012");
        assert_eq!(code(resource, 401, "<html>"), "RDT-KBC-010");
        assert_eq!(
            code(Step::Attest, 401, &body("AttestationError")),
            "RDT-KBC-008"
        );
        assert_eq!(
            code(Step::Auth, 401, &body("AttestationError")),
            "RDT-KBC-009"
        );
    }

    #[test]
    fn status_decides_where_the_body_says_nothing() {
        let path = ResourcePath::parse("a/b/c").unwrap();
        let resource = Step::Resource(&path);
        assert_eq!(code(resource, 403, ""), "RDT-KBC-006");
        assert_eq!(code(resource, 404, ""), "RDT-KBC-007");
        assert_eq!(code(resource, 503, ""), "RDT-KBC-011");
        assert_eq!(code(resource, 429, ""), "RDT-KBC-011");
        assert_eq!(code(resource, 302, ""), "RDT-KBC-012");
        assert_eq!(code(Step::Attest, 403, ""), "RDT-KBC-008");
        assert_eq!(code(Step::Auth, 418, ""), "RDT-KBC-012");
    }
}
