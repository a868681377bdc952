//! Many guests that come together.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use redoubt_evidence::GuestPolicy;
use redoubt_evidence::psp::{ReportRequest, ReportResponse};
use redoubt_kbs_protocol::{
    AuthRequest, Challenge, HashAlgorithm, JweResponse, SessionCookie, Tee, TeeKeyPair, report_data,
};
use redoubt_snp_simulator::{LaunchFacts, RsaBits, SimulatedIdentity, SoftwarePsp};
use serde_json::{Value, json};

use super::AttestationOptions;
use super::broker::Broker;
use crate::printer::Printer;

pub(super) const RESOURCE: &str = "default/key/bench";
pub(super) const KEY: &[u8] = &[7; 32];
pub(super) const DIGEST: [u8; 48] = [0xd1; 48];
const INITDATA: &str =
    "version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n\"aa.toml\" = \"\"\n";

/// A guest between its challenge and its resource.
struct Guest {
    key: TeeKeyPair,
    cookie: String,
    /// The body of its answer.
    answer: Vec<u8>,
    took: Duration,
}

/// Handshakes in turns: 64 guests get their challenges together, their reports are
/// signed while nothing is measured, then all of them answer and fetch together.
pub(super) async fn run(
    printer: &Printer,
    redoubt: &Path,
    options: &AttestationOptions,
) -> Result<()> {
    let identity = SimulatedIdentity::generate_with(RsaBits::Rsa4096)?;
    let broker = Broker::start(redoubt, &identity)?;
    let initdata = redoubt_initdata::Initdata::parse_toml(INITDATA.as_bytes())?;
    let facts = LaunchFacts::new(DIGEST, initdata.host_data(), GuestPolicy::RELEASE);
    let psp = Arc::new(SoftwarePsp::new(identity, &facts)?);
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(redoubt_kbs_client::tls_config(None)?)
        .no_proxy()
        .build()?;
    let (idle_mib, _) = broker.memory_mib()?;
    let clients = options.clients.max(1);
    let turns = options.handshakes.div_ceil(clients).max(1);
    let (mut busy, mut cpu, mut times) = (Duration::ZERO, Duration::ZERO, Vec::new());
    // The first turn opens connections and fills caches.
    for turn in 0..=turns {
        let before = broker.cpu()?;
        let start = Instant::now();
        let guests = all(clients, |_| challenge(http.clone(), broker.url.clone())).await?;
        let mut spent = start.elapsed();
        let mut guests = sign(&psp, guests)?.into_iter();
        let start = Instant::now();
        let took = all(clients, |_| {
            fetch(http.clone(), broker.url.clone(), guests.next())
        })
        .await?;
        spent += start.elapsed();
        if turn > 0 {
            busy += spent;
            cpu += broker.cpu()?.saturating_sub(before);
            times.extend(took);
        }
    }
    let (mib, peak_mib) = broker.memory_mib()?;
    report(printer, clients, &mut times, busy, cpu);
    printer.line(&format!(
        "broker RSS {idle_mib:.1} MiB before, {mib:.1} MiB after, {peak_mib:.1} MiB at most (aim 20)"
    ));
    Ok(())
}

fn report(
    printer: &Printer,
    clients: usize,
    times: &mut [Duration],
    busy: Duration,
    cpu: Duration,
) {
    times.sort_unstable();
    let count = times.len().max(1);
    let at = |percent: usize| {
        let index = (count * percent / 100).min(count - 1);
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    let handshakes = u32::try_from(count).unwrap_or(u32::MAX);
    let cpu_ms = cpu.as_secs_f64() * 1000.0 / f64::from(handshakes);
    printer.line(&format!(
        "full handshakes with {clients} clients            {:>8.0} per second (auth, attest, get; the clients share the cores)",
        f64::from(handshakes) / busy.as_secs_f64()
    ));
    printer.line(&format!(
        "broker CPU per handshake                 {cpu_ms:>8.2} ms (aim 1.80: half of Trustee's on sample evidence)"
    ));
    printer.line(&format!(
        "time of a handshake                      p50 {:.1} ms, p99 {:.1} ms",
        at(50),
        at(99)
    ));
}

/// Runs as many tasks as there are clients, at the same time.
async fn all<T, F>(clients: usize, mut task: impl FnMut(usize) -> F) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let tasks: Vec<_> = (0..clients)
        .map(|index| tokio::spawn(task(index)))
        .collect();
    let mut done = Vec::with_capacity(clients);
    for task in tasks {
        done.push(task.await??);
    }
    Ok(done)
}

/// Gets a challenge.
async fn challenge(http: reqwest::Client, url: String) -> Result<(Guest, Challenge)> {
    let start = Instant::now();
    let request = http.post(format!("{url}/auth"));
    let response = request.json(&AuthRequest::new(Tee::Snp)).send().await?;
    ensure!(
        response.status() == 200,
        "no challenge: {}",
        response.status()
    );
    let cookie = response.headers().get("set-cookie");
    let cookie = cookie
        .and_then(|value| SessionCookie::from_set_cookie(value.to_str().ok()?))
        .context("the broker set no cookie")?
        .to_header();
    let challenge = Challenge::parse(&response.bytes().await?)?;
    let guest = Guest {
        key: TeeKeyPair::generate()?,
        cookie,
        answer: Vec::new(),
        took: start.elapsed(),
    };
    Ok((guest, challenge))
}

/// Makes the answers of all guests, as their secure processors do.
fn sign(psp: &SoftwarePsp, guests: Vec<(Guest, Challenge)>) -> Result<Vec<Guest>> {
    let sign_one = |(guest, challenge): (Guest, Challenge)| {
        let public = guest.key.public_key();
        let bound = report_data(HashAlgorithm::Sha384, &challenge.nonce, &public, "")?;
        let ReportResponse::Report(evidence) = psp.report(&ReportRequest::new(bound))? else {
            bail!("the secure processor refuses");
        };
        let answer = json!({
            "init-data": { "format": "toml", "body": INITDATA },
            "runtime-data": { "nonce": challenge.nonce, "tee-pubkey": public },
            "tee-evidence": {
                "primary_evidence": evidence.to_kbs_json()?,
                "additional_evidence": "",
            },
        });
        Ok(Guest {
            answer: answer.to_string().into_bytes(),
            ..guest
        })
    };
    guests.into_iter().map(sign_one).collect()
}

/// Answers the challenge and fetches the resource; the time of the whole handshake.
async fn fetch(http: reqwest::Client, url: String, guest: Option<Guest>) -> Result<Duration> {
    let guest = guest.context("there are fewer guests than clients")?;
    let start = Instant::now();
    let request = http
        .post(format!("{url}/attest"))
        .header("cookie", &guest.cookie);
    let response = request.body(guest.answer).send().await?;
    ensure!(
        response.status() == 200,
        "evidence refused: {}",
        response.status()
    );
    let answer: Value = serde_json::from_slice(&response.bytes().await?)?;
    let token = answer["token"].as_str().context("there is no token")?;
    let request = http.get(format!("{url}/resource/{RESOURCE}"));
    let response = request.bearer_auth(token).send().await?;
    ensure!(
        response.status() == 200,
        "not released: {}",
        response.status()
    );
    let sealed = response.bytes().await?;
    let took = guest.took + start.elapsed();
    let opened = JweResponse::parse(&sealed)?.open(&guest.key)?;
    ensure!(*opened == KEY, "another resource came");
    Ok(took)
}
