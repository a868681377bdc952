# What a confidential guest enforces when it was launched without a policy: the
# host may look at the agent's version and features and take the sandbox down,
# nothing else. A request without a rule is refused.

package agent_policy

import future.keywords

default GuestDetailsRequest := true
default DestroySandboxRequest := true

# The first requests of every pod, so that the refusal says what is missing.
default UpdateInterfaceRequest := false
default UpdateRoutesRequest := false
default CreateSandboxRequest := false

UpdateInterfaceRequest if no_policy
UpdateRoutesRequest if no_policy
CreateSandboxRequest if no_policy

no_policy if {
    print("no policy: the pod has no initdata with a policy.rego")
    false
}
