/// Which addresses each selector stands for: the members of the address sets that active rules refer to.
///
/// Items are all workload endpoints of the cluster and all network sets. A set lives as long as a rule demands it; what a set holds follows
/// from the present items alone. An update costs the sets whose membership it changes.
import Addresses
import HostPlans
import Names
import Resources
import Selectors

/// A set that some rule needs.
struct AddressSetDemand: Sendable {
  enum Membership: Hashable, Sendable {
    case nets
    /// The addresses of endpoints that name a port so, together with that port.
    case port(name: String, NetworkProtocol)
    /// The ready addresses of a service.
    case service(ServiceName)
    /// The same, each with the ports that it serves there.
    case servicePorts(ServiceName)
  }
  let id: IPSetID
  let membership: Membership
  /// Of endpoints and network sets; a service's set takes the slices of that service, whatever their labels.
  let selector: Selector?
  let explanation: String

  init(_ selector: Selector) {
    id = IPSetID(selector.uniqueID)
    membership = .nets
    self.selector = selector
    explanation = selector.canonical
  }
  init(port name: String, _ ipProtocol: NetworkProtocol, of selector: Selector) {
    id = IPSetID(uniqueID(prefix: "n", text: "\(selector.uniqueID),\(ipProtocol.description.lowercased()),\(name)"))
    membership = .port(name: name, ipProtocol)
    self.selector = selector
    explanation = "port \(name)/\(ipProtocol.description.lowercased()) of \(selector.canonical)"
  }
  init(service: ServiceName, withPorts: Bool) {
    id = IPSetID(uniqueID(prefix: withPorts ? "svc" : "svcnoport", text: "\(service)"))
    membership = withPorts ? .servicePorts(service) : .service(service)
    selector = nil
    explanation = "service \(service)"
  }
}

struct ServiceName: Hashable, Sendable, CustomStringConvertible {
  var namespace: String
  var name: String
  var description: String { "\(namespace)/\(name)" }
}

struct AddressSets: Sendable {
  /// What an object contributes to the sets it belongs to.
  struct Holding: Hashable, Sendable {
    var nets: [IPPrefix]
    var ports: [WorkloadEndpointSpec.NamedPort]
    init(nets: [IPPrefix], ports: [WorkloadEndpointSpec.NamedPort] = []) {
      // The same prefix twice in one object is one claim.
      var seen: Set<IPPrefix> = []
      self.nets = nets.count < 2 ? nets : nets.filter { seen.insert($0).inserted }
      var seenPorts: Set<WorkloadEndpointSpec.NamedPort> = []
      self.ports = ports.count < 2 ? ports : ports.filter { seenPorts.insert($0).inserted }
    }
  }
  private struct AddressSet: Sendable {
    let demand: AddressSetDemand
    var references = 0
    var trie = OverlapTrie()
    var ports: [IPSetMember: Int] = [:]
    var delta = MemberDelta()
    /// True until the first flush has told of it.
    var isNew = true

    mutating func add(_ holding: Holding) {
      switch demand.membership {
      case .nets, .service: for net in holding.nets { trie.insert(net, into: &delta) }
      case .port(let name, let ipProtocol): holding.forEachPort(name, ipProtocol) { appear($0) }
      case .servicePorts: holding.forEachPort { appear($0) }
      }
    }
    private mutating func appear(_ member: IPSetMember) {
      ports[member, default: 0] += 1
      if ports[member] == 1 { delta.appear(member) }
    }
    private mutating func disappear(_ member: IPSetMember) {
      ports[member]! -= 1
      if ports[member] == 0 {
        ports[member] = nil
        delta.disappear(member)
      }
    }
    mutating func remove(_ holding: Holding) {
      switch demand.membership {
      case .nets, .service: for net in holding.nets { trie.remove(net, into: &delta) }
      case .port(let name, let ipProtocol): holding.forEachPort(name, ipProtocol) { disappear($0) }
      case .servicePorts: holding.forEachPort { disappear($0) }
      }
    }
    var plan: IPSetPlan {
      switch demand.membership {
      case .nets, .service: IPSetPlan(content: .nets, members: trie.visible, explanation: demand.explanation)
      case .port, .servicePorts: IPSetPlan(content: .addressPorts, members: Set(ports.keys), explanation: demand.explanation)
      }
    }
  }

  private var index = LabelIndex()
  private var holdings = Arena<Holding>()
  private var itemByKey: [ResourceKey: Int] = [:]
  private var sets = Arena<AddressSet>()
  private var setByID: [IPSetID: Int] = [:]
  private var touched: Set<Int> = []
  /// What each slice contributes to its service; the sets of a service are few, and looked up when one of its slices changes.
  private var slices: [ResourceKey: (service: ServiceName, holding: Holding)] = [:]
  private var slicesByService: [ServiceName: Set<ResourceKey>] = [:]

