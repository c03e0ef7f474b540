/// `--invalid`: what is stored and would not be accepted, each fault with what it costs.
///
/// Reading is lenient and writing strict, so a fault has one of three prices: the object cannot be read at all; a part of it cannot be
/// enforced, and a rule then denies at its place; or all of it is in force, and only the next write is refused.
public import Documents
public import JSON
public import Resources
public import Tables

public struct ObjectFaults: Sendable {
  public struct Fault: Sendable {
    public var error: DocumentError
    public var effect: String
  }
  public let key: ResourceKey
  public let faults: [Fault]

  /// Nil: a write of the object as it stands would be accepted.
  public init?(_ object: ShownObject) {
    key = object.key
    guard let document = object.document, object.resource != nil else {
      faults = [
        Fault(error: DocumentError(path: JSONPath(), rule: object.problem ?? "cannot be read"), effect: Self.effectOfUnreadable(object.key))
      ]
      return
    }
    let review = ResourceCodec.review(PositionedDocument(file: "", value: document), defaultNamespace: object.key.namespace ?? "default")
    let unenforceable = Set(object.faults.map(\.path))
    var faults: [Fault] = []
    for error in review.errors + object.faults.filter({ fault in !review.errors.contains { $0.path == fault.path } }) {
      var plain = error
      plain.file = nil
      plain.position = nil
      let effect =
        unenforceable.contains(error.path)
        ? Self.effect(of: error.path, object.key.kind) : "in force as stored; the next write of the object is refused"
      faults.append(Fault(error: plain, effect: effect))
    }
    if faults.isEmpty { return nil }
    self.faults = faults
  }

  private static func effectOfUnreadable(_ key: ResourceKey) -> String {
    switch key.kind {
    case .networkPolicy:
      "agents keep the last version they could read; one that starts anew denies every endpoint of namespace \(key.namespace ?? "")"
    case .globalNetworkPolicy: "agents keep the last version they could read; for one that starts anew the policy has no effect"
    default: "agents keep what they knew of it; for one that starts anew it is not there"
    }
  }

  private static func effect(of path: JSONPath, _ kind: Kind) -> String {
    for (list, words) in [("spec.ingress[", "ingress"), ("spec.egress[", "egress")] where path.text.hasPrefix(list) {
      let digits = path.text.dropFirst(list.count).prefix { $0.isNumber }
      if let index = Int(digits) { return "\(words) rule \(index + 1) denies everything at its place" }
    }
    return "cannot be enforced; the field counts as not given"
  }

  public var json: JSONValue {
    var value: JSONValue = ["kind": .string(key.kind.rawValue), "name": .string(key.name)]
    if let namespace = key.namespace { value["namespace"] = .string(namespace) }
    value["faults"] = .array(
      faults.map { fault in
        var member: JSONValue = [
          "path": .string(fault.error.path.text), "message": .string(fault.error.message), "rule": .string(fault.error.rule),
        ]
        if let given = fault.error.value { member["value"] = given }
        if let fix = fault.error.fix { member["fix"] = .string(fix) }
        member["effect"] = .string(fault.effect)
        return member
      })
    return value
  }
}

extension ObjectFaults {
  /// The object, and below it each fault with its effect.
  public func text(_ palette: Palette) -> String {
    var text = palette("\(key)", .bold) + "\n"
    for fault in faults { text += "  \(palette(fault.error.message, .red))\n    \(fault.effect)\n" }
    return text
  }
}
