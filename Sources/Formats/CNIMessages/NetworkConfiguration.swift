/// The network configuration that a runtime writes to a plugin's standard input: Calico's members, the conventions of CNI and our own.
///
/// Members that we do not know are tolerated, because configurations are written for many plugins and versions. A known member of the wrong
/// type is an error: guessing what an operator meant would be found out much later.

public import Addresses
public import JSON

public struct NetworkConfiguration: Hashable, Sendable {
  public var version: CNIVersion
  /// The network's name; part of the handle under which addresses are held.
  public var name: String
  public var type: String
  /// `nodename`: empty when not given.
  public var nodeName: String
  /// Octets; nil when not given or 0.
  public var mtu: UInt32?
  public var ipam: AddressManagement
  /// `policy.type`
  public var policyType: String
  /// `container_settings.allow_ip_forwarding`
  public var allowsForwarding: Bool
  /// `include_default_routes`: the default routes also where the IPAM plugin lists routes of its own.
  public var includesDefaultRoutes: Bool
  /// `dns`, passed on into the result; nil when empty.
  public var dns: JSONValue?
  /// From `args.cni.labels`, the way of the CNI conventions, and from `margay.labels`, which wins.
  public var labels: [String: String]
  /// `runtimeConfig.mac` or `args.cni.mac`
  public var mac: MACAddress?
  public var margay: Extension
  /// `policy_setup_timeout_seconds`, or `margay.timeoutSeconds`.
  public var policySetupTimeoutSeconds: Int64?
  /// What ADD printed, in DEL and CHECK of versions from 0.4.0.
  public var previousResult: JSONValue?

  /// `ipam`
  public struct AddressManagement: Hashable, Sendable {
    public var type: String
    public var assignsIPv4: Bool
    public var assignsIPv6: Bool
    /// Names or CIDRs; empty means any pool.
    public var ipv4Pools: [String]
    public var ipv6Pools: [String]
    /// Addresses that the workload must get: `runtimeConfig.ips`, `args.cni.ips`, or IP in CNI_ARGS.
    public var requested: [IPAddress]
    /// True if ours assigns the addresses.
    public var isOurs: Bool { type.isEmpty || type == "calico-ipam" || type == "margay-ipam" }
  }

  /// `margay`: what a workload without a Kubernetes API behind it needs said, and where the node process is.
  public struct Extension: Hashable, Sendable {
    public var labels: [String: String] = [:]
    /// Nil means by the rule of the orchestrator.
    public var profiles: [String]?
    /// The namespace of the endpoint for runtimes that know none; `default` when not given.
    public var namespace: String?
    public var serviceAccount: String?
    public var socket: String?
    public var tombstones: String?
    public var ports: [Port] = []

    /// A port that policies may use by name.
    public struct Port: Hashable, Sendable {
      public var name: String
      public var networkProtocol: String
      public var port: UInt16
      public init(name: String, networkProtocol: String, port: UInt16) {
        self.name = name
        self.networkProtocol = networkProtocol
        self.port = port
      }
    }
  }

