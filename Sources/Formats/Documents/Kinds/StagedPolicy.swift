/// StagedNetworkPolicy, StagedGlobalNetworkPolicy and StagedKubernetesNetworkPolicy: policies that are evaluated and counted, not enforced.
import JSON
import Resources

extension FieldReader {
  func stagedPolicySpec(isGlobal: Bool) -> StagedPolicySpec {
    let spec = StagedPolicySpec()
    finish(unknownIsWarning: true)
    return spec
  }

  func stagedKubernetesPolicySpec() -> StagedKubernetesPolicySpec {
    let spec = StagedKubernetesPolicySpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: StagedPolicySpec) -> JSONObject {
    JSONObject()
  }

  static func fields(_ spec: StagedKubernetesPolicySpec) -> JSONObject {
    JSONObject()
  }
}
