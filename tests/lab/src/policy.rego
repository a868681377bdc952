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
    every mount in input.OCI.Mounts { mount.type_ != "bind" }
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
