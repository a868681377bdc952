//! The client: memory, disk, then the services.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redoubt_verifier::{CollateralId, CollateralItem};
use reqwest::Client;
use time::OffsetDateTime;

use crate::backoff::{Pauses, growing};
use crate::cache::DiskCache;
use crate::error::CollateralError;
use crate::request::{Service, Services};
use crate::transport::{Answer, ask, http_client};

/// The most documents that are kept in memory; more start anew.
const MAX_IN_MEMORY: usize = 1024;

/// How long a certificate chain is used before it is asked for again.
const CHAIN_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How to ask.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where the services are.
    pub services: Services,
    /// How often a document is asked for before its failure is final.
    pub attempts: u32,
    /// The pause after a first failure; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause; a service that asks for a longer one is not waited for.
    pub longest_pause: Duration,
    /// Longest that one request may take, its answer included.
    pub timeout: Duration,
    /// How old a list or a TCB document may be before it is asked for again.
    pub max_age: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            services: Services::default(),
            attempts: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// Gets collateral, and keeps it.
#[derive(Debug)]
pub struct CollateralClient {
    http: Client,
    options: ClientOptions,
    disk: Option<DiskCache>,
    memory: Mutex<HashMap<CollateralId, CollateralItem>>,
    flights: Mutex<HashMap<CollateralId, Arc<tokio::sync::Mutex<()>>>>,
    pauses: Pauses,
}

impl CollateralClient {
    /// A client that keeps what it gets on disk as well, where a cache is given.
    pub fn new(options: ClientOptions, disk: Option<DiskCache>) -> Result<Self, CollateralError> {
        Ok(Self {
            http: http_client(&options.services, options.timeout)?,
            options,
            disk,
            memory: Mutex::default(),
            flights: Mutex::default(),
            pauses: Pauses::default(),
        })
    }

    /// The document with this id, from the cache while it is fresh at this time.
    ///
    /// However many callers wait for a document, it is asked for once at a time.
    /// Where its service does not answer, an older document serves for as long
    /// as its issuer says that it is current.
    pub async fn get(
        &self,
        id: CollateralId,
        at: OffsetDateTime,
    ) -> Result<CollateralItem, CollateralError> {
        if let Some(item) = self.fresh(&id, at) {
            return Ok(item);
        }
        let flight = Arc::clone(lock(&self.flights).entry(id).or_default());
        let guard = flight.lock().await;
        let outcome = match self.fresh(&id, at) {
            // Whoever held the flight before has brought it.
            Some(item) => Ok(item),
            None => self.fetch_or_older(id, at).await,
        };
        drop(guard);
        let mut flights = lock(&self.flights);
        // This map and this function hold one each; more are waiting.
        if Arc::strong_count(&flight) <= 2 {
            flights.remove(&id);
        }
        outcome
    }

    async fn fetch_or_older(
        &self,
        id: CollateralId,
        at: OffsetDateTime,
    ) -> Result<CollateralItem, CollateralError> {
        match self.fetch(id).await {
            Ok(item) => {
                self.keep(&item);
                Ok(item)
            }
            Err(error) => match self.known(&id).filter(|item| is_current(item, at)) {
                Some(older) => {
                    tracing::warn!(%id, %error, "using collateral that was fetched before");
                    Ok(older)
                }
                None => Err(error),
            },
        }
    }

    /// Asks until there is an answer or no point in asking again.
    async fn fetch(&self, id: CollateralId) -> Result<CollateralItem, CollateralError> {
        let request = self.options.services.request(&id);
        let service = request.service;
        let mut attempt = 0;
        loop {
            self.wait_for(service).await?;
            let last = attempt + 1 >= self.options.attempts;
            let pause = growing(
                self.options.first_pause,
                attempt,
                self.options.longest_pause,
            );
            match ask(&self.http, id, &request).await {
                Ok(Answer::Item(item)) => return Ok(item),
                Ok(Answer::Busy(asked)) => {
                    let pause = asked.map_or(pause, |asked| asked.max(pause));
                    self.pauses.pause(service, pause);
                    if last {
                        return Err(busy(service, pause));
                    }
                }
                Err(error) if error.passes() && !last => tokio::time::sleep(pause).await,
                Err(error) => return Err(error),
            }
            attempt += 1;
        }
    }

    /// Waits while the service wants to be left alone, unless that takes too long.
    async fn wait_for(&self, service: Service) -> Result<(), CollateralError> {
        loop {
            let remaining = self.pauses.remaining(service);
            if remaining.is_zero() {
                return Ok(());
            }
            if remaining > self.options.longest_pause {
                return Err(busy(service, remaining));
            }
            tokio::time::sleep(remaining).await;
        }
    }

    fn keep(&self, item: &CollateralItem) {
        self.remember(item.clone());
        if let Some(disk) = &self.disk
            && let Err(error) = disk.put(item)
        {
            // The document itself is good.
            tracing::warn!(id = %item.id, %error, "collateral is not kept");
        }
    }

    fn remember(&self, item: CollateralItem) {
        let mut memory = lock(&self.memory);
        if memory.len() >= MAX_IN_MEMORY {
            memory.clear();
        }
        memory.insert(item.id, item);
    }

    /// What is kept in memory, else on disk.
    fn known(&self, id: &CollateralId) -> Option<CollateralItem> {
        if let Some(item) = lock(&self.memory).get(id) {
            return Some(item.clone());
        }
        let item = self.disk.as_ref()?.get(id)?;
        self.remember(item.clone());
        Some(item)
    }

    fn fresh(&self, id: &CollateralId, at: OffsetDateTime) -> Option<CollateralItem> {
        let max_age = match id {
            // Never changes.
            CollateralId::Vcek(_) => Duration::MAX,
            CollateralId::Chain(..) => CHAIN_MAX_AGE,
            _ => self.options.max_age,
        };
        self.known(id).filter(|item| {
            let age = at - item.fetched_at;
            let young = Duration::try_from(age).map_or(true, |age| age <= max_age);
            young && is_current(item, at)
        })
    }
}

/// Whether the issuer has not announced a newer document for a time before this.
fn is_current(item: &CollateralItem, at: OffsetDateTime) -> bool {
    item.next_update().is_none_or(|next| at <= next)
}

fn busy(service: Service, pause: Duration) -> CollateralError {
    CollateralError::Busy {
        service,
        seconds: pause.as_secs().max(1),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
