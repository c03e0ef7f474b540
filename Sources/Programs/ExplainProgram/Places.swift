/// The two ends of a question, found by the words people use for them.
public import Addresses
import Documents
import PolicyOracle
public import Resources

/// A workload, a host, or an address of anybody.
public struct Place: Sendable {
  public enum Kind: Sendable, Equatable {
    case workload(ResourceKey)
    case node(String)
    case address
  }
  public let kind: Kind
  /// `shop/web-1`, `node/host1`, `192.0.2.1`
  public let name: String
  public let addresses: [IPFamily: IPAddress]
}

/// Why a question has no answer.
public struct QuestionProblem: Error, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = description }
}

struct Places {
  private let endpoints: [(key: ResourceKey, spec: WorkloadEndpointSpec)]
  private let nodes: [String: NodeSpec]

  init(_ resources: [Resource]) {
    endpoints = resources.compactMap { resource in
      if case .workloadEndpoint(let spec) = resource.spec { (resource.key, spec) } else { nil }
    }.sorted { $0.key < $1.key }
    var nodes: [String: NodeSpec] = [:]
    for resource in resources { if case .node(let spec) = resource.spec { nodes[resource.metadata.name] = spec } }
    self.nodes = nodes
  }

  /// `shop/web-1`, `web-1`, the endpoint's own name, `host:host1` (or `node/host1`), or an address.
  func place(_ word: String) throws(QuestionProblem) -> Place {
    if let address = IPAddress(word) { return Place(kind: .address, name: word, addresses: [address.family: address]) }
    if word.hasPrefix("host:") { return try node(String(word.dropFirst("host:".count))) }
    let parts = word.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    if parts.count == 2, parts[0] == "node" { return try node(parts[1]) }
    let (namespace, name) = parts.count == 2 ? (parts[0], parts[1]) : (nil, word)
    let found = endpoints.filter { (namespace == nil || $0.key.namespace == namespace) && Self.names($0).contains(name) }
    guard let endpoint = found.first else { throw unknown(word, namespace, name) }
    guard found.count == 1 else {
      let isOneWorkload = Set(found.map(Self.title)).count == 1
      let names = found.map { isOneWorkload ? $0.key.qualifiedName : Self.title($0) }.joined(separator: ", ")
      throw QuestionProblem("\"\(word)\" is the name of \(found.count) workload endpoints; say which: \(names)")
    }
    var addresses: [IPFamily: IPAddress] = [:]
    for net in endpoint.spec.ipNetworks.reversed() { addresses[net.family] = net.address }
    guard !addresses.isEmpty else { throw QuestionProblem("\(endpoint.key) has no address") }
    return Place(kind: .workload(endpoint.key), name: Self.title(endpoint), addresses: addresses)
  }

  private func node(_ name: String) throws(QuestionProblem) -> Place {
    guard let spec = nodes[name] else {
      let known = nodes.keys.sorted()
      throw QuestionProblem(
        "there is no node \"\(name)\"; "
          + (nearest(name, among: known).map { "did you mean node/\($0)?" }
            ?? (known.isEmpty ? "no node is stored" : "there are \(list(known.map { "node/\($0)" }))")))
    }
    var addresses: [IPFamily: IPAddress] = [:]
    for text in spec.addresses {
      if let address = IPAddress(text.address) ?? InterfaceAddress(text.address)?.address { addresses[address.family] = address }
    }
    if let address = spec.bgp?.ipv6Address?.address { addresses[.v6] = address }
    if let address = spec.bgp?.ipv4Address?.address { addresses[.v4] = address }
    guard !addresses.isEmpty else { throw QuestionProblem("node \(name) has no address stored") }
    return Place(kind: .node(name), name: "node/\(name)", addresses: addresses)
  }

  private func unknown(_ word: String, _ namespace: String?, _ name: String) -> QuestionProblem {
    if nodes[word] != nil { return QuestionProblem("\"\(word)\" is a host, not a workload; write node/\(word)") }
    let titles = Set(endpoints.map(Self.title)).sorted()
    if titles.isEmpty { return QuestionProblem("there is no workload \"\(word)\": no workload endpoint is stored") }
    // In another namespace of the same name, or nearly so.
    let elsewhere = endpoints.filter { Self.names($0).contains(name) }.map(Self.title)
    if namespace != nil, !elsewhere.isEmpty {
      return QuestionProblem("there is no workload \"\(word)\"; did you mean \(list(elsewhere))?")
    }
    let meant =
      nearest(word, among: titles)
      ?? nearest(name, among: endpoints.flatMap(Self.names)).flatMap { near in
        endpoints.first { Self.names($0).contains(near) }.map(Self.title)
      }
    let hint = meant.map { "did you mean \($0)?" } ?? "there are \(list(titles))"
    return QuestionProblem("there is no workload, node or address \"\(word)\"; \(hint)")
  }

  private func list(_ names: [String]) -> String {
    names.prefix(12).joined(separator: ", ") + (names.count > 12 ? ", … (\(names.count) in all)" : "")
  }

  private static func names(_ endpoint: (key: ResourceKey, spec: WorkloadEndpointSpec)) -> [String] {
    [endpoint.spec.pod, endpoint.spec.workload, endpoint.key.name].filter { !$0.isEmpty }
  }
  private static func title(_ endpoint: (key: ResourceKey, spec: WorkloadEndpointSpec)) -> String {
    endpoint.spec.pod.isEmpty ? endpoint.key.qualifiedName : "\(endpoint.key.namespace ?? "")/\(endpoint.spec.pod)"
  }
}