  /// Throws code 1 for an unknown version, 7 for a member that cannot be used.
  public init(_ json: JSONValue) throws(CNIError) {
    guard json.object != nil else { throw CNIError(.decodingFailure, "failed to load netconf: not a JSON object") }
    version = try CNIVersion(configuration: json)
    let root = Section(json, "")
    name = try root.string("name") ?? ""
    guard !name.isEmpty else { throw CNIError(.invalidConfiguration, "failed to load netconf: the network has no name") }
    type = try root.string("type") ?? ""
    // `hostname` is what old configurations call it.
    var nodeName = try root.string("nodename")
    if nodeName == nil { nodeName = try root.string("hostname") }
    self.nodeName = nodeName ?? ""
    mtu = try root.integer("mtu", 0...65535).flatMap { $0 == 0 ? nil : UInt32($0) }
    policyType = try root.section("policy")?.string("type") ?? ""
    allowsForwarding = try root.section("container_settings")?.bool("allow_ip_forwarding") ?? false
    includesDefaultRoutes = try root.bool("include_default_routes") ?? false
    dns = json["dns"].flatMap { $0.object?.isEmpty == false ? $0 : JSONValue?.none }
    previousResult = json["prevResult"].flatMap { $0.isNull ? JSONValue?.none : $0 }

    let device = try root.string("device_type") ?? "veth"
    guard device == "veth" || device.isEmpty else {
      throw CNIError(.invalidConfiguration, "unknown device_type \"\(device)\"", details: "this version makes veth pairs only")
    }

    let dataplane = try root.section("dataplane_options")?.string("type") ?? "linux"
    guard dataplane == "linux" || dataplane.isEmpty else {
      throw CNIError(
        .invalidConfiguration, "dataplane_options: type \"\(dataplane)\" is not supported",
        details: "the interfaces are made by the node process; remove dataplane_options")
    }

    let conventions = try root.section("args")?.section("cni")
    let runtime = try root.section("runtimeConfig")
    labels = [:]
    for (index, item) in (try conventions?.array("labels") ?? []).enumerated() {
      let entry = Section(item, "args.cni.labels[\(index)]")
      guard let key = try entry.string("key"), !key.isEmpty else {
        throw CNIError(.invalidConfiguration, "args.cni.labels[\(index)].key is missing")
      }
      labels[key] = try entry.string("value") ?? ""
    }
    var macText = try runtime?.string("mac")
    if macText == nil { macText = try conventions?.string("mac") }
    if let text = macText, !text.isEmpty {
      guard let address = MACAddress(text) else { throw CNIError(.invalidConfiguration, "mac \"\(text)\" is not a MAC address") }
      guard address.octets[0] & 1 == 0 else { throw CNIError(.invalidConfiguration, "mac \(address) is a group address") }
      mac = address
    }

    let ipam = try root.section("ipam")
    try Self.refusePodCIDR(ipam)
    var requested = try runtime?.strings("ips")
    if requested == nil { requested = try conventions?.strings("ips") }
    var addresses: [IPAddress] = []
    for text in requested ?? [] {
      let plain = text.split(separator: "/", omittingEmptySubsequences: false).first ?? ""
      guard let address = IPAddress(plain) else { throw CNIError(.invalidConfiguration, "ips: \"\(text)\" is not an IP address") }
      addresses.append(address)
    }
    self.ipam = AddressManagement(
      type: try ipam?.string("type") ?? "", assignsIPv4: try ipam?.looseBool("assign_ipv4") ?? true,
      assignsIPv6: try ipam?.looseBool("assign_ipv6") ?? false, ipv4Pools: try ipam?.strings("ipv4_pools") ?? [],
      ipv6Pools: try ipam?.strings("ipv6_pools") ?? [], requested: addresses)
    if !self.ipam.assignsIPv4, !self.ipam.assignsIPv6, addresses.isEmpty {
      throw CNIError(.invalidConfiguration, "ipam: both assign_ipv4 and assign_ipv6 are \"false\"")
    }

    margay = Extension()
    let margaySection = try root.section("margay")
    if let section = margaySection {
      margay.profiles = try section.strings("profiles")
      margay.namespace = try section.string("namespace")
      margay.serviceAccount = try section.string("serviceAccount")
      margay.socket = try section.string("socket")
      margay.tombstones = try section.string("tombstones")
      for member in try section.section("labels")?.object.members ?? [] {
        guard let value = member.value.string else { throw CNIError(.invalidConfiguration, "margay.labels.\(member.name) is not a string") }
        margay.labels[member.name] = value
      }
      for (index, item) in (try section.array("ports") ?? []).enumerated() {
        let entry = Section(item, "margay.ports[\(index)]")
        guard let name = try entry.string("name"), let port = try entry.integer("port", 1...65535) else {
          throw CNIError(.invalidConfiguration, "margay.ports[\(index)] needs name and port")
        }
        margay.ports.append(Extension.Port(name: name, networkProtocol: try entry.string("protocol") ?? "TCP", port: UInt16(port)))
      }
    }
    labels.merge(margay.labels) { _, ours in ours }
    let calicoTimeout = try root.integer("policy_setup_timeout_seconds", 0...3600)
    policySetupTimeoutSeconds = try margaySection?.integer("timeoutSeconds", 1...3600)
    if policySetupTimeoutSeconds == nil, calicoTimeout != 0 { policySetupTimeoutSeconds = calicoTimeout }
  }
}

