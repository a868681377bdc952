# Rules for the fuzz targets: they look deep into what the host sends.
package agent_policy

import future.keywords.every
import future.keywords.in

default CreateContainerRequest := false
default ExecProcessRequest := false
default CopyFileRequest := false
default UpdateInterfaceRequest := false
default CreateSandboxRequest := true

CreateContainerRequest {
    input.OCI.Process.Args[0] == "/bin/sh"
    every mount in input.OCI.Mounts {
        mount.type_ in {"proc", "sysfs"}
    }
    regex.match("^KEY=[a-z]+$", input.OCI.Process.Env[_])
    count(input.storages) < 3
    sprintf("%s-%v", [input.container_id, input.OCI.Linux]) != ""
}

ExecProcessRequest {
    concat(" ", input.process.Args) == "ls -l"
}

CopyFileRequest {
    startswith(input.path, "/run/kata-containers/")
    not contains(input.path, "..")
    print("path", input.path)
}

UpdateInterfaceRequest {
    split(input.interface.IPAddresses[_].address, ".")[0] == "10"
}

SetPolicyRequest := {"allowed": true, "ops": [{"op": "add", "path": "/x", "value": input}]}
