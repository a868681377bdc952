# What a confidential guest enforces when it was launched without a policy: the
# host may look at the agent's version and features and take the sandbox down,
# nothing else. A request without a rule is refused.

package agent_policy

import future.keywords

default GuestDetailsRequest := true
default DestroySandboxRequest := true

# The first request of every pod, so that its refusal says what is missing.
default CreateSandboxRequest := false

CreateSandboxRequest if {
    print("no policy: the pod has no initdata with a policy.rego")
    false
}
