/// What to put right in the records of addresses, by what is seen now and what was seen before.
///
/// Nothing is done at first sight but for what a lost node held: what looks wrong may be half of somebody's work. It has to look wrong in
/// the same way for the grace period, in every look in between: under one sequence number, at one revision of the handle or affinity. Whoever
/// carries an action out reads again what it depends on, and writes only if that was not changed meanwhile.
public import Addresses
public import Names

public enum AddressRepairAction: Hashable, Sendable {
  case release(IPAddress, handle: String?, sequence: UInt64, block: IPPrefix)
  /// Sets the handle's counts to what the blocks bear out. Revision nil: it has no record.
  case recount(handle: String, revision: Int64?, counts: [IPPrefix: Int64])
  /// The affinity's block is somebody else's, or not there.
  case dropAffinity(AddressCensus.AffinityName, revision: Int64)
  /// The affinity's block is its owner's: it was confirmed in all but name, or lost.
  case confirmAffinity(AddressCensus.AffinityName, revision: Int64?)
  /// The block goes back to nobody: deleted, or, of a node that is lost, without an owner if others hold addresses of it.
  case giveUp(AddressCensus.AffinityName, onlyIfEmpty: Bool)
  /// A block without owner and addresses.
  case deleteBlock(IPPrefix, revision: Int64)
}

public struct AddressRepair: Sendable {
  public struct Rules: Hashable, Sendable {
    /// For leaks and for half-made records.
    public var grace: Duration
    /// Empty blocks go when they were seen empty so many times.
    public var emptyLooks = 2
    public init(grace: Duration = .seconds(900)) { self.grace = grace }
    /// How often to look.
    public var interval: Duration { min(.seconds(300), grace / 2) }
  }
  private struct Seen: Sendable {
    var since: UTCTime
    var looks: Int
  }
  /// The actions that were due but for their time. An action is the same only if all that it was decided on is.
  private var waiting: [AddressRepairAction: Seen] = [:]
  /// Empty blocks, by their revision.
  private var empty: [AddressRepairAction: Seen] = [:]
  public init() {}
  /// What is waiting for its time, for status and metrics.
  public var suspectCount: Int { waiting.count }

  /// What is due now. Actions for the same block come one after the other; each is tried on its own.
  public mutating func decide(_ census: AddressCensus, at now: UTCTime, _ rules: Rules = Rules()) -> [AddressRepairAction] {
    var due: [AddressRepairAction] = []
    var suspects: [AddressRepairAction] = []
    let inUse = census.handlesInUse
    for (cidr, stored) in census.blocks {
      for (address, attribute, sequence) in stored.block.assignments where !attribute.handles.contains(where: inUse.contains) {
        let action = AddressRepairAction.release(address, handle: attribute.handleID, sequence: sequence, block: cidr)
        switch census.usage(address, attribute, in: stored.block) {
        case .inUse, .unknown: break
        case .unused: suspects.append(action)
        case .unusedOfLostNode: due.append(action)
        }
      }
    }
    suspects += miscountedHandles(census) + oddAffinities(census)
    var seen: [AddressRepairAction: Seen] = [:]
    for action in suspects {
      var history = waiting[action] ?? Seen(since: now, looks: 0)
      // A clock that was set back would make us wait for good.
      if now < history.since { history.since = now }
      history.looks += 1
      seen[action] = history
      if history.looks > 1, history.since.seconds(to: now) >= rules.grace { due.append(action) }
    }
    waiting = seen
    var emptySeen: [AddressRepairAction: Seen] = [:]
    // A block of a revision is the same block: the action for it carries none, so the revision is remembered beside it.
    for (action, revision) in emptyBlocks(census) {
      let name = AddressRepairAction.deleteBlock(action.block, revision: revision)
      let looks = (empty[name]?.looks ?? 0) + 1
      emptySeen[name] = Seen(since: now, looks: looks)
      if looks >= rules.emptyLooks { due.append(action) }
    }
    empty = emptySeen
    return due.sorted { $0.order < $1.order }
  }

  private func miscountedHandles(_ census: AddressCensus) -> [AddressRepairAction] {
    let held = census.held
    var actions: [AddressRepairAction] = []
    for handle in Set(held.keys).union(census.handles.keys) {
      let (stored, truth) = (census.handles[handle], held[handle] ?? [:])
      guard (stored?.counts ?? [:]).filter({ $0.value != 0 }) != truth || (truth.isEmpty && stored != nil) else { continue }
      let blocks = Set(truth.keys).union(Array((stored?.counts ?? [:]).keys))
      // A block that cannot be read may hold what is counted.
      if census.unreadable.isEmpty == false, blocks.contains(where: { census.blocks[$0] == nil }) { continue }
      actions.append(.recount(handle: handle, revision: stored?.revision, counts: truth))
    }
    return actions
  }

