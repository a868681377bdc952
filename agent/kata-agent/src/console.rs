//! What the agent says on the guest's console.
//!
//! The console belongs to the host. Stages, fatal errors and the log's
//! messages go there; environment, arguments, output and keys never do.

#![expect(clippy::print_stdout, reason = "the console is this module's purpose")]

use redoubt_agent_api::stage::{FatalLine, Stage, StageLine};
use redoubt_errors::{ErrorReport, UserError};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Says that a stage of the pod's start was reached.
pub(crate) fn stage(stage: Stage, detail: &str) {
    println!("{}", StageLine::new(stage, detail));
}

/// Says why the guest gives up, and what to do about it where the line has room.
pub(crate) fn fatal(error: &dyn UserError) {
    println!("{}", fatal_line(error));
}

fn fatal_line(error: &dyn UserError) -> FatalLine {
    let report = ErrorReport::of(error);
    let with_hint = report
        .hint
        .map(|hint| format!("{} (hint: {hint})", report.message))
        .map(|message| FatalLine::new(&report.code, &message))
        .filter(|line| line.message.ends_with(')'));
    with_hint.unwrap_or_else(|| FatalLine::new(&report.code, &report.message))
}

/// Waits until the console has taken all that was written.
pub(crate) fn drain() {
    let _ = rustix::termios::tcdrain(std::io::stdout());
}

/// Starts the log at a level.
pub(crate) fn start_log(level: LevelFilter) {
    let output = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stdout)
        .with_ansi(false)
        .without_time();
    tracing_subscriber::registry()
        .with(output)
        .with(targets(level))
        .init();
}

/// The level is that of this project's own messages. Libraries at a finer level
/// than a warning tell what they transport: headers, bodies, keys.
fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("kata_agent", level)
        .with_target("redoubt", level)
}

/// Lets a panic say where it happened and nothing else: its message may repeat
/// a part of a request.
pub(crate) fn hush_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        println!("{}", panic_line(place.as_deref()));
    }));
}

fn panic_line(place: Option<&str>) -> String {
    format!(
        "the agent failed at {}",
        place.unwrap_or("an unknown place")
    )
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;
    use crate::error::AgentError;

    #[test]
    fn libraries_never_log_more_than_warnings() {
        let targets = targets(LevelFilter::TRACE);
        let shown = |target: &str, level| targets.would_enable(target, &level);
        for own in ["kata_agent::service", "redoubt_image_offload::store"] {
            assert!(shown(own, tracing::Level::TRACE), "{own}");
        }
        for library in [
            "hyper",
            "reqwest::connect",
            "rustls",
            "h2",
            "libcontainer",
            "ttrpc",
        ] {
            assert!(shown(library, tracing::Level::WARN), "{library}");
            assert!(!shown(library, tracing::Level::INFO), "{library}");
            assert!(!shown(library, tracing::Level::TRACE), "{library}");
        }
        assert!(!super::targets(LevelFilter::ERROR).would_enable("h2", &tracing::Level::WARN));
    }

    #[test]
    fn the_last_line_carries_the_hint_where_it_fits() {
        let line = fatal_line(&AgentError::NoBroker);
        assert!(
            line.message.contains("(hint: set [kbc] url in cdh.toml)"),
            "{}",
            line.message
        );
        let long = AgentError::ImageNotPinned {
            reference: "x".repeat(900),
        };
        assert!(!fatal_line(&long).message.contains("hint"));
    }

    #[test]
    fn a_panic_tells_its_place_and_not_its_message() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "console::tests::panics",
                "--nocapture",
                "--ignored",
            ])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("the agent failed at "), "{text}");
        assert!(!text.contains("top-secret"), "{text}");
    }

    #[test]
    #[ignore = "the test above runs it"]
    fn panics() {
        hush_panics();
        panic!("top-secret");
    }
}
