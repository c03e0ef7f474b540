/// The name of a WorkloadEndpoint object, derived from what it describes: `node1-k8s-web--1-eth0`.
///
/// Four fields joined by dashes; a dash inside a field is doubled, so a field may not begin or end with one. The third field is the pod
/// (`k8s`), the container's id (`cni`), the word `libnetwork` (`libnetwork`), or the workload (every other orchestrator).

public struct WorkloadEndpointName: Hashable, Sendable, CustomStringConvertible {
  public let node: String
  public let orchestrator: String
  /// Pod, container id or workload, by orchestrator.
  public let workload: String
  public let endpoint: String

  /// Why fields make no name.
  public struct Fault: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
  }

  public init(node: String, orchestrator: String, workload: String, endpoint: String) throws(Fault) {
    self.node = node
    self.orchestrator = orchestrator
    self.workload = orchestrator == "libnetwork" ? "libnetwork" : workload
    self.endpoint = endpoint
    for (word, field) in [("node", node), ("orchestrator", orchestrator), ("workload", self.workload), ("endpoint", endpoint)] {
      try Self.check(field, word)
    }
  }

  /// The four fields of a name; fails unless the name could have come from `description`.
  public init(parsing name: String) throws(Fault) {
    var fields: [String] = [""]
    var rest = Substring(name)
    while let first = rest.first {
      if first == "-" {
        let dashes = rest.prefix { $0 == "-" }.count
        rest = rest.dropFirst(dashes)
        if dashes % 2 == 0 {
          fields[fields.count - 1] += String(repeating: "-", count: dashes / 2)
        } else if dashes == 1 {
          fields.append("")
        } else {
          throw Fault(description: "\"\(name)\" has \(dashes) dashes in a row; one separates fields, two stand for one inside a field")
        }
      } else {
        let plain = rest.prefix { $0 != "-" }
        fields[fields.count - 1] += plain
        rest = rest.dropFirst(plain.count)
      }
    }
    guard fields.count == 4 else {
      throw Fault(description: "\"\(name)\" has \(fields.count) fields instead of node, orchestrator, workload and endpoint")
    }
    try self.init(node: fields[0], orchestrator: fields[1], workload: fields[2], endpoint: fields[3])
    guard workload == fields[2] else {
      throw Fault(description: "\"\(name)\" names the workload \"\(fields[2])\"; for libnetwork the third field is always libnetwork")
    }
  }

  private static func check(_ field: String, _ word: String) throws(Fault) {
    if field.isEmpty { throw Fault(description: "the \(word) is empty") }
    if field.first == "-" || field.last == "-" { throw Fault(description: "the \(word) \"\(field)\" begins or ends with a dash") }
  }

  static func escape(_ field: String) -> String { field.split(separator: "-", omittingEmptySubsequences: false).joined(separator: "--") }

  /// The name.
  public var description: String { [node, orchestrator, workload, endpoint].map(Self.escape).joined(separator: "-") }

  /// The beginning of every name with these fields, for listing. It is also the beginning of some others (`pod-` of `pod--1-…`), so a
  /// caller parses each name found and compares with `matches`.
  public static func prefix(node: String, orchestrator: String? = nil, workload: String? = nil) -> String {
    var fields = [node]
    if let orchestrator {
      fields.append(orchestrator)
      if let workload { fields.append(workload) }
    }
    return fields.map { escape($0) + "-" }.joined()
  }
  /// True if the name has these fields.
  public func matches(node: String, orchestrator: String? = nil, workload: String? = nil) -> Bool {
    self.node == node && (orchestrator ?? self.orchestrator) == self.orchestrator && (workload ?? self.workload) == self.workload
  }
}
