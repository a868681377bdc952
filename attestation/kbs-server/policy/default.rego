# Who gets which resource. The broker asks for data.policy.allow.
#
# input.redoubt                   what the broker found out about the guest:
#   .launch_digest_matched        its launch digest is among the reference values
#   .host_data_matched            HOST_DATA is the digest of the init-data that was sent,
#                                 and what the reference value asks for
#   .simulated                    its TEE is simulated
#   .reference                    which reference value matched
# input.submods.cpu0[...]         the same and every claim of the report, laid out as Trustee does
# data.plugin                     "resource"
# data["resource-path"]           [repository, type, tag]
# data.query                      the request's query parameters
package policy

import rego.v1

default allow := false

allow if {
	data.plugin == "resource"
	input.redoubt.launch_digest_matched == true
	input.redoubt.host_data_matched == true
}
