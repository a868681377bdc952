//! What the broker does when too much is asked of it, and what it counts.

use std::time::Duration;

use redoubt_kbs_protocol::{AuthRequest, Tee};
use reqwest::StatusCode;

use crate::protocol::{Hand, expect, refusal};
use crate::support::{Guest, KEY, Site, fetch};

#[tokio::test(flavor = "multi_thread")]
async fn address_that_asks_too_often_is_told_when_to_come_again() {
    let site = Site::new();
    let running = site.start_with(|config| {
        config.limits.requests_per_second = 1;
        config.limits.burst = 3;
    });
    let hand = Hand::new(&site, &running);
    let ask = async || {
        let url = format!("{}/auth", hand.base);
        let request = hand.http.post(url).json(&AuthRequest::new(Tee::Snp));
        request.send().await.unwrap()
    };
    for _ in 0..3 {
        assert_eq!(ask().await.status(), StatusCode::OK);
    }
    let refused = ask().await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(
        refusal(refused).await,
        expect(429, "TooManyRequests", "RDT-KBS-017")
    );
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(ask().await.status(), StatusCode::OK);
}

/// The client waits and comes again, as it does when a broker is busy.
#[tokio::test(flavor = "multi_thread")]
async fn guest_that_was_limited_gets_its_resource_a_little_later() {
    let site = Site::new();
    let running = site.start_with(|config| {
        config.limits.requests_per_second = 2;
        config.limits.burst = 2;
    });
    let guest = Guest::good(&site.chip());
    assert_eq!(*fetch(&site.client(&running, &guest)).await.unwrap(), KEY);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_those_in_flight_are_turned_away() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let site = Site::new();
    let running = site.start_with(|config| {
        config.tls = None;
        config.limits.max_requests_in_flight = 1;
    });
    let address = running.url.strip_prefix("https://").unwrap();
    let ask = async |rest: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head =
            format!("POST /kbs/v0/auth HTTP/1.1\r\nhost: b\r\ncontent-length: 9\r\n\r\n{rest}");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let mut slow = ask("{").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut second = ask("malformed").await;
    let mut status = [0; 12];
    second.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 503");
    slow.write_all(b"malforme").await.unwrap();
    slow.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 400");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_answers_on_an_address_of_their_own() {
    let site = Site::new();
    let running = site.start_with(|config| {
        config.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
    });
    let guest = Guest::good(&site.chip());
    fetch(&site.client(&running, &guest)).await.unwrap();
    let hand = Hand::new(&site, &running);
    let url = format!("http://{}/metrics", running.metrics.unwrap());
    let text = hand
        .http
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    for line in [
        "redoubt_kbs_requests_total{endpoint=\"attest\",status=\"200\"} 1",
        "redoubt_kbs_requests_total{endpoint=\"resource\",status=\"200\"} 1",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    let public = hand.http.get(format!("{}/metrics", running.url));
    assert_eq!(public.send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_request_is_answered_while_the_broker_stops_and_a_new_one_is_not() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let site = Site::new();
    let running = site.start_with(|config| config.tls = None);
    let address = running.url.strip_prefix("https://").unwrap().to_owned();
    let body = serde_json::to_string(&AuthRequest::new(Tee::Snp)).unwrap();
    let (first, rest) = body.split_at(10);
    let head = format!(
        "POST /kbs/v0/auth HTTP/1.1\r\nhost: b\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    );
    let mut open = tokio::net::TcpStream::connect(&address).await.unwrap();
    open.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stopping = tokio::spawn(running.stop());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        !stopping.is_finished(),
        "the open request is not waited for"
    );
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    open.write_all(rest.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    open.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    drop(open);
    stopping.await.unwrap();
    assert_eq!(site.audit().last().unwrap()["event"], "stopped");
}