  private func oddAffinities(_ census: AddressCensus) -> [AddressRepairAction] {
    var actions: [AddressRepairAction] = []
    for (name, affinity) in census.affinities {
      let stored = census.blocks[name.cidr]
      if stored == nil, !census.unreadable.isEmpty { continue }
      if stored?.block.affinity != name.owner.affinity {
        actions.append(.dropAffinity(name, revision: affinity.revision))
      } else if !affinity.isConfirmed {
        actions.append(.confirmAffinity(name, revision: affinity.revision))
      }
    }
    for (cidr, stored) in census.blocks {
      guard let owner = stored.block.affinity.flatMap({ BlockOwner(affinity: $0) }), census.affinities[.init(owner, cidr)] == nil else { continue }
      actions.append(.confirmAffinity(.init(owner, cidr), revision: nil))
    }
    return actions
  }

  /// Empty blocks that nobody needs: without an owner, of lost nodes, and what a node has beyond its last one.
  private func emptyBlocks(_ census: AddressCensus) -> [(AddressRepairAction, revision: Int64)] {
    var actions: [(AddressRepairAction, revision: Int64)] = []
    var byOwner: [BlockOwner: [AddressCensus.Block]] = [:]
    for (cidr, stored) in census.blocks {
      if let owner = stored.block.affinity.flatMap({ BlockOwner(affinity: $0) }) {
        byOwner[owner, default: []].append(stored)
      } else if stored.block.affinity == nil, stored.block.isEmpty {
        actions.append((.deleteBlock(cidr, revision: stored.revision), stored.revision))
      }
    }
    for (owner, blocks) in byOwner {
      guard case .host(let node) = owner else { continue }
      let isLost = !census.nodes.isEmpty && !census.nodes.contains(node)
      for family in IPFamily.allCases {
        let own = blocks.filter { $0.block.cidr.family == family }.sorted { $0.block.cidr < $1.block.cidr }
        if isLost {
          // With addresses of others in it, it stays as nobody's; with its own node's, those go first.
          for stored in own where !stored.block.assignments.contains(where: { $0.attribute.secondary["node"] == node }) {
            actions.append((.giveUp(.init(owner, stored.block.cidr), onlyIfEmpty: false), stored.revision))
          }
        } else {
          let spare = own.filter(\.block.isEmpty)
          // The node's only block stays, however empty: its next workload would have to claim one again.
          for stored in spare.dropFirst(spare.count == own.count ? 1 : 0)
          where census.affinities[.init(owner, stored.block.cidr)]?.isConfirmed == true {
            actions.append((.giveUp(.init(owner, stored.block.cidr), onlyIfEmpty: true), stored.revision))
          }
        }
      }
    }
    return actions
  }
}

extension AddressRepairAction {
  /// The block of an action on one.
  fileprivate var block: IPPrefix {
    switch self {
    case .release(_, _, _, let block): block
    case .dropAffinity(let name, _), .confirmAffinity(let name, _), .giveUp(let name, _): name.cidr
    case .deleteBlock(let cidr, _): cidr
    case .recount(_, _, let counts): counts.keys.min() ?? IPPrefix("0.0.0.0/0")!
    }
  }
  /// Addresses first, then what counts them, then whose the blocks are.
  fileprivate var order: (Int, IPPrefix, String) {
    switch self {
    case .release(let address, _, _, let block): (0, block, "\(address)")
    case .recount(let handle, _, _): (1, block, handle)
    case .confirmAffinity(let name, _), .dropAffinity(let name, _): (2, name.cidr, name.owner.affinity)
    case .giveUp(let name, _): (3, name.cidr, name.owner.affinity)
    case .deleteBlock(let cidr, _): (3, cidr, "")
    }
  }
}

extension UTCTime {
  fileprivate func seconds(to later: UTCTime) -> Duration {
    .seconds(later.unixSeconds - unixSeconds) + .nanoseconds(Int64(later.nanoseconds) - Int64(nanoseconds))
  }
}

extension AddressRepairAction: CustomStringConvertible {
  public var description: String {
    switch self {
    case .release(let address, let handle, let sequence, _):
      "release \(address) of \(handle ?? "nobody") (sequence number \(sequence)): nothing uses it"
    case .recount(let handle, let revision, let counts):
      revision == nil
        ? "write the record of handle \(handle), which holds \(counts.values.reduce(0, +))"
        : counts.isEmpty ? "delete handle \(handle), which holds nothing" : "count handle \(handle) anew: \(counts.values.reduce(0, +))"
    case .dropAffinity(let name, _): "delete the affinity of \(name.owner) for \(name.cidr), which is not its block"
    case .confirmAffinity(let name, _): "confirm the affinity of \(name.owner) for \(name.cidr)"
    case .giveUp(let name, _): "give up block \(name.cidr) of \(name.owner): nothing of \(name.owner) is in it"
    case .deleteBlock(let cidr, _): "delete block \(cidr): it is empty and nobody's"
    }
  }
}
