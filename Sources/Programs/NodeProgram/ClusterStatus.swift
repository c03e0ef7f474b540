/// How every node of the cluster is, from what the daemons keep in the datastore: for whoever can read that, from anywhere.
///
/// A host whose status has vanished is dead or cut off from the datastore; what it said last tells since when.
public import Datastore
public import JSON
import Resources

public struct ClusterStatus: Hashable, Sendable {
  public struct Trouble: Hashable, Sendable {
    public var text: String
    public var since: String?
  }
  public struct Endpoint: Hashable, Sendable {
    public var orchestrator: String
    /// For example `shop/web-1`.
    public var workload: String
    public var endpoint: String
    /// up, down or error.
    public var status: String
    public var reason: String?
    public var since: String?
  }
  public struct Session: Hashable, Sendable {
    public var name: String
    /// The peer's address.
    public var peer: String?
    public var isEstablished: Bool
    public var reason: String?
    public var since: String?
  }
  public struct Node: Hashable, Sendable {
    public var name: String
    /// Whether there is a Node object.
    public var isRegistered = false
    /// Whether its agent vouches for what it said.
    public var isAlive = false
    /// When the agent was heard of last, as it wrote it.
    public var lastReported: String?
    public var uptimeSeconds: Double?
    public var problems: [Trouble] = []
    public var findings: [Trouble] = []
    public var endpoints: [Endpoint] = []
    /// Nil: its BGP daemon vouches for nothing.
    public var sessions: [Session]?

    public func count(_ status: String) -> Int { endpoints.count { $0.status == status } }
    /// Nothing to look after.
    public var isGood: Bool {
      isAlive && problems.isEmpty && findings.isEmpty && count("error") == 0 && (sessions?.allSatisfy(\.isEstablished) ?? true)
    }
  }
  /// By name.
  public var nodes: [Node]

  public static func read(_ datastore: any Datastore) async throws(DatastoreError) -> ClusterStatus {
    let nodePrefix = ResourceKey.prefix(of: .node)
    let names = try await datastore.list(prefix: nodePrefix).items.compactMap { ResourceKey(path: $0.key)?.name }
    let felix = try await datastore.list(prefix: StatusKeys.felixRoot).items
    let bgp = try await datastore.list(prefix: StatusKeys.bgpRoot).items
    return ClusterStatus(registered: names, felix: felix, bgp: bgp)
  }

  /// `registered`: the names of the Node objects. Keys and values that are not ours or Calico's are passed over.
  public init(registered: [String], felix: [KeyValue], bgp: [KeyValue]) {
    var nodes: [String: Node] = [:]
    for name in registered { nodes[name, default: Node(name: name)].isRegistered = true }
    for item in felix {
      guard let subject = StatusKeys.Subject(path: item.key), let value = try? JSONValue(parsing: item.value) else { continue }
      switch subject {
      case .status(let host), .lastReported(let host):
        var node = nodes[host] ?? Node(name: host)
        if case .status = subject { node.isAlive = true }
        // Both say the same while the host lives; the one that stays may be the older one.
        if case .status = subject {} else if node.isAlive { break }
        node.lastReported = value["time"]?.string
        node.uptimeSeconds = value["uptime"]?.double
        node.problems = Self.troubles(value["margay"]?["problems"], "problem")
        node.findings = Self.troubles(value["margay"]?["findings"], "finding")
        nodes[host] = node
      case .endpoint(let host, let orchestrator, let workload, let endpoint):
        nodes[host, default: Node(name: host)].endpoints.append(
          Endpoint(
            orchestrator: orchestrator, workload: workload, endpoint: endpoint, status: value["status"]?.string ?? "?",
            reason: value["reason"]?.string, since: value["since"]?.string))
      }
    }
    for item in bgp {
      guard let host = StatusKeys.bgpHost(path: item.key), let value = try? JSONValue(parsing: item.value) else { continue }
      var node = nodes[host] ?? Node(name: host)
      node.sessions = (value["sessions"]?.array ?? []).map {
        Session(
          name: $0["name"]?.string ?? "?", peer: $0["peer"]?.string, isEstablished: $0["established"]?.bool ?? false, reason: $0["reason"]?.string,
          since: $0["since"]?.string)
      }
      node.problems += (value["problems"]?.array ?? []).compactMap { $0.string.map { Trouble(text: "bgp: \($0)") } }
      nodes[host] = node
    }
    self.nodes = nodes.values.sorted { $0.name < $1.name }
  }

  private static func troubles(_ list: JSONValue?, _ word: String) -> [Trouble] {
    (list?.array ?? []).map { item in
      let object = item["object"]?.string.map { "\($0): " } ?? ""
      return Trouble(text: object + (item[word]?.string ?? "?"), since: item["since"]?.string)
    }
  }

  public var json: JSONValue {
    func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? nil }
    func troubles(_ list: [Trouble]) -> JSONValue { .array(list.map { ["text": .string($0.text), "since": text($0.since)] }) }
    return [
      "nodes": .array(
        nodes.map { node in
          [
            "name": .string(node.name), "registered": .bool(node.isRegistered), "alive": .bool(node.isAlive), "ok": .bool(node.isGood),
            "lastReported": text(node.lastReported), "uptimeSeconds": node.uptimeSeconds.map { .double($0) } ?? nil,
            "problems": troubles(node.problems), "findings": troubles(node.findings),
            "endpoints": .array(
              node.endpoints.map {
                [
                  "orchestrator": .string($0.orchestrator), "workload": .string($0.workload), "endpoint": .string($0.endpoint),
                  "status": .string($0.status), "reason": text($0.reason), "since": text($0.since),
                ]
              }),
            "sessions": node.sessions.map { sessions in
              .array(
                sessions.map {
                  ["name": .string($0.name), "established": .bool($0.isEstablished), "reason": text($0.reason), "since": text($0.since)]
                })
            } ?? nil,
          ]
        })
    ]
  }
}
