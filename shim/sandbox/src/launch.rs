//! Carrying out a launch plan, step by step.

use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use redoubt_agent_api::stage::Stage;
use redoubt_launch_plan::{
    ConsoleResource, LaunchPlan, LaunchResources, NetworkInterface, NetworkModel, QmpResource,
    VsockPlan, VsockResource,
};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use ttrpc::asynchronous::Client;

use crate::boot::Boot;
use crate::cgroup::{self, Cgroups};
use crate::console::Console;
use crate::error::SandboxError;
use crate::id::SandboxId;
use crate::network::{self, GuestNetwork, PodNetwork, Survey};
use crate::process::{ChildProcess, ChildSpec};
use crate::qmp::Qmp;
use crate::release::Resources;
use crate::sandbox::{LaunchRequest, Sandbox};
use crate::simulation;
use crate::state::{NetnsRecord, Role, StateDir};
use crate::sys::ChildNetwork;
use crate::trail::Trail;
use crate::vsock::{self, GuestPorts};

/// Files of the state directory.
const INITDATA: &str = "initdata.img";
const HASH_TABLE: &str = "hashes.bin";
const QMP_SOCKET: &str = "qmp.sock";

/// The first descriptor number after the standard ones.
const FIRST_FD: RawFd = 3;

/// What a launch leads to, besides the resources.
struct Live {
    ports: GuestPorts,
    console: Console,
    network: GuestNetwork,
    client: Client,
}

/// Launches; on failure gives back what was taken.
pub(crate) async fn launch(request: LaunchRequest) -> Result<Sandbox, SandboxError> {
    let id = SandboxId::new(&request.plan.sandbox_id)?;
    let trail_path = request.plan.shim.trail_path.as_deref();
    let trail = Trail::open(id.as_str(), trail_path, request.started)?;
    trail.record(Stage::LaunchPlanned, &planned(&request.plan));
    let mut resources = Resources::new(StateDir::create(&request.state_root, &id)?);
    match build(&mut resources, &request, &trail).await {
        Ok(live) => Ok(Sandbox {
            resources,
            plan: request.plan,
            trail,
            ports: live.ports,
            console: live.console,
            network: live.network,
            client: live.client,
        }),
        Err(error) => {
            if let Err(cleanup) = resources.release().await {
                let cleanup = redoubt_errors::OneLine(&cleanup).to_string();
                tracing::error!(sandbox = %id, %cleanup, "a failed launch left something behind");
            }
            Err(error)
        }
    }
}

/// The detail of the first stage.
fn planned(plan: &LaunchPlan) -> String {
    match plan.launch_digest() {
        Some(digest) => format!("predicted launch digest {digest}"),
        None => "not confidential: nothing is measured".to_owned(),
    }
}

