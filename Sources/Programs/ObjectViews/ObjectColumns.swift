/// The columns of each kind, read from the documents, so that an object whose fields are odd still has its row. Headings are calicoctl's
/// where it has the column.
import Addresses
import JSON
import Names
import NodeProgram
public import Resources
import Tables

public struct ObjectColumn: Sendable {
  public let heading: String
  public let isWide: Bool
  let cell: @Sendable (ShownObject, ClusterFacts) -> TextTable.Cell

  init(_ heading: String, isWide: Bool = false, _ cell: @escaping @Sendable (ShownObject, ClusterFacts) -> TextTable.Cell) {
    self.heading = heading
    self.isWide = isWide
    self.cell = cell
  }
  /// The field at `path` of the spec, or what its absence means.
  init(_ heading: String, isWide: Bool = false, field path: String, absent: String = "") {
    let names = path.split(separator: ".").map(String.init)
    self.init(heading, isWide: isWide) { object, _ in TextTable.Cell(object.field(names).map(Self.text) ?? absent) }
  }

  static func text(_ value: JSONValue) -> String {
    switch value {
    case .array(let elements): return elements.map(text).joined(separator: ",")
    case .double(let number) where number == number.rounded() && abs(number) < 1e15: return "\(Int64(number))"
    case .null: return ""
    default: return value.string ?? value.text()
    }
  }

