/// What an instance of OpenStack needs of its host before it can do anything: an address by DHCP, names, metadata. Only interfaces of
/// endpoints whose orchestrator is OpenStack are served; Calico opens the same to every workload once it takes the cluster for OpenStack's.

import Addresses
import HostPlans
import Resources
import Rulesets

extension BaseRuleset {
  private var servesInstances: Bool { needs.inhabited.contains(KernelNames.openStack) }
  private static let metadata = IPPrefix("169.254.169.254/32")!

  mutating func addOpenStackStage() {
    guard servesInstances else { return }
    sets[KernelNames.openStack] = SetSpec(.interfaceName, comment: "interfaces of OpenStack's instances")
    chains[KernelNames.openStackServices] = Chain(
      families.map { family in
        let (from, to) = Self.dhcp(family)
        return ChainRule(
          .family(family), .transport(17), .port(.sourcePort, in: from...from), .port(.destinationPort, in: to...to), .counter, .accept,
          comment: "DHCP")
      } + [ChainRule(.transport(17), .port(.destinationPort, in: 53...53), .counter, .accept, comment: "names")] + metadataAcceptance)
  }

  private static func dhcp(_ family: IPFamily) -> (from: UInt16, to: UInt16) { family == .v4 ? (68, 67) : (546, 547) }

  private var isInstance: Statement { .lookup([.inputName], set: KernelNames.openStack, negated: false) }

  /// To the host: before policy is asked.
  var instancesToHost: [ChainRule] { servesInstances ? [ChainRule(isInstance, .jump(KernelNames.openStackServices))] : [] }

  /// Who has no address yet asks for one from no address, or from a link-local one.
  var sourcesOfInstances: [ChainRule] {
    guard servesInstances else { return [] }
    return families.map { family in
      let (from, to) = Self.dhcp(family)
      let source = IPPrefix(family == .v4 ? "0.0.0.0/32" : "fe80::/10")!
      return ChainRule(
        .family(family), .address(.source(family), in: source), .transport(17), .port(.sourcePort, in: from...from),
        .port(.destinationPort, in: to...to), isInstance, .counter, .accept, comment: "DHCP")
    }
  }

  /// The metadata service may listen on the loopback address alone; then packets to 127.0.0.0/8 are routed from its interfaces, and what an
  /// instance itself sends there must not arrive at the host's other loopback services.
  var loopbackGuard: [ChainRule] {
    guard servesInstances else { return [] }
    return [
      ChainRule(
        .family(.v4), .address(.destination(.v4), in: IPPrefix("127.0.0.0/8")!), .counter, .drop,
        comment: "to the host's loopback addresses")
    ]
  }

  var metadataTranslation: [ChainRule] {
    guard servesInstances, let address = settings.metadata.address, address.family == .v4 else { return [] }
    return [
      ChainRule(
        isInstance, .family(.v4), .address(.destination(.v4), in: Self.metadata), .transport(6), .port(.destinationPort, in: 80...80), .counter,
        .translate(.destination(address, port: settings.metadata.port)), comment: "metadata")
    ]
  }

  private var metadataAcceptance: [ChainRule] {
    guard let address = settings.metadata.address, address.family == .v4 else { return [] }
    let port = settings.metadata.port
    return [
      ChainRule(
        .family(.v4), .address(.destination(.v4), in: address.hostPrefix), .transport(6), .port(.destinationPort, in: port...port), .counter,
        .accept, comment: "metadata")
    ]
  }
}
