/// One address set of the plan, split the way the kernel wants it: single addresses, prefixes, addresses with ports, by family.

import Addresses
import HostPlans
import Resources
import Rulesets

struct AddressSet {
  let content: IPSetPlan.Content
  let explanation: String
  private(set) var hosts: [IPFamily: Set<IPAddress>] = [:]
  private(set) var nets: [IPFamily: PrefixCover] = [:]
  private(set) var served: [IPFamily: Set<IPSetMember>] = [:]

  init(_ plan: IPSetPlan) {
    content = plan.content
    explanation = plan.explanation
    var prefixes: [IPFamily: [IPPrefix]] = [:]
    for member in plan.members {
      switch member {
      case .net(let prefix) where prefix.isHost: hosts[prefix.family, default: []].insert(prefix.address)
      case .net(let prefix): prefixes[prefix.family, default: []].append(prefix)
      case .addressPort: served[member.family, default: []].insert(member)
      }
    }
    for (family, list) in prefixes { nets[family] = PrefixCover(list) }
  }

  var members: Set<IPSetMember> {
    Set(hosts.values.joined().map { .net($0.hostPrefix) } + nets.values.flatMap { $0.members.map { .net($0) } } + served.values.joined())
  }

  func hasElements(_ source: SetSource) -> Bool {
    switch source {
    case .hosts(_, let family): hosts[family].map { !$0.isEmpty } ?? false
    case .nets(_, let family): nets[family].map { !$0.isEmpty } ?? false
    case .served(_, let family): served[family].map { !$0.isEmpty } ?? false
    case .literal(_, let elements): !elements.isEmpty
    }
  }
  /// Which of the kernel's sets it needs, in a fixed order.
  func inhabited(_ id: IPSetID) -> [Bool] {
    IPFamily.allCases.flatMap { family in [.hosts(id, family), .nets(id, family), .served(id, family)].map { hasElements($0) } }
  }

  /// A change of elements in one of the kernel's sets.
  struct Change {
    var source: SetSource
    var added: [SetElement]
    var removed: [SetElement]
  }

  mutating func insert(_ member: IPSetMember, _ id: IPSetID) -> Change? {
    let family = member.family
    switch member {
    case .net(let prefix) where prefix.isHost:
      guard hosts[family, default: []].insert(prefix.address).inserted else { return nil }
      return Change(source: .hosts(id, family), added: [.address(prefix.address)], removed: [])
    case .net(let prefix):
      let change = nets[family, default: PrefixCover()].insert(prefix)
      return Change(source: .nets(id, family), added: change.added.map { .prefix($0) }, removed: change.removed.map { .prefix($0) })
    case .addressPort:
      guard served[family, default: []].insert(member).inserted else { return nil }
      return Change(source: .served(id, family), added: [Self.element(member)], removed: [])
    }
  }
  mutating func remove(_ member: IPSetMember, _ id: IPSetID) -> Change? {
    let family = member.family
    switch member {
    case .net(let prefix) where prefix.isHost:
      guard hosts[family]?.remove(prefix.address) != nil else { return nil }
      return Change(source: .hosts(id, family), added: [], removed: [.address(prefix.address)])
    case .net(let prefix):
      guard let change = nets[family]?.remove(prefix) else { return nil }
      return Change(source: .nets(id, family), added: change.added.map { .prefix($0) }, removed: change.removed.map { .prefix($0) })
    case .addressPort:
      guard served[family]?.remove(member) != nil else { return nil }
      return Change(source: .served(id, family), added: [], removed: [Self.element(member)])
    }
  }

  func elements(of source: SetSource) -> Set<SetElement> {
    switch source {
    case .hosts(_, let family): Set((hosts[family] ?? []).map { .address($0) })
    case .nets(_, let family): Set((nets[family]?.outermost ?? []).map { .prefix($0) })
    case .served(_, let family): Set((served[family] ?? []).map(Self.element))
    case .literal(_, let elements): elements
    }
  }

  private static func element(_ member: IPSetMember) -> SetElement {
    guard case .addressPort(let address, let ipProtocol, let port) = member else {
      preconditionFailure("only addresses with ports are kept in `served`")
    }
    return SetElement(KeyOctets.concatenated(address.octets, [ipProtocol.number], KeyOctets.port(port)))
  }
}

extension SetSource {
  func spec(_ explanation: String) -> SetSpec {
    func type(_ family: IPFamily) -> KeyType { family == .v4 ? .ipv4 : .ipv6 }
    return switch self {
    case .hosts(_, let family): SetSpec(type(family), comment: explanation)
    case .nets(_, let family): SetSpec(type(family), isInterval: true, comment: explanation)
    case .served(_, let family): SetSpec(type(family), .protocolNumber, .port, comment: explanation)
    case .literal(let spec, _): spec
    }
  }
  var name: String? {
    switch self {
    case .hosts(let id, let family): KernelNames.hosts(id, family)
    case .nets(let id, let family): KernelNames.nets(id, family)
    case .served(let id, let family): KernelNames.served(id, family)
    case .literal: nil
    }
  }
  var id: IPSetID? {
    switch self {
    case .hosts(let id, _), .nets(let id, _), .served(let id, _): id
    case .literal: nil
    }
  }
}
