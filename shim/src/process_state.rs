//! The life of one process, init or exec, as containerd sees it. Pure.
//!
//! ```text
//! Created ──start──▶ Starting ──started──▶ Running ◀──pause/resume──▶ Paused
//!    │  ▲               │                     │                         │
//!    │  └──start failed─┘                     └────────exited───────────┤
//!    ├──exited (killed before its start)──────────────▶ Stopped ◀───────┘
//!    └──delete──▶ Deleted ◀──delete─────────────────────┘
//! ```

use std::time::SystemTime;

use containerd_shim_protos::api::Status;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit status; 128 plus the signal's number for a killed process.
    pub status: u32,
    /// When it ended.
    pub at: SystemTime,
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Exists, has not been started.
    #[default]
    Created,
    /// The guest was asked to start it.
    Starting,
    /// Runs.
    Running,
    /// Is frozen with its container.
    Paused,
    /// Ended.
    Stopped(Exit),
    /// containerd has forgotten it.
    Deleted,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// containerd asks for its start.
    Start,
    /// The guest started it.
    Started,
    /// The guest could not start it.
    StartFailed,
    /// Its container was frozen.
    Pause,
    /// Its container was thawed.
    Resume,
    /// It ended.
    Exited(Exit),
    /// containerd asks to forget it.
    Delete,
}

/// a process that {phase} cannot {event}
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, displaydoc::Display)]
pub struct BadTransition {
    phase: &'static str,
    event: &'static str,
}

impl Phase {
    /// The phase after `event`.
    pub fn after(self, event: Event) -> Result<Self, BadTransition> {
        match (self, event) {
            (Self::Created, Event::Start) => Ok(Self::Starting),
            (Self::Starting, Event::StartFailed) => Ok(Self::Created),
            (Self::Starting, Event::Started) | (Self::Paused, Event::Resume) => Ok(Self::Running),
            (Self::Running, Event::Pause) => Ok(Self::Paused),
            (
                Self::Created | Self::Starting | Self::Running | Self::Paused,
                Event::Exited(exit),
            ) => Ok(Self::Stopped(exit)),
            (Self::Created | Self::Stopped(_), Event::Delete) => Ok(Self::Deleted),
            (phase, event) => Err(BadTransition {
                phase: phase.words(),
                event: event.words(),
            }),
        }
    }

    /// The exit, once there is one.
    pub fn exit(self) -> Option<Exit> {
        match self {
            Self::Stopped(exit) => Some(exit),
            _ => None,
        }
    }

    /// True while the guest has, or may have, a living process.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused)
    }

    /// containerd's word for this phase.
    pub fn status(self) -> Status {
        match self {
            Self::Created | Self::Starting => Status::CREATED,
            Self::Running => Status::RUNNING,
            Self::Paused => Status::PAUSED,
            Self::Stopped(_) | Self::Deleted => Status::STOPPED,
        }
    }

    /// The error for a request, in words, that this phase forbids.
    pub fn refuse(self, request: &'static str) -> BadTransition {
        BadTransition {
            phase: self.words(),
            event: request,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Created => "has not been started",
            Self::Starting => "is starting",
            Self::Running => "is running",
            Self::Paused => "is paused",
            Self::Stopped(_) => "has ended",
            Self::Deleted => "was deleted",
        }
    }
}

impl Event {
    fn words(self) -> &'static str {
        match self {
            Self::Start => "be started",
            Self::Started | Self::StartFailed => "finish starting",
            Self::Pause => "be paused",
            Self::Resume => "be resumed",
            Self::Exited(_) => "end",
            Self::Delete => "be deleted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXIT: Exit = Exit {
        status: 3,
        at: SystemTime::UNIX_EPOCH,
    };

    fn run(events: &[Event]) -> Result<Phase, BadTransition> {
        events
            .iter()
            .try_fold(Phase::Created, |phase, event| phase.after(*event))
    }

    #[test]
    fn an_ordinary_life_ends_deleted() {
        let events = [
            Event::Start,
            Event::Started,
            Event::Pause,
            Event::Resume,
            Event::Exited(EXIT),
        ];
        assert_eq!(run(&events).unwrap(), Phase::Stopped(EXIT));
        assert_eq!(
            Phase::Stopped(EXIT).after(Event::Delete).unwrap(),
            Phase::Deleted
        );
    }

    #[test]
    fn a_refused_start_can_be_deleted() {
        let events = [Event::Start, Event::StartFailed, Event::Delete];
        assert_eq!(run(&events).unwrap(), Phase::Deleted);
    }

    #[test]
    fn a_running_process_is_not_deleted() {
        let error = run(&[Event::Start, Event::Started, Event::Delete]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a process that is running cannot be deleted"
        );
    }

    #[test]
    fn starting_twice_is_refused() {
        let error = run(&[Event::Start, Event::Started, Event::Start]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a process that is running cannot be started"
        );
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let one = (0_u8..8, any::<u32>()).prop_map(|(kind, status)| match kind {
            0 => Event::Start,
            1 => Event::Started,
            2 => Event::StartFailed,
            3 => Event::Pause,
            4 => Event::Resume,
            5 | 6 => Event::Exited(Exit {
                status,
                at: SystemTime::UNIX_EPOCH,
            }),
            _ => Event::Delete,
        });
        proptest::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn an_exit_is_final_and_deletion_is_the_end(events in events()) {
            let mut phase = Phase::Created;
            let mut first_exit = None;
            for event in events {
                match phase.after(event) {
                    Ok(next) => {
                        prop_assert_ne!(phase, Phase::Deleted);
                        if let (Phase::Stopped(exit), None) = (next, first_exit) {
                            first_exit = Some(exit);
                        }
                        phase = next;
                    }
                    Err(_) => prop_assert!(phase.exit().is_none() || phase.exit() == first_exit),
                }
                if let Some(exit) = phase.exit() {
                    prop_assert_eq!(Some(exit), first_exit);
                }
            }
        }

        #[test]
        fn running_needs_a_start_first(events in events()) {
            let mut phase = Phase::Created;
            let mut started = false;
            for event in events {
                if let Ok(next) = phase.after(event) {
                    started |= event == Event::Start;
                    phase = next;
                }
                prop_assert!(started || !phase.is_alive());
            }
        }
    }
}
