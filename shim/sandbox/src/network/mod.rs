//! The pod's network: what is in its namespace, the taps that lead into the guest, and
//! what the agent is told about it.

mod error;
mod model;
mod netns;
mod scan;
mod tap;
mod tcfilter;
#[cfg(test)]
mod tests;

pub use error::NetworkError;
pub use model::{GuestAddress, GuestInterface, GuestNeighbour, GuestNetwork, GuestRoute};
pub(crate) use netns::open as open_netns;
pub(crate) use tap::Tap;

use std::fs::File;
use std::path::Path;

use crate::state::{NetnsRecord, TapRecord};

/// The network of a pod, connected to taps.
#[derive(Debug)]
pub(crate) struct PodNetwork {
    /// What the agent is told.
    pub(crate) guest: GuestNetwork,
    /// One tap per interface, in the order of the guest's interfaces.
    pub(crate) taps: Vec<Tap>,
}

/// What is in a namespace, and the names of the pairs that will be made.
#[derive(Debug)]
pub(crate) struct Survey {
    links: Vec<scan::Link>,
    guest: GuestNetwork,
}

impl Survey {
    /// Looks at a namespace; changes nothing.
    pub(crate) async fn of(namespace: &File) -> Result<Self, NetworkError> {
        netns::inside(namespace, || async {
            let (links, guest) = scan::scan(&netns::connect()?).await?;
            Ok(Self { links, guest })
        })
        .await
    }

    /// The pairs that [`Survey::connect`] will make, to be written down first.
    pub(crate) fn records(&self) -> Vec<TapRecord> {
        self.links
            .iter()
            .enumerate()
            .map(|(number, link)| TapRecord {
                tap: format!("tap{number}_kata"),
                peer: link.name.clone(),
                owns_ingress: !link.has_ingress,
            })
            .collect()
    }

    /// Makes a tap for each interface and redirects all traffic between the two.
    pub(crate) async fn connect(
        self,
        namespace: &File,
        queues: u32,
    ) -> Result<PodNetwork, NetworkError> {
        netns::inside(namespace, move || async move {
            let handle = netns::connect()?;
            let mut taps = Vec::new();
            for (record, link) in self.records().iter().zip(&self.links) {
                if link.has_ingress {
                    return Err(NetworkError::IngressTaken {
                        interface: link.name.clone(),
                    });
                }
                let tap = tap::create(&handle, &record.tap, link, queues).await?;
                tcfilter::redirect_both_ways(
                    &handle,
                    tap.index,
                    link.index,
                    &record.tap,
                    &link.name,
                )
                .await?;
                taps.push(tap);
            }
            Ok(PodNetwork {
                guest: self.guest,
                taps,
            })
        })
        .await
    }
}

/// Undoes what was written down before [`Survey::connect`]; what is gone already is fine.
pub(crate) async fn disconnect(
    namespace: &NetnsRecord,
    records: &[TapRecord],
) -> Result<(), NetworkError> {
    if records.is_empty() || !namespace.is_there() {
        // With the namespace went everything in it.
        return Ok(());
    }
    let file = open_netns(&namespace.path).map_err(|source| NetworkError::Namespace {
        path: namespace.path.clone(),
        source,
    })?;
    let records = records.to_vec();
    netns::inside(&file, move || async move {
        let handle = netns::connect()?;
        for record in &records {
            if record.owns_ingress {
                tcfilter::remove_ingress(&handle, &record.peer).await?;
            }
            tap::remove(&handle, &record.tap).await?;
        }
        Ok(())
    })
    .await
}

/// Opens `/dev/vhost-net` once per queue.
pub(crate) fn open_vhost_net(queues: usize) -> std::io::Result<Vec<File>> {
    (0..queues)
        .map(|_| {
            File::options()
                .read(true)
                .write(true)
                .open(Path::new("/dev/vhost-net"))
        })
        .collect()
}
