/// What `/liveness` and `/readiness` answer: each reporter by name, so that whoever reads a failure knows whose it is and why.
public import JSON

public struct HealthReport: Hashable, Sendable {
  public struct Reporter: Hashable, Sendable {
    public var name: String
    /// Nil: all is well.
    public var fault: String?
    /// What there is to say all the same.
    public var note: String?
    public init(_ name: String, fault: String? = nil, note: String? = nil) {
      self.name = name
      self.fault = fault
      self.note = note
    }
  }
  public var reporters: [Reporter]
  public init(_ reporters: [Reporter]) { self.reporters = reporters }

  public var isGood: Bool { reporters.allSatisfy { $0.fault == nil } }
  public var json: JSONValue {
    [
      "ok": .bool(isGood),
      "reporters": .array(
        reporters.map { reporter in
          var value: JSONValue = ["name": .string(reporter.name), "ok": .bool(reporter.fault == nil)]
          if let fault = reporter.fault { value["reason"] = .string(fault) }
          if let note = reporter.note { value["note"] = .string(note) }
          return value
        }),
    ]
  }
}
