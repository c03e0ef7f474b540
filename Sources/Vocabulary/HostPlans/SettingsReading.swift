/// From FelixConfiguration's fields to the settings of a host.
import Addresses
import Names
import Resources

extension HostSettings {
  /// Each field of a later configuration overrules that of an earlier one.
  public init(_ configurations: some Sequence<FelixConfigurationSpec>) { self.init(FelixConfigurationSpec(merging: configurations)) }

  /// `values`: what is in force; what is not given has its default.
  public init(_ values: FelixConfigurationSpec) {
    self.init()
    if let prefixes = values.interfacePrefixes { interfacePrefixes = prefixes }
    if let action = values.defaultEndpointToHostAction { endpointToHostAction = action }
    if let ipv6 = values.ipv6Support { self.ipv6 = ipv6 }
    if let prefix = values.logPrefix { logPrefix = prefix }
    logLimit = values.logLimit
    if let text = values.text("interfaceExclude") { excludedInterfaces = text.split(separator: ",").map { String($0) } }
    readFilter(values)
    if case .failsafePorts(let ports)? = values.values["failsafeInboundHostPorts"] { failsafes.inbound = ports.compactMap(FailsafeSettings.Port.init) }
    if case .failsafePorts(let ports)? = values.values["failsafeOutboundHostPorts"] { failsafes.outbound = ports.compactMap(FailsafeSettings.Port.init) }
    nat.ports = values.portRange("natPortRange")
    nat.outgoingAddress = values.text("natOutgoingAddress").flatMap { IPAddress($0) }
    nat.sparesHosts = values.text("natOutgoingExclusions") == "IPPoolsAndHostIPs"
    nat.floatingIPs = values.text("floatingIPs") == "Enabled"
    readTunnels(values)
    readRouting(values)
    if let text = values.text("metadataAddr") { metadata.address = text.lowercased() == "none" ? nil : IPAddress(text) }
    values.number("metadataPort") { metadata.port = $0 }
  }

  private mutating func readFilter(_ values: FelixConfigurationSpec) {
    values.word("nftablesFilterAllowAction") { filter.allow = $0 }
    values.word("nftablesMangleAllowAction") { filter.mangleAllow = $0 }
    values.word("nftablesFilterDenyAction") { filter.deny = $0 }
    values.number("nftablesMarkMask") { filter.markMask = $0 }
    values.flag("disableConntrackInvalidCheck") { filter.dropsInvalid = !$0 }
    values.flag("allowVXLANPacketsFromWorkloads") { filter.allowsVXLANFromWorkloads = $0 }
    values.flag("allowIPIPPacketsFromWorkloads") { filter.allowsIPIPFromWorkloads = $0 }
    filter.flushesFlows = values.text("margayFlowFlush") == "Enabled"
    filter.allowsSpoofing = values.text("workloadSourceSpoofing") == "Any"
    values.word("serviceLoopPrevention") { filter.serviceLoops = $0 }
  }

  private mutating func readTunnels(_ values: FelixConfigurationSpec) {
    values.flag("vxlanEnabled") { tunnels.vxlan = $0 }
    values.number("vxlanMTU") { tunnels.vxlanMTU = $0 }
    values.number("vxlanMTUV6") { tunnels.vxlanMTUV6 = $0 }
    values.number("vxlanPort") { tunnels.vxlanPort = $0 }
    values.number("vxlanVNI") { tunnels.vxlanVNI = $0 }
    values.flag("ipipEnabled") { tunnels.ipip = $0 }
    values.number("ipipMTU") { tunnels.ipipMTU = $0 }
    values.flag("wireguardEnabled") { tunnels.wireguard = $0 }
    values.flag("wireguardEnabledV6") { tunnels.wireguardV6 = $0 }
    values.number("wireguardListeningPort") { tunnels.wireguardPort = $0 }
    values.number("wireguardListeningPortV6") { tunnels.wireguardPortV6 = $0 }
    if let name = values.text("wireguardInterfaceName") { tunnels.wireguardName = name }
    if let name = values.text("wireguardInterfaceNameV6") { tunnels.wireguardNameV6 = name }
    values.number("wireguardMTU") { tunnels.wireguardMTU = $0 }
    values.number("wireguardMTUV6") { tunnels.wireguardMTUV6 = $0 }
    values.number("wireguardRoutingRulePriority") { tunnels.wireguardRulePriority = $0 }
    values.flag("wireguardHostEncryptionEnabled") { tunnels.wireguardHostEncryption = $0 }
    values.duration("wireguardKeepAlive") { tunnels.wireguardKeepAlive = UInt32(clamping: $0.components.seconds) }
    if let nets = values.texts("externalNodesList") { tunnels.externalNodes = nets.compactMap { IPPrefix($0) } }
  }

  private mutating func readRouting(_ values: FelixConfigurationSpec) {
    values.number("deviceRouteProtocol") { routing.deviceProtocol = $0 }
    routing.deviceSource = values.text("deviceRouteSourceAddress").flatMap { IPAddress($0) }
    routing.deviceSourceV6 = values.text("deviceRouteSourceAddressIPv6").flatMap { IPAddress($0) }
    values.flag("removeExternalRoutes") { routing.removesExternal = $0 }
    routing.forwards = values.text("ipForwarding") != "Disabled"
    values.word("routeSource") { routing.source = $0 }
    values.word("programClusterRoutes") { routing.clusterRoutes = $0 }
    values.flag("routeSyncDisabled") { routing.isDisabled = $0 }
    values.number("ipv4NormalRoutePriority") { routing.priorities.normal = $0 }
    values.number("ipv4ElevatedRoutePriority") { routing.priorities.elevated = $0 }
    values.number("ipv6NormalRoutePriority") { routing.prioritiesV6.normal = $0 }
    values.number("ipv6ElevatedRoutePriority") { routing.prioritiesV6.elevated = $0 }
    values.duration("liveMigrationRouteConvergenceTime") { routing.convergence = $0 }
  }
}

extension FailsafeSettings.Port {
  /// Nil for an entry that names no protocol or no network that there is: such an entry opens nothing.
  init?(_ port: FelixParameterValue.FailsafePort) {
    guard let ipProtocol = port.ipProtocol.isEmpty ? .tcp : NetworkProtocol(port.ipProtocol) else { return nil }
    let net = port.net.isEmpty ? nil : IPPrefix(port.net)
    if net == nil, !port.net.isEmpty { return nil }
    self.init(ipProtocol, port.port, net: net)
  }
}

/// What is given, for those who have the default already.
extension FelixConfigurationSpec {
  fileprivate func flag(_ field: String, _ take: (Bool) -> Void) {
    if let flag = flag(field) { take(flag) }
  }
  fileprivate func number<Number: FixedWidthInteger>(_ field: String, _ take: (Number) -> Void) {
    if let number: Number = number(field) { take(number) }
  }
  fileprivate func word<Word: RawRepresentable>(_ field: String, _ take: (Word) -> Void) where Word.RawValue == String {
    if let word: Word = word(field) { take(word) }
  }
  fileprivate func duration(_ field: String, _ take: (Duration) -> Void) {
    if let duration = duration(field) { take(duration) }
  }
}
