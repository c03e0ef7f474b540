/// What holds for Felix on all nodes, on selected ones, or on one: the settings that one object gives, by field.
///
/// `FelixParameter` says what each field takes. The properties below are for settings that programs ask for by name; the others are asked
/// for by field.

import Names

public struct FelixConfigurationSpec: Hashable, Sendable {
  public enum EndpointToHostAction: String, Hashable, Sendable, CaseIterable {
    case drop = "Drop"
    case accept = "Accept"
    case `return` = "Return"
  }
  /// What is given, and only that.
  public var values: [String: FelixParameterValue]
  /// Fields whose stored value cannot be read, and why: they count as not given.
  public var faults: [String: String] = [:]
  public init(_ values: [String: FelixParameterValue] = [:]) { self.values = values }

  public mutating func keepOut(_ field: String, because reason: String) {
    values[field] = nil
    faults[field] = reason
  }

  /// Each field of a later one overrules that of an earlier one.
  public init(merging configurations: some Sequence<FelixConfigurationSpec>) {
    self.init()
    for configuration in configurations { values.merge(configuration.values) { $1 } }
  }
}

/// By field.
extension FelixConfigurationSpec {
  public func text(_ field: String) -> String? {
    if case .text(let text)? = values[field], !text.isEmpty { text } else { nil }
  }
  public func texts(_ field: String) -> [String]? {
    if case .texts(let texts)? = values[field] { texts } else { nil }
  }
  public func flag(_ field: String) -> Bool? {
    if case .flag(let flag)? = values[field] { flag } else { nil }
  }
  public func number<Number: FixedWidthInteger>(_ field: String, _ type: Number.Type = Number.self) -> Number? {
    if case .number(let number)? = values[field] { Number(exactly: number) } else { nil }
  }
  public func word<Word: RawRepresentable>(_ field: String, _ type: Word.Type = Word.self) -> Word? where Word.RawValue == String {
    text(field).flatMap { Word(rawValue: $0) }
  }
  public func duration(_ field: String) -> Duration? { text(field).flatMap { GoDuration.parse($0) } }
  public func portRange(_ field: String) -> ClosedRange<UInt16>? {
    switch values[field] {
    case .ports(.one(let port)): return port...port
    case .ports(.range(let text)):
      let ends = text.split(separator: ":").compactMap { UInt16($0) }
      return ends.count == 2 && ends[0] <= ends[1] ? ends[0]...ends[1] : nil
    default: return nil
    }
  }
  /// A file or folder; nil also where the word `none` says that there is to be none.
  public func path(_ field: String, usual: String) -> String? {
    let text = text(field) ?? usual
    return text.isEmpty || text.lowercased() == "none" ? nil : text
  }
}

