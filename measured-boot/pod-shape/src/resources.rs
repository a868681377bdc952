//! A pod's resources, added up as the kubelet does, and worded as cgroups do.

use redoubt_launch_plan::ResourceLimits;

use crate::error::PodError;
use crate::node::Node;
use crate::quantity::Quantity;

/// Length of the kubelet's CPU period in microseconds.
const CPU_PERIOD_US: u32 = 100_000;
/// The least quota that the kubelet sets, in microseconds.
const MIN_QUOTA_US: i64 = 1000;
const MIN_CPU_SHARES: i64 = 2;
/// The largest CPU weight that the kubelet sets.
pub const MAX_CPU_SHARES: i64 = 262_144;

/// CPU and memory of a container or a pod; `None` where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amounts {
    cpu: Option<Quantity>,
    memory: Option<Quantity>,
}

/// Requests and limits of a container or a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodResources {
    requests: Amounts,
    limits: Amounts,
}

impl PodResources {
    /// Adds up a pod specification's containers, init containers and sidecars.
    ///
    /// Containers run side by side, as do sidecars (init containers that restart
    /// always) from their start on; the other init containers run one after the
    /// other before them, so that the largest counts. What the pod itself states
    /// replaces the sum.
    pub(crate) fn of_pod_spec(spec: &Node<'_>) -> Result<Self, PodError> {
        let mut running = Self::default();
        for container in spec.elements("containers")? {
            running.add(Self::of(&container)?.with_default_requests(), spec)?;
        }
        let mut sidecars = Self::default();
        let mut starting = Self::default();
        for container in spec.elements("initContainers")? {
            let own = Self::of(&container)?.with_default_requests();
            if container.text("restartPolicy")? == Some("Always") {
                running.add(own, spec)?;
                sidecars.add(own, spec)?;
                starting.raise(sidecars);
            } else {
                let mut beside = sidecars;
                beside.add(own, spec)?;
                starting.raise(beside);
            }
        }
        running.raise(starting);
        running.replace(Self::of(spec)?);
        Ok(running)
    }

    /// The limits in the words of the runtime interface, as the kubelet computes them.
    pub fn limits(&self) -> ResourceLimits {
        let cpu_limit = milli(self.limits.cpu).unwrap_or_default();
        let shares = milli(self.requests.cpu).unwrap_or(cpu_limit);
        ResourceLimits {
            cpu_quota_us: Some(cpu_quota(cpu_limit)),
            cpu_period_us: Some(u64::from(CPU_PERIOD_US)),
            cpu_shares: Some(cpu_shares(shares).unsigned_abs()),
            memory_bytes: Some(self.limits.memory.map(Quantity::value).unwrap_or_default()),
        }
    }

    fn of(owner: &Node<'_>) -> Result<Self, PodError> {
        let Some(resources) = owner.field("resources")? else {
            return Ok(Self::default());
        };
        Ok(Self {
            requests: Amounts::of(&resources, "requests")?,
            limits: Amounts::of(&resources, "limits")?,
        })
    }

    /// The API server takes a container's limit for a request that is not stated.
    fn with_default_requests(self) -> Self {
        let mut requests = self.limits;
        requests.replace(self.requests);
        Self { requests, ..self }
    }

    fn add(&mut self, other: Self, place: &Node<'_>) -> Result<(), PodError> {
        self.requests.add(other.requests, place)?;
        self.limits.add(other.limits, place)
    }

    fn raise(&mut self, other: Self) {
        self.requests.raise(other.requests);
        self.limits.raise(other.limits);
    }

    fn replace(&mut self, other: Self) {
        self.requests.replace(other.requests);
        self.limits.replace(other.limits);
    }
}

impl Amounts {
    fn of(resources: &Node<'_>, name: &str) -> Result<Self, PodError> {
        let mut amounts = Self::default();
        for (resource, node) in resources.entries(name)? {
            let amount = match resource {
                "cpu" => &mut amounts.cpu,
                "memory" => &mut amounts.memory,
                _ => continue,
            };
            let quantity = node.as_text_or_number()?.parse();
            *amount = Some(quantity.map_err(|cause| PodError::Quantity {
                place: node.place().to_owned(),
                cause,
            })?);
        }
        Ok(amounts)
    }

    fn add(&mut self, other: Self, place: &Node<'_>) -> Result<(), PodError> {
        let too_large = || PodError::Sum {
            place: place.place().to_owned(),
        };
        for (sum, more) in [(&mut self.cpu, other.cpu), (&mut self.memory, other.memory)] {
            if let Some(more) = more {
                let total = sum.unwrap_or_default().checked_add(more);
                *sum = Some(total.ok_or_else(too_large)?);
            }
        }
        Ok(())
    }

    fn raise(&mut self, other: Self) {
        self.cpu = self.cpu.max(other.cpu);
        self.memory = self.memory.max(other.memory);
    }

    fn replace(&mut self, other: Self) {
        self.cpu = other.cpu.or(self.cpu);
        self.memory = other.memory.or(self.memory);
    }
}

fn milli(amount: Option<Quantity>) -> Option<i64> {
    amount.map(Quantity::milli_value)
}

fn cpu_quota(milli: i64) -> i64 {
    match milli {
        0 => 0,
        milli => milli
            .saturating_mul(i64::from(CPU_PERIOD_US) / 1000)
            .max(MIN_QUOTA_US),
    }
}

fn cpu_shares(milli: i64) -> i64 {
    (milli.saturating_mul(1024) / 1000).clamp(MIN_CPU_SHARES, MAX_CPU_SHARES)
}