async fn build(
    resources: &mut Resources,
    request: &LaunchRequest,
    trail: &Trail,
) -> Result<Live, SandboxError> {
    let plan = &request.plan;
    let mut fds = InheritedFds::default();

    let initdata_disk = match &plan.initdata {
        Some(initdata) => Some(resources.dir.write_file(INITDATA, &initdata.disk_image)?),
        None => None,
    };
    let simulation = plan.simulation();
    let hash_table = match &simulation {
        Some(simulation) => Some(
            resources
                .dir
                .write_file(HASH_TABLE, &simulation.hash_table)?,
        ),
        None => None,
    };
    let cgroups = make_cgroups(&mut resources.dir, request)?;
    let (namespace, pod) = join_network(&mut resources.dir, request).await?;
    let (vsock, ports) = open_vsock(resources, plan, cgroups.clone(), &mut fds).await?;
    if let Some(simulation) = &simulation {
        if resources.daemon.is_none() {
            // On the kernel's vsock every guest of the host could ask for this one's reports.
            return Err(SandboxError::SimulationNeedsDaemon);
        }
        // Before QEMU runs: the guest's first request must find it.
        resources.psp = Some(simulation::serve(simulation, resources.dir.path())?);
    }
    let (console_fd, console) = open_console(&resources.dir, trail)?;
    let console_fd = fds.add(console_fd);
    let (qmp_fd, qmp_stream) = open_qmp(&resources.dir).await?;
    let qmp_fd = fds.add(qmp_fd);
    let interfaces = pass_taps(plan, pod.taps, &mut fds)?;

    let launch_resources = LaunchResources {
        vsock,
        // The pipe's end is opened again by QEMU; nothing printed before is lost.
        console: ConsoleResource::File(format!("/proc/self/fd/{console_fd}").into()),
        qmp: QmpResource::Fd(qmp_fd),
        initdata_disk,
        hash_table,
        interfaces,
        pid_file: None,
    };
    resources.dir.expect_process(Role::Qemu, &plan.qemu)?;
    let qemu = ChildProcess::spawn(ChildSpec {
        program: plan.qemu.clone(),
        args: plan.qemu_args(&launch_resources),
        network: namespace,
        fds: fds.0,
        cgroups,
    })
    .await?;
    let qemu_process = qemu.identity();
    let qemu = resources.qemu.insert(qemu);
    resources.dir.process_started(Role::Qemu, qemu_process)?;

    let qmp = negotiate(qmp_stream, qemu).await?;
    let qmp = resources.qmp.insert(Arc::new(qmp));
    trail.record(Stage::QemuStarted, &format!("pid {}", qemu_process.pid));

    let daemon = resources.daemon.as_ref();
    let boot = Boot {
        plan,
        ports: &ports,
        console: &console,
        qmp,
        qemu,
        daemon,
    };
    let client = boot.agent().await?;
    tokio::spawn(Arc::clone(qmp).end_when_broken());
    Ok(Live {
        ports,
        console,
        network: pod.guest,
        client,
    })
}

/// Descriptors for QEMU, numbered from 3 in the order in which they are added.
#[derive(Default)]
struct InheritedFds(Vec<(RawFd, OwnedFd)>);

impl InheritedFds {
    fn add(&mut self, fd: OwnedFd) -> RawFd {
        let number = self.0.last().map_or(FIRST_FD, |(number, _)| number + 1);
        self.0.push((number, fd));
        number
    }
}

/// Makes the control groups of the sandbox's processes, after writing them down.
fn make_cgroups(dir: &mut StateDir, request: &LaunchRequest) -> Result<Cgroups, SandboxError> {
    let required = request.plan.shim.sandbox_cgroup_only;
    let located = Cgroups::locate(&request.cgroups_path, &request.plan.sandbox_id, required);
    let cgroups = match located {
        Ok(cgroups) => cgroups,
        Err(error) => {
            return cgroup::judge(required, Err(error)).map(|()| Cgroups::default());
        }
    };
    let missing = cgroups.missing();
    dir.update(|state| state.cgroups = missing)?;
    match cgroups.create() {
        Ok(()) => Ok(cgroups),
        // Those that were made are removed with the rest; none of them is used.
        Err(error) => cgroups.judge(Err(error)).map(|()| Cgroups::default()),
    }
}

/// Connects the pod's namespace to taps; tells which namespace QEMU runs in.
async fn join_network(
    dir: &mut StateDir,
    request: &LaunchRequest,
) -> Result<(ChildNetwork, PodNetwork), SandboxError> {
    let none = || PodNetwork {
        guest: GuestNetwork::default(),
        taps: Vec::new(),
    };
    let Some(path) = &request.netns else {
        let namespace = if request.plan.shim.disable_new_netns {
            ChildNetwork::Inherited
        } else {
            ChildNetwork::Fresh
        };
        return Ok((namespace, none()));
    };
    let failed = |source| SandboxError::NetworkNamespace {
        path: path.clone(),
        source,
    };
    let namespace = network::open_netns(path).map_err(failed)?;
    if request.plan.network_model == NetworkModel::None {
        return Ok((ChildNetwork::Joined(namespace.into()), none()));
    }
    let survey = Survey::of(&namespace).await?;
    let netns = NetnsRecord::of(path).map_err(failed)?;
    let taps = survey.records();
    dir.update(|state| {
        state.netns = Some(netns);
        state.taps = taps;
    })?;
    let pod = survey
        .connect(&namespace, request.plan.network_queues)
        .await?;
    Ok((ChildNetwork::Joined(namespace.into()), pod))
}

