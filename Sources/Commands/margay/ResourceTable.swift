/// The columns of each kind.
import Addresses
import Datastore
import Resources
import Tables

/// What of each kind a person wants to see in a row.
enum ResourceTable {
  static func table(_ kind: Kind, _ items: [StoredResource], isWide: Bool) -> TextTable {
    var headings = kind.isNamespaced ? ["NAMESPACE", "NAME"] : ["NAME"]
    headings += columns(kind, isWide)
    var table = TextTable(headings)
    for item in items {
      let names = kind.isNamespaced ? [item.resource.metadata.namespace ?? "", item.resource.metadata.name] : [item.resource.metadata.name]
      table.append(names + values(item.resource, isWide))
    }
    return table
  }

  static func columns(_ kind: Kind, _ isWide: Bool) -> [String] {
    switch kind {
    case .bgpConfiguration: ["MESH", "AS"]
    case .bgpFilter, .blockAffinity, .calicoNodeStatus, .hostEndpoint, .ipamConfiguration, .ipReservation, .kubeControllersConfiguration,
      .liveMigration, .stagedGlobalNetworkPolicy, .stagedKubernetesNetworkPolicy, .stagedNetworkPolicy: []
    case .bgpPeer: ["PEER", "NODE", "AS"]
    case .clusterInformation: ["READY", "GUID"]
    case .felixConfiguration: ["PREFIXES", "TO-HOST"]
    case .globalNetworkPolicy, .networkPolicy: ["TIER", "ORDER", "SELECTOR"] + (isWide ? ["INGRESS", "EGRESS"] : [])
    case .globalNetworkSet, .networkSet: ["NETS"]
    case .ipPool: ["CIDR", "BLOCK", "SELECTOR", "STATE"]
    case .node: ["AS", "IPV4", "IPV6"]
    case .profile: ["LABELS"]
    case .tier: ["ORDER", "DEFAULT"]
    case .workloadEndpoint: ["NODE", "WORKLOAD", "INTERFACE", "NETWORKS"] + (isWide ? ["PROFILES"] : [])
    }
  }

  static func values(_ resource: Resource, _ isWide: Bool) -> [String] {
    func text(_ order: Double?) -> String { order.map { $0 == $0.rounded() ? "\(Int64($0))" : "\($0)" } ?? "" }
    switch resource.spec {
    case .bgpFilter, .blockAffinity, .calicoNodeStatus, .hostEndpoint, .ipamConfiguration, .ipReservation, .kubeControllersConfiguration,
      .liveMigration, .stagedGlobalNetworkPolicy, .stagedKubernetesNetworkPolicy, .stagedNetworkPolicy:
      return []
    case .bgpConfiguration(let spec): return [spec.nodeToNodeMeshEnabled == false ? "off" : "on", spec.asNumber.map { "\($0)" } ?? "64512"]
    case .bgpPeer(let spec):
      return [
        spec.peerIP?.description ?? spec.peerSelector ?? "", spec.node ?? spec.nodeSelector ?? "(all)", spec.asNumber.map { "\($0)" } ?? "",
      ]
    case .clusterInformation(let spec): return [spec.datastoreReady.map { "\($0)" } ?? "", spec.clusterGUID ?? ""]
    case .felixConfiguration(let spec):
      return [spec.interfacePrefixes?.joined(separator: ",") ?? "", spec.defaultEndpointToHostAction?.rawValue ?? ""]
    case .globalNetworkPolicy(let spec), .networkPolicy(let spec):
      return [spec.tier, text(spec.order), spec.selector] + (isWide ? ["\(spec.ingress.count)", "\(spec.egress.count)"] : [])
    case .globalNetworkSet(let spec), .networkSet(let spec):
      let shown = spec.nets.prefix(4).map(\.description).joined(separator: ",")
      return [shown + (spec.nets.count > 4 ? ",… (\(spec.nets.count))" : "")]
    case .ipPool(let spec): return [spec.cidr.description, "/\(spec.blockSize)", spec.nodeSelector, spec.disabled ? "disabled" : "enabled"]
    case .node(let spec):
      return [
        spec.bgp?.asNumber.map { "\($0)" } ?? "(64512)", spec.bgp?.ipv4Address?.description ?? "", spec.bgp?.ipv6Address?.description ?? "",
      ]
    case .profile(let spec): return [spec.labelsToApply.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")]
    case .tier(let spec): return [text(spec.order), spec.defaultAction.rawValue]
    case .workloadEndpoint(let spec):
      return [
        spec.node, spec.pod.isEmpty ? spec.workload : spec.pod, spec.interfaceName,
        spec.ipNetworks.map(\.description).joined(separator: ","),
      ]
        + (isWide ? [spec.profiles.joined(separator: ",")] : [])
    }
  }
}
