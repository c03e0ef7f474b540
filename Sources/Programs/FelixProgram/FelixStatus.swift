/// The status that Felix keeps in the datastore, as values and as Calico's documents.
///
/// Calico's readers look for the members they know and pass over others, so ours stand beside them: why an endpoint is not up, what goes
/// wrong on the host, and since when.
import Datastore
import JSON
import Names
import Resources

/// An endpoint is up when its interface is up and the kernel holds all that was asked for it; down when the interface is missing or
/// switched off; in error when it is there and the kernel does not hold what it should. Of several parts the worst counts: error, down, up.
struct EndpointStatus: Hashable, Sendable {
  enum State: String, Sendable { case up, down, error }
  var state: State
  /// In words, of everything but `up`.
  var reason: String?

  static let up = EndpointStatus(state: .up)
  static func down(_ reason: String) -> EndpointStatus { EndpointStatus(state: .down, reason: reason) }
  static func error(_ reason: String) -> EndpointStatus { EndpointStatus(state: .error, reason: reason) }

  func document(since: UTCTime) -> JSONValue {
    var document: JSONValue = ["status": .string(state.rawValue)]
    if let reason { document["reason"] = .string(reason.cut(to: HostStatus.lengthMax)) }
    document["since"] = .string(since.text)
    return document
  }

  /// A document that says what the standing one says keeps the time at which that began, also over a restart of the agent.
  static func inherit(wanted: [UInt8], standing: [UInt8]) -> [UInt8] {
    guard var new = try? JSONValue(parsing: wanted), let old = try? JSONValue(parsing: standing), let since = old["since"],
      new["status"] != nil, new["status"] == old["status"], new["reason"] == old["reason"]
    else { return wanted }
    new["since"] = since
    return new.bytes(pretty: false)
  }
}

/// The host's own status.
struct HostStatus: Hashable, Sendable {
  struct Trouble: Hashable, Sendable {
    /// The object it is about, where there is one.
    var object: String?
    var text: String
    var since: UTCTime
  }
  /// Everything that stands in the datastore is bounded, whatever goes wrong at once.
  static let troublesMax = 50
  static let lengthMax = 400

  /// Errors met while configuring the host.
  var problems: [Trouble] = []
  /// Objects that cannot be enforced as they are written.
  var findings: [Trouble] = []

  func document(time: UTCTime, uptime: Double, isFirst: Bool) -> JSONValue {
    func list(_ troubles: [Trouble], _ word: String) -> JSONValue {
      .array(
        troubles.prefix(Self.troublesMax).map { trouble in
          var value: JSONValue = trouble.object.map { ["object": .string($0)] } ?? [:]
          value[word] = .string(trouble.text.cut(to: Self.lengthMax))
          value["since"] = .string(trouble.since.text)
          return value
        })
    }
    return [
      "time": .string(time.text), "uptime": .double((uptime * 10).rounded() / 10), "first_update": .bool(isFirst),
      "margay": [
        "problemCount": .integer(Int64(problems.count)), "problems": list(problems, "problem"),
        "findingCount": .integer(Int64(findings.count)), "findings": list(findings, "finding"),
      ],
    ]
  }
}

/// How Felix reports, from FelixConfiguration.
struct ReportingSettings: Hashable, Sendable {
  var region: String?
  /// Nil: no status of the host is reported.
  var interval: Duration? = .seconds(30)
  var reportsEndpoints = true
  var terms = LeasedKeys.Terms()

  init() {}

  /// `settings`: what is in force.
  init(_ settings: FelixConfigurationSpec) {
    region = settings.openstackRegion
    if let seconds = settings.reportingIntervalSeconds { interval = seconds > 0 ? .seconds(seconds) : nil }
    if let seconds = settings.reportingTTLSeconds, seconds > 0 { terms.ttlSeconds = seconds }
    reportsEndpoints = settings.endpointReportingEnabled ?? reportsEndpoints
    if let delay = settings.duration("endpointReportingDelay") { terms.delay = delay }
  }
}

extension String {
  /// At most so many octets, without half a character at the end.
  fileprivate func cut(to count: Int) -> String {
    if utf8.count <= count { return self }
    var text = self
    while text.utf8.count > count - 3 { text.removeLast() }
    return text + "…"
  }
}
