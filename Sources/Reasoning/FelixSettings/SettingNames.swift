/// What a setting is called outside of FelixConfiguration: in the configuration file, and behind `FELIX_` in the environment, in any case of
/// letters. The field's own name counts as well.
public import Resources

extension FelixParameter {
  /// Calico's names that are not the field with a capital letter in front.
  private static let names = [
    "iptablesPostWriteCheckInterval": "IptablesPostWriteCheckIntervalSecs", "iptablesLockTimeout": "IptablesLockTimeoutSecs",
    "iptablesLockProbeInterval": "IptablesLockProbeIntervalMillis", "netlinkTimeout": "NetlinkTimeoutSecs", "ipipEnabled": "IpInIpEnabled",
    "ipipMTU": "IpInIpMtu", "reportingInterval": "ReportingIntervalSecs", "reportingTTL": "ReportingTTLSecs",
    "endpointReportingDelay": "EndpointReportingDelaySecs", "usageReportingInitialDelay": "UsageReportingInitialDelaySecs",
    "usageReportingInterval": "UsageReportingIntervalSecs", "externalNodesList": "ExternalNodesCIDRList",
    "wireguardKeepAlive": "WireguardPersistentKeepAlive",
  ]
  public var name: String { Self.names[field] ?? field.prefix(1).uppercased() + field.dropFirst() }

  private static let byName: [String: FelixParameter] = Dictionary(
    all.flatMap { [($0.field.lowercased(), $0), ($0.name.lowercased(), $0)] }, uniquingKeysWith: { first, _ in first })

  /// `name` in any case of letters.
  public static func known(as name: String) -> FelixParameter? { byName[name.lowercased()] }

  /// Parameters of Calico's Felix that no FelixConfiguration has, and what stands in their place here.
  enum Local: Hashable {
    /// Read from the environment by somebody else.
    case elsewhere(String)
    case never(String)
  }
  static func local(_ name: String) -> Local? {
    let name = name.lowercased()
    if name.hasPrefix("etcd") || name == "datastoretype" {
      return .elsewhere("the datastore is named by --datastore, MARGAY_DATASTORE or ETCD_ENDPOINTS")
    }
    if name == "felixhostname" { return .elsewhere("the node's name is given by --name or NODENAME") }
    if name.hasPrefix("typha") { return .never("there is no Typha: the datastore is read directly") }
    if ["ipiniptunneladdr", "ipv4vxlantunneladdr", "ipv6vxlantunneladdr", "vxlantunnelmacaddr", "vxlantunnelmacaddrv6"].contains(name) {
      return .never("the Node object says it")
    }
    if ["clusterguid", "clustertype", "calicoversion"].contains(name) { return .never("ClusterInformation says it") }
    if name.hasPrefix("debug") { return .never("it is for Calico's developers") }
    return nil
  }

  /// The known name that a mistyped one probably means.
  static func nearest(_ name: String) -> String? {
    let word = Array(name.lowercased().utf8)
    guard word.count <= 64 else { return nil }
    var best: (name: String, distance: Int)?
    for parameter in all where parameter.field != "nodeSelector" {
      let distance = Self.distance(word, Array(parameter.name.lowercased().utf8))
      if distance < best?.distance ?? 4 { best = (parameter.name, distance) }
    }
    return best?.name
  }

  /// Insertions, deletions and replacements that make one of the other.
  private static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    if abs(a.count - b.count) > 3 { return .max }
    var previous = Array(0...b.count)
    for i in 0..<a.count {
      var row = [i + 1]
      for j in 0..<b.count { row.append(min(previous[j] + (a[i] == b[j] ? 0 : 1), previous[j + 1] + 1, row[j] + 1)) }
      previous = row
    }
    return previous[b.count]
  }
}
