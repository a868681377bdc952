# The policy of the sample workload: this image, this program, no exec.
package agent_policy

import future.keywords.every
import future.keywords.if
import future.keywords.in

# Images that may run, by the digest of their manifest.
image_digests := @IMAGE_DIGESTS@

default CreateContainerRequest := false
default ExecProcessRequest := false

CreateContainerRequest if {
    input.OCI.Process.Args[0] == "/srv/workload"
    input.OCI.Process.User.UID == 0
    every mount in input.OCI.Mounts { allowed_mount(mount) }
}

# Kernel file systems, and the memory that the containers of the pod share.
allowed_mount(mount) if {
    mount.type_ in {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup"}
}

allowed_mount(mount) if {
    mount.source == "/run/kata-containers/sandbox/shm"
}

default CreateSandboxRequest := true
default DestroySandboxRequest := true
default StartContainerRequest := true
default RemoveContainerRequest := true
default SignalProcessRequest := true
default WaitProcessRequest := true
default StatsContainerRequest := true
default GuestDetailsRequest := true
default GetOOMEventRequest := true
default ReadStreamRequest := true
default WriteStreamRequest := true
default CloseStdinRequest := true
default TtyWinResizeRequest := true
default PauseContainerRequest := true
default ResumeContainerRequest := true
default UpdateContainerRequest := true
default UpdateInterfaceRequest := true
default UpdateRoutesRequest := true
default AddARPNeighborsRequest := true
