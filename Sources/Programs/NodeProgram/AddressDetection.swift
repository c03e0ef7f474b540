/// Which of a host's addresses is the node's, where nobody says it: Calico's methods, in Calico's words.
///
/// A decision over what the kernel lists: `HostInterface` values in, an address out. Asking the kernel and the routing table is `HostView`.
public import Addresses
import Resources

public struct HostInterface: Hashable, Sendable {
  public var name: String
  public var isUp: Bool
  public var addresses: [InterfaceAddress]
  public init(name: String, isUp: Bool = true, addresses: [InterfaceAddress]) {
    (self.name, self.isUp, self.addresses) = (name, isUp, addresses)
  }
}

public enum AddressDetection: Hashable, Sendable {
  /// The first usable address of the first interface that is no container's, tunnel's or workload's.
  case firstFound
  /// The address that an orchestrator gives the node.
  case kubernetesInternalIP
  /// The address from which packets to this destination go.
  case canReach(String)
  /// The first usable address of an interface that one of these regular expressions matches, tried in their order.
  case interface([String])
  /// As `firstFound`, passing over interfaces that one of these matches as well.
  case skipInterface([String])
  /// The first usable address in one of these networks.
  case cidr([IPPrefix])

  public struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
  }

  /// Interfaces that never carry the node's own address, by the beginning of their names.
  public static let excluded = [
    "docker", "cbr", "dummy", "podman", "virbr", "lxcbr", "veth", "br-", "cali", "tunl", "flannel", "kube-ipvs", "cni",
    "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali", "nodelocaldns",
  ]

  /// `first-found`, `interface=eth.*,bond0`, `cidr=10.0.0.0/8`.
  public init(parsing text: String) throws(Fault) {
    let sign = text.firstIndex(of: "=")
    let method = String(text[..<(sign ?? text.endIndex)])
    let rest = sign.map { String(text[text.index(after: $0)...]) } ?? ""
    let parts = rest.split(separator: ",").map { part in String(part.drop { $0 == " " }) }
    func patterns() throws(Fault) -> [String] {
      for part in parts where (try? Regex(part)) == nil { throw Fault(description: "\(text): \"\(part)\" is not a regular expression") }
      return parts
    }
    switch (method, parts.isEmpty) {
    case ("first-found", true): self = .firstFound
    case ("kubernetes-internal-ip", true): self = .kubernetesInternalIP
    case ("can-reach", false): self = .canReach(rest)
    case ("interface", false): self = .interface(try patterns())
    case ("skip-interface", false): self = .skipInterface(try patterns())
    case ("cidr", false):
      var networks: [IPPrefix] = []
      for part in parts {
        guard let network = IPPrefix(part) else { throw Fault(description: "\(text): \"\(part)\" is not a network") }
        networks.append(network)
      }
      self = .cidr(networks)
    default:
      throw Fault(
        description: "\(text) is no way to find the node's address; there are first-found, kubernetes-internal-ip, can-reach=DESTINATION, "
          + "interface=REGEX,…, skip-interface=REGEX,… and cidr=NETWORK,…")
    }
  }

  /// `interfaces` in the kernel's order. `source`: the address from which packets to a destination go; `internalAddresses`: what an
  /// orchestrator says. Nil: there is none.
  func address(
    _ family: IPFamily, of interfaces: [HostInterface], internalAddresses: [IPAddress], source: (String) throws -> IPAddress?
  ) throws -> InterfaceAddress? {
    /// An address of this host, with the length of its subnet.
    func known(_ address: IPAddress) -> InterfaceAddress? {
      interfaces.lazy.flatMap(\.addresses).first { $0.address == address }
    }
    func first(_ wanted: (HostInterface) -> Bool, in networks: [IPPrefix]? = nil) -> InterfaceAddress? {
      interfaces.filter { $0.isUp && wanted($0) }.flatMap(\.addresses).first { assigned in
        assigned.address.family == family && assigned.address.isGlobalUnicast && networks?.contains { $0.contains(assigned.address) } ?? true
      }
    }
    // Loopback is `lo` alone; Calico passes over every name that begins so, network cards too.
    func isOrdinary(_ interface: HostInterface) -> Bool { interface.name != "lo" && !Self.excluded.contains(where: interface.name.hasPrefix) }
    switch self {
    case .firstFound: return first(isOrdinary)
    case .kubernetesInternalIP:
      guard let address = internalAddresses.first(where: { $0.family == family }) else { return nil }
      // A cloud's internal address may be on no interface; then the node is its own subnet.
      return known(address) ?? InterfaceAddress(address, length: UInt8(family.bits))
    case .canReach(let destination): return try source(destination).flatMap { $0.family == family ? known($0) : nil }
    case .interface(let patterns):
      for pattern in patterns {
        // Found anywhere in the name, as in Calico: whoever means the whole name writes ^ and $.
        let regex = try Regex(pattern)
        if let found = first({ $0.name.contains(regex) }) { return found }
      }
      return nil
    case .skipInterface(let patterns):
      let regexes = try patterns.map { try Regex($0) }
      return first { interface in isOrdinary(interface) && !regexes.contains { interface.name.contains($0) } }
    case .cidr(let networks): return first({ $0.name != "lo" }, in: networks)
    }
  }
}

extension IPAddress {
  var isGlobalUnicast: Bool { !isLinkLocal && !isLoopback && !isMulticast && self != .v4(IPv4Address(rawValue: 0)) && self != .v6(.unspecified) }
}