/// By name. Nil: not given.
extension FelixConfigurationSpec {
  /// A list with commas between in documents.
  public var interfacePrefixes: [String]? {
    get {
      let prefixes = text("interfacePrefix")?.split(separator: ",").map { String($0.filter { $0 != " " }) } ?? []
      return prefixes.isEmpty ? nil : prefixes
    }
    set { values["interfacePrefix"] = newValue.map { .text($0.joined(separator: ",")) } }
  }
  public var defaultEndpointToHostAction: EndpointToHostAction? {
    get { word("defaultEndpointToHostAction") }
    set { values["defaultEndpointToHostAction"] = newValue.map { .text($0.rawValue) } }
  }
  public var ipv6Support: Bool? {
    get { flag("ipv6Support") }
    set { self[flag: "ipv6Support"] = newValue }
  }
  public var logSeverityScreen: String? {
    get { text("logSeverityScreen") }
    set { self[text: "logSeverityScreen"] = newValue }
  }
  public var logPrefix: String? {
    get { text("logPrefix") }
    set { self[text: "logPrefix"] = newValue }
  }
  /// Of two fields; nil is no limit.
  public var logLimit: LogLimit? {
    get {
      guard var limit = text("logActionRateLimit").flatMap({ LogLimit($0) }) else { return nil }
      // The kernel takes 0 for its default, which is 5 as well.
      if let burst: UInt32 = number("logActionRateLimitBurst"), burst > 0 { limit.burst = burst }
      return limit
    }
    set {
      self[text: "logActionRateLimit"] = newValue.map { "\($0)" }
      values["logActionRateLimitBurst"] = newValue.map { .number(Int64($0.burst)) }
    }
  }
  /// Between full read-backs of the kernel's state.
  public var resyncIntervalSeconds: Int? {
    get { seconds("routeRefreshInterval") }
    set { self[seconds: "routeRefreshInterval"] = newValue }
  }
  /// Names the part of the datastore in which OpenStack looks for status.
  public var openstackRegion: String? {
    get { text("openstackRegion") }
    set { self[text: "openstackRegion"] = newValue }
  }
  /// Between reports of the agent's own status; 0 is no reports.
  public var reportingIntervalSeconds: Int? {
    get { seconds("reportingInterval") }
    set { self[seconds: "reportingInterval"] = newValue }
  }
  /// After which the status of a dead host vanishes.
  public var reportingTTLSeconds: Int? {
    get { seconds("reportingTTL") }
    set { self[seconds: "reportingTTL"] = newValue }
  }
  public var endpointReportingEnabled: Bool? {
    get { flag("endpointReportingEnabled") }
    set { self[flag: "endpointReportingEnabled"] = newValue }
  }
  /// The least time between two reports of one endpoint.
  public var endpointReportingDelaySeconds: Int? {
    get { seconds("endpointReportingDelay") }
    set { self[seconds: "endpointReportingDelay"] = newValue }
  }
  public var healthEnabled: Bool? {
    get { flag("healthEnabled") }
    set { self[flag: "healthEnabled"] = newValue }
  }
  public var healthHost: String? {
    get { text("healthHost") }
    set { self[text: "healthHost"] = newValue }
  }
  public var healthPort: UInt16? {
    get { number("healthPort") }
    set { values["healthPort"] = newValue.map { .number(Int64($0)) } }
  }
  public var prometheusMetricsEnabled: Bool? {
    get { flag("prometheusMetricsEnabled") }
    set { self[flag: "prometheusMetricsEnabled"] = newValue }
  }
  public var prometheusMetricsHost: String? {
    get { text("prometheusMetricsHost") }
    set { self[text: "prometheusMetricsHost"] = newValue }
  }
  public var prometheusMetricsPort: UInt16? {
    get { number("prometheusMetricsPort") }
    set { values["prometheusMetricsPort"] = newValue.map { .number(Int64($0)) } }
  }

  /// Whole seconds; what is less than one counts as one, since 0 has a meaning of its own.
  private func seconds(_ field: String) -> Int? {
    duration(field).map { $0 > .zero ? max(Int(clamping: $0.components.seconds), 1) : 0 }
  }
  private subscript(flag field: String) -> Bool? {
    get { flag(field) }
    set { values[field] = newValue.map { .flag($0) } }
  }
  private subscript(text field: String) -> String? {
    get { text(field) }
    set { values[field] = newValue.map { .text($0) } }
  }
  private subscript(seconds field: String) -> Int? {
    get { seconds(field) }
    set { values[field] = newValue.map { .text("\($0)s") } }
  }
}

/// How often each Log rule may write a line: `10/minute`, and as many at once as `burst` says.
public struct LogLimit: Hashable, Sendable, CustomStringConvertible {
  public enum Unit: String, Hashable, Sendable, CaseIterable {
    case second, minute, hour, day
    public var seconds: UInt64 {
      switch self {
      case .second: 1
      case .minute: 60
      case .hour: 3600
      case .day: 86_400
      }
    }
  }
  public var packets: UInt64
  public var unit: Unit
  public var burst: UInt32
  public init(packets: UInt64, per unit: Unit, burst: UInt32 = 5) {
    self.packets = packets
    self.unit = unit
    self.burst = burst
  }
  /// `10/minute`; nil if it is not of that form.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let packets = UInt64(parts[0]), packets > 0, packets <= 1_000_000_000, let unit = Unit(rawValue: String(parts[1]))
    else { return nil }
    self.init(packets: packets, per: unit)
  }
  public var description: String { "\(packets)/\(unit.rawValue)" }
}