  init() {}

  // MARK: Items

  mutating func place(_ key: ResourceKey, _ shape: LabelIndex.Shape, _ holding: Holding) {
    let item: Int
    let previous: Holding
    if let known = itemByKey[key] {
      item = known
      previous = holdings[item]
      holdings[item] = holding
    } else {
      previous = Holding(nets: [])
      item = holdings.add(holding)
      itemByKey[key] = item
    }
    let move = index.place(item, shape)
    for set in move.after where !move.before.contains(set) { change(set) { $0.add(holding) } }
    if previous != holding {
      for set in move.after where move.before.contains(set) {
        change(set) {
          $0.add(holding)
          $0.remove(previous)
        }
      }
    }
    for set in move.before where !move.after.contains(set) { change(set) { $0.remove(previous) } }
  }

  mutating func remove(_ key: ResourceKey) {
    guard let item = itemByKey.removeValue(forKey: key) else { return }
    let holding = holdings[item]
    for set in index.remove(item) { change(set) { $0.remove(holding) } }
    holdings.remove(item)
  }

  /// A slice of a service's endpoints; nil where there is none.
  mutating func place(slice key: ResourceKey, of service: ServiceName?, _ holding: Holding) {
    let old = slices.removeValue(forKey: key)
    if let service {
      slices[key] = (service, holding)
      slicesByService[service, default: []].insert(key)
      for set in sets(of: service) { change(set) { $0.add(holding) } }
    }
    if let old {
      for set in sets(of: old.service) { change(set) { $0.remove(old.holding) } }
      guard old.service != service else { return }
      slicesByService[old.service]!.remove(key)
      if slicesByService[old.service]!.isEmpty { slicesByService[old.service] = nil }
    }
  }

  private func sets(of service: ServiceName) -> [Int] {
    [false, true].compactMap { setByID[AddressSetDemand(service: service, withPorts: $0).id] }
  }

  mutating func setParent(_ name: String, labels: [String: String]?) {
    for shift in index.setParent(name, labels: labels) {
      for item in shift.items {
        let holding = holdings[item]
        for set in shift.gained { change(set) { $0.add(holding) } }
        for set in shift.lost { change(set) { $0.remove(holding) } }
      }
    }
  }

  private mutating func change(_ set: Int, _ body: (inout AddressSet) -> Void) {
    body(&sets[set])
    touched.insert(set)
  }

  // MARK: Demand

  mutating func demand(_ demand: AddressSetDemand) {
    if let set = setByID[demand.id] {
      sets[set].references += 1
      touched.insert(set)
      return
    }
    let set = sets.add(AddressSet(demand: demand, references: 1))
    setByID[demand.id] = set
    switch demand.membership {
    case .service(let service), .servicePorts(let service):
      for slice in slicesByService[service] ?? [] { sets[set].add(slices[slice]!.holding) }
    case .nets, .port: for item in index.add(demand.selector!, as: set) { sets[set].add(holdings[item]) }
    }
    touched.insert(set)
  }

  /// The set goes with the next `drain`, unless it is demanded again before.
  mutating func release(_ id: IPSetID) {
    let set = setByID[id]!
    sets[set].references -= 1
    touched.insert(set)
  }

  /// What changed since the last call: new sets and changed members first in rank, then removals.
  mutating func drain() -> [HostPlanChange] {
    var changes: [HostPlanChange] = []
    for set in touched {
      let id = sets[set].demand.id
      if sets[set].references == 0 {
        if !sets[set].isNew { changes.append(.ipSetRemoved(id)) }
        if sets[set].demand.selector != nil { index.removeSelector(set) }
        setByID[id] = nil
        sets.remove(set)
      } else if sets[set].isNew {
        changes.append(.ipSet(id, sets[set].plan))
        sets[set].isNew = false
        sets[set].delta = MemberDelta()
      } else if !sets[set].delta.isEmpty {
        changes.append(.ipSetMembers(id, added: sets[set].delta.added, removed: sets[set].delta.removed))
        sets[set].delta = MemberDelta()
      }
    }
    touched.removeAll()
    return changes
  }

  /// As they stand now, told or not.
  var plans: [IPSetID: IPSetPlan] { setByID.mapValues { sets[$0].plan } }
}

extension AddressSets.Holding {
  func forEachPort(_ body: (IPSetMember) -> Void) {
    for port in ports {
      for net in nets where net.isHost { body(.addressPort(net.address, port.ipProtocol, port.port)) }
    }
  }
  func forEachPort(_ name: String, _ ipProtocol: NetworkProtocol, _ body: (IPSetMember) -> Void) {
    for port in ports where port.name == name && port.ipProtocol == ipProtocol {
      for net in nets where net.isHost { body(.addressPort(net.address, ipProtocol, port.port)) }
    }
  }
}
