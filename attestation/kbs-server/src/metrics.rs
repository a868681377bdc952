//! Counters and times for Prometheus.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the times, in seconds.
const BUCKETS_S: [f64; 11] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
];

/// What was asked for. Labels are of a fixed set, so that no guest can add any.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `POST /auth`.
    Auth,
    /// `POST /attest`.
    Attest,
    /// `GET /resource`.
    Resource,
    /// The admin API.
    Admin,
    /// Everything else.
    Other,
}

impl Endpoint {
    const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Attest => "attest",
            Self::Resource => "resource",
            Self::Admin => "admin",
            Self::Other => "other",
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusalLabels {
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: &'static str,
}

/// The broker's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    times: Family<EndpointLabels, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let requests = Family::default();
        let refusals = Family::default();
        let times: Family<EndpointLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS_S));
        let mut registry = Registry::with_prefix("redoubt_kbs");
        registry.register(
            "requests",
            "Requests by endpoint and HTTP status",
            Family::clone(&requests),
        );
        registry.register(
            "refusals",
            "Refusals by the code that the client was given",
            Family::clone(&refusals),
        );
        registry.register(
            "request_seconds",
            "Time from a request's head to its answer",
            times.clone(),
        );
        Self {
            registry,
            requests,
            refusals,
            times,
        }
    }

    pub(crate) fn answered(&self, endpoint: Endpoint, status: u16, took: Duration) {
        let endpoint = endpoint.name();
        let labels = RequestLabels { endpoint, status };
        self.requests.get_or_create(&labels).inc();
        self.times
            .get_or_create(&EndpointLabels { endpoint })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn refused(&self, code: &'static str) {
        self.refusals.get_or_create(&RefusalLabels { code }).inc();
    }

    /// Everything in the `OpenMetrics` text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_refusals_are_counted() {
        let metrics = Metrics::new();
        metrics.answered(Endpoint::Auth, 200, Duration::from_millis(3));
        metrics.answered(Endpoint::Auth, 200, Duration::from_millis(30));
        metrics.refused("RDT-KBS-009");
        let text = metrics.text();
        for line in [
            "redoubt_kbs_requests_total{endpoint=\"auth\",status=\"200\"} 2",
            "redoubt_kbs_refusals_total{code=\"RDT-KBS-009\"} 1",
            "redoubt_kbs_request_seconds_bucket{le=\"0.005\",endpoint=\"auth\"} 1",
            "redoubt_kbs_request_seconds_count{endpoint=\"auth\"} 2",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