  /// The kind's columns behind its name, those of the wide table included.
  public static func all(of kind: Kind) -> [ObjectColumn] {
    switch kind {
    case .bgpConfiguration:
      [
        ObjectColumn("LOGSEVERITY", field: "logSeverityScreen", absent: "Info"),
        ObjectColumn("MESHENABLED", field: "nodeToNodeMeshEnabled", absent: "true"),
        ObjectColumn("ASNUMBER", field: "asNumber", absent: "64512"),
        ObjectColumn("LISTENPORT", isWide: true, field: "listenPort", absent: "179"),
      ]
    case .bgpFilter:
      [("EXPORTV4", "exportV4"), ("IMPORTV4", "importV4"), ("EXPORTV6", "exportV6"), ("IMPORTV6", "importV6")].map { heading, field in
        ObjectColumn(heading) { object, _ in count(object.field([field])) }
      }
    case .bgpPeer:
      [
        ObjectColumn("PEERIP") { object, _ in
          TextTable.Cell(
            object.text("peerIP") ?? object.text("peerSelector").map { "(\($0))" } ?? object.text("localWorkloadSelector").map { "(\($0))" }
              ?? "")
        },
        ObjectColumn("NODE") { object, _ in
          TextTable.Cell(object.text("node") ?? object.text("nodeSelector").map { "(\($0))" } ?? "(global)")
        },
        ObjectColumn("ASN", field: "asNumber"), ObjectColumn("SESSIONS", isWide: true, sessions),
        ObjectColumn("FILTERS", isWide: true, field: "filters"),
      ]
    case .blockAffinity:
      [
        ObjectColumn("NODE", field: "node"), ObjectColumn("CIDR", field: "cidr"), ObjectColumn("STATE", field: "state"),
        ObjectColumn("TYPE", isWide: true, field: "type", absent: "host"),
      ]
    case .calicoNodeStatus:
      [
        ObjectColumn("NODE", field: "node"), ObjectColumn("CLASSES", field: "classes"),
        ObjectColumn("PERIOD", field: "updatePeriodSeconds"),
        ObjectColumn("LASTUPDATED", isWide: true) { object, _ in TextTable.Cell(object.document?["status"]?["lastUpdated"]?.string ?? "") },
      ]
    case .clusterInformation:
      [
        ObjectColumn("CLUSTERGUID", field: "clusterGUID"), ObjectColumn("CLUSTERTYPE", field: "clusterType"),
        ObjectColumn("CALICOVERSION", field: "calicoVersion"),
        ObjectColumn("DATASTOREREADY", field: "datastoreReady"),
      ]
    case .felixConfiguration:
      [
        ObjectColumn("LOGSEVERITY", field: "logSeverityScreen", absent: "Info"),
        ObjectColumn("INTERFACEPREFIX", field: "interfacePrefix", absent: "cali"),
        ObjectColumn("TOHOST", field: "defaultEndpointToHostAction", absent: "Drop"),
        ObjectColumn("NODESELECTOR", isWide: true, field: "nodeSelector"),
      ]
    case .globalNetworkPolicy, .networkPolicy: policy()
    case .stagedGlobalNetworkPolicy, .stagedNetworkPolicy: [ObjectColumn("STAGEDACTION", field: "stagedAction", absent: "Set")] + policy()
    case .stagedKubernetesNetworkPolicy:
      [
        ObjectColumn("STAGEDACTION", field: "stagedAction", absent: "Set"), ObjectColumn("POLICYTYPES", field: "policyTypes"),
        ObjectColumn("INGRESS", isWide: true) { object, _ in count(object.field(["ingress"])) },
        ObjectColumn("EGRESS", isWide: true) { object, _ in count(object.field(["egress"])) },
      ]
    case .globalNetworkSet, .networkSet:
      [ObjectColumn("NETS", field: "nets"), ObjectColumn("COUNT", isWide: true) { object, _ in count(object.field(["nets"])) }]
    case .hostEndpoint:
      [
        ObjectColumn("NODE", field: "node"), ObjectColumn("INTERFACE", field: "interfaceName"), ObjectColumn("IPS", field: "expectedIPs"),
        ObjectColumn("PROFILES", isWide: true, field: "profiles"),
      ]
    case .ipamConfiguration:
      [
        ObjectColumn("STRICTAFFINITY", field: "strictAffinity", absent: "false"),
        ObjectColumn("AUTOALLOCATEBLOCKS", field: "autoAllocateBlocks", absent: "true"),
        ObjectColumn("MAXBLOCKSPERHOST", field: "maxBlocksPerHost", absent: "0"),
      ]
    case .ipPool:
      [
        ObjectColumn("CIDR", field: "cidr"), ObjectColumn("SELECTOR", field: "nodeSelector", absent: "all()"),
        ObjectColumn("DISABLED", field: "disabled", absent: "false"),
        ObjectColumn("BLOCKSIZE", isWide: true) { object, _ in
          TextTable.Cell(object.text("blockSize") ?? (object.text("cidr")?.contains(":") == true ? "122" : "26"))
        },
        ObjectColumn("NAT", isWide: true, field: "natOutgoing", absent: "false"),
        ObjectColumn("IPIPMODE", isWide: true, field: "ipipMode", absent: "Never"),
        ObjectColumn("VXLANMODE", isWide: true, field: "vxlanMode", absent: "Never"),
        ObjectColumn("DISABLEBGPEXPORT", isWide: true, field: "disableBGPExport", absent: "false"),
        ObjectColumn("USES", isWide: true, field: "allowedUses", absent: "Workload,Tunnel"), ObjectColumn("USED", isWide: true, used),
      ]
    case .ipReservation: [ObjectColumn("RESERVEDCIDRS", field: "reservedCIDRs")]
    case .kubeControllersConfiguration: [ObjectColumn("LOGSEVERITY", field: "logSeverityScreen", absent: "Info")]
    case .kubernetesEndpointSlice:
      [
        ObjectColumn("SERVICE") { object, _ in
          TextTable.Cell(object.document?["metadata"]?["labels"]?[EndpointSliceSpec.serviceLabel]?.string ?? "")
        },
        ObjectColumn("ENDPOINTS") { object, _ in count(object.document?["endpoints"]) },
        ObjectColumn("PORTS") { object, _ in
          TextTable.Cell(
            (object.document?["ports"]?.array ?? []).map { "\($0["port"].map(text) ?? "any")/\($0["protocol"]?.string ?? "TCP")" }.joined(separator: ","))
        },
      ]
    case .liveMigration: [ObjectColumn("SOURCE") { end($0, "source") }, ObjectColumn("DESTINATION") { end($0, "destination", "target") }]
    case .node:
      [
        ObjectColumn("ASN", field: "bgp.asNumber", absent: "(64512)"), ObjectColumn("IPV4", field: "bgp.ipv4Address"),
        ObjectColumn("IPV6", field: "bgp.ipv6Address"),
        ObjectColumn("AGENT", isWide: true, agent), ObjectColumn("ENDPOINTS", isWide: true, endpoints),
        ObjectColumn("SESSIONS", isWide: true, sessions),
        ObjectColumn("TUNNELS", isWide: true) { object, _ in
          let ends = [("vxlan", "ipv4VXLANTunnelAddr"), ("vxlan", "ipv6VXLANTunnelAddr"), ("ipip", "bgp.ipv4IPIPTunnelAddr")].compactMap { word, path in
            object.field(path.split(separator: ".").map(String.init))?.string.map { "\(word) \($0)" }
          }
          return TextTable.Cell(ends.joined(separator: ", "))
        },
      ]
    case .profile:
      [
        ObjectColumn("LABELS") { object, _ in
          TextTable.Cell(
            (object.field(["labelsToApply"])?.object?.members ?? []).map { "\($0.name)=\(text($0.value))" }.sorted().joined(separator: ","))
        },
        ObjectColumn("INGRESS", isWide: true) { object, _ in count(object.field(["ingress"])) },
        ObjectColumn("EGRESS", isWide: true) { object, _ in count(object.field(["egress"])) },
      ]
    case .tier:
      [
        ObjectColumn("ORDER", field: "order"), ObjectColumn("DEFAULTACTION", field: "defaultAction", absent: "Deny"),
        ObjectColumn("POLICIES", isWide: true) { object, facts in TextTable.Cell("\(facts.policies[object.key.name] ?? 0)") },
      ]
    case .workloadEndpoint:
      [
        ObjectColumn("WORKLOAD") { object, _ in
          let (pod, workload) = (object.text("pod") ?? "", object.text("workload") ?? "")
          return TextTable.Cell(!pod.isEmpty ? pod : !workload.isEmpty ? workload : object.text("containerID") ?? "")
        },
        ObjectColumn("NODE", field: "node"), ObjectColumn("NETWORKS", field: "ipNetworks"),
        ObjectColumn("INTERFACE", field: "interfaceName"),
        ObjectColumn("STATUS", isWide: true, status), ObjectColumn("PROFILES", isWide: true, field: "profiles"),
        ObjectColumn("NATS", isWide: true) { object, _ in
          TextTable.Cell(
            (object.field(["ipNATs"])?.array ?? []).map { "\($0["externalIP"]?.string ?? "?")→\($0["internalIP"]?.string ?? "?")" }.joined(
              separator: ","))
        },
      ]
    }
  }