async fn open_vsock(
    resources: &mut Resources,
    plan: &LaunchPlan,
    cgroups: Cgroups,
    fds: &mut InheritedFds,
) -> Result<(VsockResource, GuestPorts), SandboxError> {
    match &plan.vsock {
        VsockPlan::Vhost => {
            let (fd, guest_cid) = vsock::open_vhost_vsock()?;
            let fd = fds.add(fd);
            Ok((
                VsockResource::Vhost { fd, guest_cid },
                GuestPorts::Vsock { cid: guest_cid },
            ))
        }
        VsockPlan::VhostUser { daemon } => {
            let daemon = vsock::start_daemon(&mut resources.dir, daemon, cgroups).await?;
            resources.daemon = Some(daemon);
            let socket = resources.dir.file(vsock::CONTROL_SOCKET);
            let hybrid = resources.dir.file(vsock::HYBRID_SOCKET);
            Ok((
                VsockResource::VhostUser { socket },
                GuestPorts::Hybrid { socket: hybrid },
            ))
        }
    }
}

/// A pipe for the serial console: QEMU's end, and what is read from the other.
fn open_console(dir: &StateDir, trail: &Trail) -> Result<(OwnedFd, Console), SandboxError> {
    let failed = |source| SandboxError::State {
        action: "make a console pipe for",
        path: dir.path().to_owned(),
        source,
    };
    let (writer, reader) = pipe::pipe().map_err(failed)?;
    let writer = writer.into_blocking_fd().map_err(failed)?;
    Ok((writer, Console::read(reader, trail.clone())))
}

/// A listening monitor socket for QEMU, and our connection to it, which waits in its queue.
async fn open_qmp(dir: &StateDir) -> Result<(OwnedFd, UnixStream), SandboxError> {
    let path = dir.file(QMP_SOCKET);
    let listen = || async {
        let listener = UnixListener::bind(&path)?;
        let stream = UnixStream::connect(&path).await?;
        Ok((OwnedFd::from(listener), stream))
    };
    listen().await.map_err(|source| SandboxError::State {
        action: "listen on",
        path,
        source,
    })
}

/// Hands the taps, and vhost-net where the plan uses it, over to QEMU.
fn pass_taps(
    plan: &LaunchPlan,
    taps: Vec<network::Tap>,
    fds: &mut InheritedFds,
) -> Result<Vec<NetworkInterface>, SandboxError> {
    let mut interfaces = Vec::new();
    for tap in taps {
        let vhost_fds = if plan.vhost_net {
            let path = Path::new("/dev/vhost-net").to_owned();
            network::open_vhost_net(tap.queues.len())
                .map_err(|source| SandboxError::Device { path, source })?
        } else {
            Vec::new()
        };
        let mut pass =
            |files: Vec<File>| files.into_iter().map(|file| fds.add(file.into())).collect();
        interfaces.push(NetworkInterface {
            mac: tap.mac,
            tap_fds: pass(tap.queues),
            vhost_fds: pass(vhost_fds),
        });
    }
    Ok(interfaces)
}

/// Negotiates with QEMU, unless it ends first: then its standard error tells why.
async fn negotiate(stream: UnixStream, qemu: &ChildProcess) -> Result<Qmp, SandboxError> {
    let ended = |exit: String| SandboxError::QemuExited {
        exit,
        stderr: qemu.stderr(),
    };
    tokio::select! {
        exit = qemu.wait() => Err(ended(exit.to_string())),
        qmp = Qmp::negotiate(stream) => match qmp {
            Err(SandboxError::Qmp { source, .. }) if is_end(&source) => {
                Err(ended(qemu.wait().await.to_string()))
            }
            other => other,
        },
    }
}

/// True when the other side is gone.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
