/// The `status` of the kinds whose status is known; that of other kinds is kept as it stands.
import JSON
import Resources

extension FieldReader {
  /// Called on the reader of the whole document.
  func status(of kind: Kind) -> ResourceStatus? {
    switch kind {
    case .calicoNodeStatus: reader("status").map { .calicoNodeStatus($0.calicoNodeReport()) }
    case .node: reader("status").map { .node($0.nodeStatus()) }
    case .kubeControllersConfiguration: reader("status").map { .kubeControllers($0.kubeControllersStatus()) }
    case .ipPool: reader("status").map { .conditions($0.conditions()) }
    default: nil
    }
  }

  private func nodeStatus() -> NodeStatus {
    var status = NodeStatus()
    status.wireguardPublicKey = word("wireguardPublicKey")
    status.wireguardPublicKeyV6 = word("wireguardPublicKeyV6")
    status.podCIDRs = strings("podCIDRs")
    finish()
    return status
  }

  private func kubeControllersStatus() -> KubeControllersStatus {
    var status = KubeControllersStatus()
    status.runningConfig = reader("runningConfig")?.kubeControllersConfigurationSpec()
    status.environmentVars = stringMap("environmentVars")
    finish()
    return status
  }

  private func conditions() -> [Condition] {
    let conditions = array("conditions").compactMap { value, path -> Condition? in
      guard let reader = reader(value, path) else { return nil }
      let type = reader.required("type").flatMap { reader.string($0, reader.path("type")) }
      let truth = reader.required("status").flatMap { reader.choice($0, reader.path("status"), Condition.Truth.self) }
      let (reason, message) = (reader.string("reason"), reader.string("message"))
      let lastTransitionTime = reader.string("lastTransitionTime")
      let observedGeneration = reader.integer("observedGeneration", in: 0...Int64.max).map { Int($0) }
      reader.finish()
      guard let type, let truth else { return nil }
      var condition = Condition(type: type, status: truth, reason: reason, message: message)
      condition.lastTransitionTime = lastTransitionTime
      condition.observedGeneration = observedGeneration
      return condition
    }
    finish()
    return conditions
  }
}

extension ResourceCodec {
  static func fields(_ status: ResourceStatus) -> JSONObject {
    var fields = JSONObject()
    switch status {
    case .calicoNodeStatus(let report): return Self.fields(report)
    case .node(let status):
      fields["wireguardPublicKey"] = status.wireguardPublicKey.map(JSONValue.string)
      fields["wireguardPublicKeyV6"] = status.wireguardPublicKeyV6.map(JSONValue.string)
      fields["podCIDRs"] = list(status.podCIDRs)
    case .kubeControllers(let status):
      fields["runningConfig"] = status.runningConfig.map { .object(Self.fields($0)) }
      fields["environmentVars"] = map(status.environmentVars)
    case .conditions(let conditions):
      fields["conditions"] = objects(conditions) { condition, fields in
        fields["type"] = .string(condition.type)
        fields["status"] = .string(condition.status.rawValue)
        fields["reason"] = condition.reason.map(JSONValue.string)
        fields["message"] = condition.message.map(JSONValue.string)
        fields["lastTransitionTime"] = condition.lastTransitionTime.map(JSONValue.string)
        fields["observedGeneration"] = number(condition.observedGeneration)
      }
    }
    return fields
  }
}
