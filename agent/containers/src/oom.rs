//! Tells when the kernel's out-of-memory killer ended a process of a container.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::exit::ExitWatch;
use crate::ids::ContainerId;
use crate::stats::parse_flat_keyed;
use crate::sys;

/// The largest event file; the kernel's have a handful of short lines.
const MAX_EVENTS_BYTES: usize = 4096;

/// A control group's event file, whose changes the kernel announces.
#[derive(Debug)]
pub(crate) struct EventFile(AsyncFd<OwnedFd>);

impl EventFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(sys::watch_fd(
            File::open(path)?.into(),
            Interest::PRIORITY,
        )?))
    }

    /// The present value of a key. Reading also asks for the announcement of the next change.
    pub(crate) fn value(&self, key: &str) -> io::Result<u64> {
        let mut buffer = [0; MAX_EVENTS_BYTES];
        let length = rustix::io::pread(self.0.get_ref(), &mut buffer, 0)?;
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        Ok(parse_flat_keyed(&text).get(key).copied().unwrap_or(0))
    }

    /// Waits for the announcement of a change.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}

/// Watches a container until its first process has ended. Does nothing where the kernel has no
/// memory controller.
pub(crate) fn watch(
    folder: &Path,
    id: ContainerId,
    init: ExitWatch,
    sender: mpsc::Sender<ContainerId>,
) -> Option<AbortHandle> {
    let file = EventFile::open(&folder.join("memory.events")).ok()?;
    let task = tokio::spawn(async move {
        let mut seen = file.value("oom_kill").unwrap_or(0);
        loop {
            let ended = tokio::select! {
                changed = file.changed() => changed.is_err(),
                _ = init.wait() => true,
            };
            let Ok(now) = file.value("oom_kill") else {
                return;
            };
            if now > seen {
                seen = now;
                if sender.try_send(id.clone()).is_err() {
                    tracing::warn!(container = %id, "nobody takes out-of-memory events");
                }
            }
            if ended {
                return;
            }
        }
    });
    Some(task.abort_handle())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;
    use std::time::Duration;

    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    /// Mounts the unified hierarchy for this thread alone (which needs root).
    fn mount_cgroups(at: &Path) {
        let nothing = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )
        .unwrap();
        mount(
            Some("cgroup2"),
            at,
            Some("cgroup2"),
            MsFlags::empty(),
            nothing,
        )
        .unwrap();
    }

    async fn follow_a_group(group: &Path) {
        let file = EventFile::open(&group.join("cgroup.events")).unwrap();
        assert_eq!(file.value("populated").unwrap(), 0);
        let early = tokio::time::timeout(Duration::from_millis(50), file.changed()).await;
        assert!(early.is_err(), "nothing has changed yet");

        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(group.join("cgroup.procs"), child.id().to_string()).unwrap();
        file.changed().await.unwrap();
        assert_eq!(file.value("populated").unwrap(), 1);

        child.kill().unwrap();
        child.wait().unwrap();
        file.changed().await.unwrap();
        assert_eq!(file.value("populated").unwrap(), 0);
    }

    #[test]
    fn changes_of_an_event_file_are_announced() {
        let outcome = std::thread::spawn(|| {
            let folder = tempfile::tempdir().unwrap();
            mount_cgroups(folder.path());
            let group = folder
                .path()
                .join(format!("redoubt-events-{}", std::process::id()));
            fs::create_dir(&group).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let limit = Duration::from_secs(20);
            let outcome = runtime
                .unwrap()
                .block_on(async { tokio::time::timeout(limit, follow_a_group(&group)).await });
            fs::remove_dir(&group).unwrap();
            nix::mount::umount(folder.path()).unwrap();
            outcome.unwrap();
        });
        outcome.join().unwrap();
    }
}
