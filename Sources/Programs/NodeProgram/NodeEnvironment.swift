/// What Calico's variables say of a node, for `margay node`: manifests and unit files written for calico-node mean the same here.
///
/// Empty variables count as not set. Options of the command overrule them.
public import Addresses
import Names
import Resources

public struct NodeEnvironment: Sendable {
  public var name: String?
  public var choices: [IPFamily: AddressChoice] = [:]
  public var asNumber: UInt32?
  public var toleratesConflicts = false
  public var kubernetesName: String?
  public var clusterTypes: [String] = []
  public var defaultPools: DefaultPools?
  public var internalAddresses: [IPAddress] = []
  /// How often the host's addresses are looked at, besides at once when the kernel tells of a change; zero: only then.
  public var pollInterval: Duration = .seconds(60)

  public struct Fault: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ variable: String, _ text: String, _ rule: String) { description = "\(variable) is \"\(text)\", which is \(rule)" }
  }

  public init(_ environment: [String: String]) throws(Fault) {
    func text(_ variable: String) -> String? {
      guard let text = environment[variable], !text.allSatisfy({ $0 == " " }) else { return nil }
      return text
    }
    func flag(_ variable: String) throws(Fault) -> Bool? {
      guard let text = text(variable) else { return nil }
      switch text.lowercased() {
      case "true", "1", "yes": return true
      case "false", "0", "no": return false
      default: throw Fault(variable, text, "neither true nor false")
      }
    }
    // Calico takes the host's name in small letters; a name that is given stays as it is.
    name = text("NODENAME") ?? text("HOSTNAME")?.lowercased()
    for (family, variable) in [(IPFamily.v4, "IP"), (.v6, "IP6")] {
      var method = AddressDetection.firstFound
      let methodVariable = "\(variable)_AUTODETECTION_METHOD"
      if let text = text(methodVariable) {
        do throws(AddressDetection.Fault) { method = try AddressDetection(parsing: text) } catch {
          throw Fault(methodVariable, text, "no way to find an address: \(error)")
        }
      }
      switch text(variable)?.lowercased() {
      case nil: choices[family] = .stored(orElse: method)
      case "autodetect": choices[family] = .detected(method)
      case "none": choices[family] = AddressChoice.none
      case let text?:
        guard let address = InterfaceAddress(text), address.address.family == family else {
          throw Fault(variable, text, "neither an \(family) address, nor autodetect, nor none")
        }
        choices[family] = .given(address)
      }
    }
    if let text = text("AS") {
      guard let number = Self.asNumber(text) else { throw Fault("AS", text, "no AS number") }
      asNumber = number
    }
    toleratesConflicts = try flag("DISABLE_NODE_IP_CHECK") ?? false
    kubernetesName = text("CALICO_K8S_NODE_REF")
    clusterTypes = (text("CLUSTER_TYPE") ?? "").split(separator: ",").map { String($0) }
    internalAddresses = (text("NODE_IP") ?? "").split(separator: ",").compactMap { IPAddress($0) }
    if let text = text("AUTODETECT_POLL_INTERVAL") {
      guard let interval = GoDurationText.parse(text), interval >= .zero else { throw Fault("AUTODETECT_POLL_INTERVAL", text, "no duration such as 60s") }
      pollInterval = interval
    }
    var wishes: [IPFamily: DefaultPools.Wish] = [:]
    for family in [IPFamily.v4, .v6] { wishes[family] = try Self.wish(family, text, flag) }
    if !wishes.isEmpty, try flag("NO_DEFAULT_POOLS") != true { defaultPools = DefaultPools(wishes) }
  }

  private static func asNumber(_ text: String) -> UInt32? {
    if let number = UInt32(text) { return number }
    // RFC 5396, asdot.
    let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { UInt16($0) }
    guard parts.count == 2, let high = parts[0], let low = parts[1] else { return nil }
    return UInt32(high) << 16 | UInt32(low)
  }

  /// Nil: no variable asks for a pool of this family.
  private static func wish(
    _ family: IPFamily, _ text: (String) -> String?, _ flag: (String) throws(Fault) -> Bool?
  ) throws(Fault) -> DefaultPools.Wish? {
    func variable(_ name: String) -> String { "CALICO_\(family == .v4 ? "IPV4" : "IPV6")POOL_\(name)" }
    let names = ["CIDR", "BLOCK_SIZE", "IPIP", "VXLAN", "NAT_OUTGOING", "NODE_SELECTOR", "DISABLE_BGP_EXPORT"]
    guard names.contains(where: { text(variable($0)) != nil }) else { return nil }
    var wish = DefaultPools.Wish(family)
    if let cidr = text(variable("CIDR")) {
      if cidr.lowercased() == "none" { return nil }
      guard let prefix = IPPrefix(cidr), prefix.family == family else { throw Fault(variable("CIDR"), cidr, "no \(family) network") }
      wish.cidr = prefix
    }
    if let size = text(variable("BLOCK_SIZE")) {
      let range: ClosedRange<UInt8> = family == .v4 ? 20...32 : 116...128
      guard let number = UInt8(size), range.contains(number) else {
        throw Fault(variable("BLOCK_SIZE"), size, "no length from \(range.lowerBound) to \(range.upperBound)")
      }
      wish.blockSize = number
    }
    func mode(_ name: String) throws(Fault) -> IPPoolSpec.Encapsulation {
      guard let word = text(variable(name)) else { return .never }
      switch word.lowercased() {
      case "never", "off": return .never
      case "always": return .always
      case "crosssubnet", "cross-subnet", "cross_subnet": return .crossSubnet
      default: throw Fault(variable(name), word, "none of Never, Always, CrossSubnet")
      }
    }
    wish.ipipMode = try mode("IPIP")
    wish.vxlanMode = try mode("VXLAN")
    if wish.ipipMode != .never, wish.vxlanMode != .never {
      throw Fault(variable("VXLAN"), text(variable("VXLAN")) ?? "", "a second encapsulation: \(variable("IPIP")) asks for one already")
    }
    if family == .v6, wish.ipipMode != .never { throw Fault(variable("IPIP"), text(variable("IPIP")) ?? "", "not possible for IPv6") }
    if let nat = try flag(variable("NAT_OUTGOING")) { wish.natOutgoing = nat }
    if let selector = text(variable("NODE_SELECTOR")) { wish.nodeSelector = selector }
    wish.disableBGPExport = try flag(variable("DISABLE_BGP_EXPORT")) ?? false
    return wish
  }
}

/// `60s`, `1m30s`, or seconds without a unit.
enum GoDurationText {
  static func parse(_ text: String) -> Duration? { Int(text).map { .seconds($0) } ?? GoDuration.parse(text) }
}