  private init(_ heading: String, _ cell: @escaping @Sendable (ShownObject) -> TextTable.Cell) {
    self.init(heading) { object, _ in cell(object) }
  }

  private static func policy() -> [ObjectColumn] {
    [
      ObjectColumn("TIER", field: "tier", absent: "default"), ObjectColumn("ORDER", field: "order"),
      ObjectColumn("SELECTOR", field: "selector", absent: "all()"),
      ObjectColumn("TYPES", isWide: true, field: "types"),
      ObjectColumn("INGRESS", isWide: true) { object, _ in count(object.field(["ingress"])) },
      ObjectColumn("EGRESS", isWide: true) { object, _ in count(object.field(["egress"])) },
      ObjectColumn("FAULTS", isWide: true) { object, _ in object.faults.isEmpty ? "0" : TextTable.Cell("\(object.faults.count)", .red) },
    ]
  }

  // MARK: Cells

  private static func count(_ list: JSONValue?) -> TextTable.Cell { TextTable.Cell("\(list?.array?.count ?? 0)") }

  private static func end(_ object: ShownObject, _ names: String...) -> TextTable.Cell {
    for name in names {
      guard let value = object.field([name]) else { continue }
      if let text = value.string { return TextTable.Cell(text) }
      let parts = ["node", "hostname", "workload", "name"].compactMap { value[$0]?.string }
      return TextTable.Cell(parts.isEmpty ? value.text() : parts.joined(separator: "/"))
    }
    return ""
  }