extension NetworkConfiguration {
  /// Calico replaces `usePodCidr` by the range that Kubernetes gave to the node. An IPAM plugin would only say that it is no CIDR.
  private static func refusePodCIDR(_ ipam: Section?) throws(CNIError) {
    func refuse(_ section: Section?) throws(CNIError) {
      for member in ["subnet", "rangeStart", "rangeEnd"] {
        guard let text = try section?.string(member), text.hasPrefix("usePodCidr") else { continue }
        throw CNIError(
          .invalidConfiguration, "ipam: \(member) \"\(text)\" needs the node's podCIDR from Kubernetes, and no Kubernetes datastore is in use",
          details: "write the range itself, for example 10.1.2.0/24, or use calico-ipam, which takes addresses from IPPools")
      }
    }
    try refuse(ipam)
    for (index, list) in (try ipam?.array("ranges") ?? []).enumerated() {
      for range in list.array ?? [] { try refuse(Section(range, "ipam.ranges[\(index)]")) }
    }
  }
}

/// An object of the configuration with its place in it, for messages.
private struct Section {
  let object: JSONObject
  let place: String
  init(_ json: JSONValue, _ place: String) {
    object = json.object ?? JSONObject()
    self.place = place
  }
  private func path(_ name: String) -> String { place.isEmpty ? name : "\(place).\(name)" }
  private func fail(_ name: String, _ what: String) -> CNIError {
    CNIError(.invalidConfiguration, "failed to load netconf: \(path(name)) is not \(what)")
  }
  /// Null counts as absent: Go programs print it for an empty pointer.
  /// Spelled out: a bare `nil` beside a JSONValue would be JSON's null.
  private func value(_ name: String) -> JSONValue? { object[name].flatMap { $0.isNull ? JSONValue?.none : $0 } }

  func string(_ name: String) throws(CNIError) -> String? {
    guard let value = value(name) else { return nil }
    guard let text = value.string else { throw fail(name, "a string") }
    return text
  }
  func integer(_ name: String, _ range: ClosedRange<Int64>) throws(CNIError) -> Int64? {
    guard let value = value(name) else { return nil }
    guard let number = value.integer, range.contains(number) else {
      throw fail(name, "an integer from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }
  func bool(_ name: String) throws(CNIError) -> Bool? {
    guard let value = value(name) else { return nil }
    guard let flag = value.bool else { throw fail(name, "true or false") }
    return flag
  }
  /// Calico writes `"true"` and `"false"` as strings here.
  func looseBool(_ name: String) throws(CNIError) -> Bool? {
    switch value(name) {
    case nil: return nil
    case .bool(let flag)?: return flag
    case .string("true")?: return true
    case .string("false")?: return false
    case _?: throw fail(name, "\"true\" or \"false\"")
    }
  }
  func array(_ name: String) throws(CNIError) -> [JSONValue]? {
    guard let value = value(name) else { return nil }
    guard let elements = value.array else { throw fail(name, "a list") }
    return elements
  }
  func strings(_ name: String) throws(CNIError) -> [String]? {
    guard let elements = try array(name) else { return nil }
    var texts: [String] = []
    for element in elements {
      guard let text = element.string else { throw fail(name, "a list of strings") }
      texts.append(text)
    }
    return texts
  }
  func section(_ name: String) throws(CNIError) -> Section? {
    guard let value = value(name) else { return nil }
    guard value.object != nil else { throw fail(name, "an object") }
    return Section(value, path(name))
  }
}
