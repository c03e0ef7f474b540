/// A workload that moves while it runs: who it is where it leaves, and where it arrives.
import JSON
import Resources

extension FieldReader {
  func liveMigrationSpec() -> LiveMigrationSpec {
    var spec = LiveMigrationSpec()
    if let source = reader("source") {
      let workload = source.reader("workload")?.migratingIdentity(hasEndpoint: false)
      let endpoint = source.reader("workloadEndpoint")?.migratingIdentity(hasEndpoint: true)
      source.exactlyOne(of: ["workload", "workloadEndpoint"])
      source.finish()
      spec.source = workload.map { .workload($0) } ?? endpoint.map { .workloadEndpoint($0) }
    } else if value("source") == nil {
      findings.refusal(path("source"), nil, "is missing", fix: "say which workload or endpoint moves")
    }
    if let target = reader("target") {
      let selector = target.selector("selector", mayBeGlobal: false)
      let endpoint = target.reader("workloadEndpoint")?.migratingIdentity(hasEndpoint: true)
      target.exactlyOne(of: ["selector", "workloadEndpoint"])
      target.finish()
      spec.target = selector.map { .selector($0) } ?? endpoint.map { .workloadEndpoint($0) }
    } else if value("target") == nil {
      findings.refusal(path("target"), nil, "is missing", fix: "say which endpoint it becomes")
    }
    finish()
    return spec
  }

  private func migratingIdentity(hasEndpoint: Bool) -> LiveMigrationSpec.Identity {
    var identity = LiveMigrationSpec.Identity()
    identity.hostname = string("hostname") ?? ""
    identity.orchestratorID = string("orchestratorID") ?? ""
    identity.workloadID = string("workloadID") ?? ""
    if hasEndpoint { identity.endpointID = string("endpointID") ?? "" }
    // A pod is known by its name wherever it is.
    let needed = ["orchestratorID", "workloadID"] + (hasEndpoint ? ["endpointID"] : []) + (identity.orchestratorID == "k8s" ? [] : ["hostname"])
    for name in needed where value(name) == nil || value(name)?.string == "" { findings.refusal(path(name), nil, "is missing") }
    finish()
    return identity
  }

  private func exactlyOne(of names: [String]) {
    let present = names.filter { value($0) != nil }
    if present.isEmpty { findings.refusal(path, nil, "is empty", fix: "add \(names.joined(separator: " or "))") }
    if present.count > 1 { findings.refusal(path(present[1]), nil, "excludes \(present[0])", fix: "remove one of them") }
  }
}

extension ResourceCodec {
  static func fields(_ spec: LiveMigrationSpec) -> JSONObject {
    var fields = JSONObject()
    switch spec.source {
    case .workload(let identity): fields["source"] = ["workload": self.identity(identity)]
    case .workloadEndpoint(let identity): fields["source"] = ["workloadEndpoint": self.identity(identity)]
    case nil: break
    }
    switch spec.target {
    case .selector(let text): fields["target"] = ["selector": .string(text)]
    case .workloadEndpoint(let identity): fields["target"] = ["workloadEndpoint": self.identity(identity)]
    case nil: break
    }
    return fields
  }

  private static func identity(_ identity: LiveMigrationSpec.Identity) -> JSONValue {
    var fields = JSONObject()
    fields["hostname"] = text(identity.hostname)
    fields["orchestratorID"] = text(identity.orchestratorID)
    fields["workloadID"] = text(identity.workloadID)
    fields["endpointID"] = text(identity.endpointID)
    return .object(fields)
  }
}
