//! The agent's kernel parameters. The kernel command line is measured.

use std::time::Duration;

use redoubt_attester::AttesterKind;
use tracing_subscriber::filter::LevelFilter;

use crate::error::{AgentError, Result};

/// One kernel parameter of the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    name: &'static str,
    expected: &'static str,
    apply: fn(&mut Parameters, &str) -> bool,
}

/// Every parameter that the agent reads; others on the command line belong to somebody else.
const PARAMETERS: [Parameter; 5] = [
    Parameter {
        name: "agent.log",
        expected: "error, warn, info, debug or trace",
        apply: |parameters, value| {
            level(value)
                .map(|level| parameters.log_level = level)
                .is_some()
        },
    },
    Parameter {
        name: "agent.debug_console",
        expected: "nothing, true or false",
        apply: |parameters, value| {
            parameters.debug_console = matches!(value, "" | "true");
            matches!(value, "" | "true" | "false")
        },
    },
    Parameter {
        name: "agent.image_pull_timeout",
        expected: "a number of seconds from 1 to 86400",
        apply: |parameters, value| {
            seconds(value)
                .map(|time| parameters.image_pull_timeout = time)
                .is_some()
        },
    },
    Parameter {
        name: "redoubt.root_verity",
        expected: "what verifies the root disk",
        apply: |parameters, value| {
            parameters.root_disk = !value.is_empty();
            parameters.root_disk
        },
    },
    Parameter {
        name: "agent.cdh_api_timeout",
        expected: "a number of seconds from 1 to 86400",
        apply: |parameters, value| {
            seconds(value)
                .map(|time| parameters.broker_timeout = time)
                .is_some()
        },
    },
];

/// What the kernel command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The source of evidence; `None` for a guest that is not confidential.
    pub(crate) attester: Option<AttesterKind>,
    /// The level of the log.
    pub(crate) log_level: LevelFilter,
    /// Whether a shell for the host is asked for, which this guest does not have.
    pub(crate) debug_console: bool,
    /// Whether the guest's root is a verified disk.
    pub(crate) root_disk: bool,
    /// How long an image pull may take.
    pub(crate) image_pull_timeout: Duration,
    /// How long a key may take, handshake included.
    pub(crate) broker_timeout: Duration,
}

impl Parameters {
    /// Reads a kernel command line.
    pub(crate) fn parse(command_line: &str) -> Result<Self> {
        let mut parameters = Self {
            attester: AttesterKind::from_command_line(command_line)?,
            log_level: LevelFilter::WARN,
            debug_console: false,
            root_disk: false,
            image_pull_timeout: Duration::from_secs(1200),
            broker_timeout: Duration::from_secs(12),
        };
        for word in command_line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let Some(known) = PARAMETERS.iter().find(|known| known.name == name) else {
                continue;
            };
            if !(known.apply)(&mut parameters, value) {
                return Err(AgentError::Parameter {
                    name: known.name,
                    value: value.chars().take(64).collect(),
                    expected: known.expected,
                });
            }
        }
        Ok(parameters)
    }
}

fn level(value: &str) -> Option<LevelFilter> {
    Some(match value {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

fn seconds(value: &str) -> Option<Duration> {
    let seconds: u64 = value.parse().ok()?;
    (1..=86_400)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_command_line_gives_the_defaults_and_no_tee() {
        let parameters = Parameters::parse("console=ttyS0 quiet").unwrap();
        assert_eq!(parameters.attester, None);
        assert_eq!(parameters.log_level, LevelFilter::WARN);
        assert_eq!(parameters.image_pull_timeout, Duration::from_secs(1200));
    }

    #[test]
    fn known_parameters_are_read_and_the_last_one_wins() {
        let line = "redoubt.attester=simulated-snp agent.log=debug agent.debug_console agent.image_pull_timeout=5 \
                    agent.image_pull_timeout=7 agent.unknown=1";
        let parameters = Parameters::parse(line).unwrap();
        assert_eq!(parameters.attester, Some(AttesterKind::SimulatedSnp));
        assert_eq!(parameters.log_level, LevelFilter::DEBUG);
        assert!(parameters.debug_console && !parameters.root_disk);
        assert_eq!(parameters.image_pull_timeout, Duration::from_secs(7));
    }

    #[test]
    fn a_root_disk_is_known_by_its_parameter() {
        let line = "redoubt.root_verity=root_hash=00,salt=01";
        assert!(Parameters::parse(line).unwrap().root_disk);
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        for line in [
            "agent.log=loud",
            "agent.log",
            "agent.log=off",
            "agent.debug_console=maybe",
            "agent.image_pull_timeout=0",
            "agent.cdh_api_timeout=x",
            "redoubt.root_verity",
        ] {
            let error = Parameters::parse(line).unwrap_err();
            assert!(
                matches!(error, AgentError::Parameter { .. }),
                "{line}: {error}"
            );
        }
    }
}