  private static func used(_ object: ShownObject, _ facts: ClusterFacts) -> TextTable.Cell {
    guard let cidr = object.text("cidr").flatMap({ IPPrefix($0) }) else { return "" }
    let used = facts.used(in: cidr)
    let bits = cidr.family.bits - Int(cidr.length)
    if bits > 62 { return TextTable.Cell("\(used)") }
    let size = Int64(1) << Int64(bits)
    let percent = Int((Double(used) * 100 / Double(size)).rounded(.down))
    return TextTable.Cell("\(used)/\(size) (\(percent)%)", percent >= 90 ? .red : percent >= 75 ? .yellow : .dim)
  }

  private static func status(_ object: ShownObject, _ facts: ClusterFacts) -> TextTable.Cell {
    guard let status = facts.status(of: object.key) else { return TextTable.Cell("unknown", .dim) }
    let reason = status.reason.map { ": \($0)" } ?? ""
    switch status.status {
    case "up": return TextTable.Cell("up", .green)
    case "down": return TextTable.Cell("down" + reason, .yellow)
    default: return TextTable.Cell(status.status + reason, .red)
    }
  }

  private static func agent(_ object: ShownObject, _ facts: ClusterFacts) -> TextTable.Cell {
    guard let node = facts.nodes[object.key.name], let last = node.lastReported else { return TextTable.Cell("never heard of", .dim) }
    let sinceThen = UTCTime(last).map { max(0, facts.now.unixSeconds - $0.unixSeconds) }
    guard node.isAlive else { return TextTable.Cell("silent for \(sinceThen.map { Spans.text($0) } ?? "?")", .red) }
    let uptime = node.uptimeSeconds.map { " for \(Spans.text(Int64($0) + (sinceThen ?? 0)))" } ?? ""
    return TextTable.Cell("alive" + uptime, node.isGood ? .green : .yellow)
  }

  private static func endpoints(_ object: ShownObject, _ facts: ClusterFacts) -> TextTable.Cell {
    guard let node = facts.nodes[object.key.name], node.isAlive else { return TextTable.Cell("–", .dim) }
    let parts = ["up", "down", "error"].compactMap { word in node.count(word) > 0 ? "\(node.count(word)) \(word)" : nil }
    let worst: Style = node.count("error") > 0 ? .red : node.count("down") > 0 ? .yellow : .green
    return parts.isEmpty ? "none" : TextTable.Cell(parts.joined(separator: ", "), worst)
  }

  /// Of a node: all its sessions; of a peer with an address: those of all nodes with it.
  private static func sessions(_ object: ShownObject, _ facts: ClusterFacts) -> TextTable.Cell {
    var sessions: [ClusterStatus.Session] = []
    if object.key.kind == .node {
      guard let own = facts.nodes[object.key.name]?.sessions else { return TextTable.Cell("–", .dim) }
      sessions = own
    } else {
      guard let address = object.text("peerIP").flatMap(Self.address) else { return TextTable.Cell("–", .dim) }
      for node in facts.nodes.values { sessions += (node.sessions ?? []).filter { $0.peer == address } }
    }
    let up = sessions.count { $0.isEstablished }
    return TextTable.Cell("\(up)/\(sessions.count)", up == sessions.count ? .green : .red)
  }
  /// Without the port: `10.0.0.1:179`, `[fd00::1]:179`.
  private static func address(_ text: String) -> String? {
    if let address = IPAddress(text) { return "\(address)" }
    guard let colon = text.lastIndex(of: ":") else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    return IPAddress(host).map { "\($0)" }
  }
}

/// Times as people say them.
public enum Spans {
  public static func text(_ seconds: Int64) -> String {
    switch seconds {
    case ..<120: "\(max(0, seconds)) s"
    case ..<7200: "\(seconds / 60) min"
    case ..<172_800: "\(seconds / 3600) h"
    default: "\(seconds / 86400) days"
    }
  }
}

extension ShownObject {
  /// A member of the spec, however deep; nil if it is absent or null.
  func field(_ names: [String]) -> JSONValue? {
    var value = document?["spec"]
    for name in names { value = value?[name] }
    return value.flatMap { $0.isNull ? nil : $0 }
  }
  func text(_ name: String) -> String? { field([name]).map(ObjectColumn.text) }
}
