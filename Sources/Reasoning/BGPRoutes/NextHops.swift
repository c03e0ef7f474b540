/// BGP next hops, interned, with what the kernel's routes say about each. Resolution itself happens where the kernel's routes are
/// known; here a next hop is reachable at a cost, or not.

import Addresses

/// What is known of one BGP next hop.
public enum NextHopState: Hashable, Sendable {
  /// No route covers it: paths through it are not candidates (RFC 4271, section 9.1.2).
  case unresolvable
  /// Reachable; `interiorCost` is the metric of the covering route, 0 for a connected network.
  case resolvable(interiorCost: UInt32)
}

typealias NextHopID = Int32

struct NextHopTable: Sendable {
  private(set) var addresses: [IPAddress] = []
  private(set) var states: [NextHopState] = []
  /// How many paths go through it.
  private(set) var references: [Int32] = []
  private var ids: [IPAddress: NextHopID] = [:]
  /// Next hops that came into use or went out of use since last asked.
  var changedUse: [NextHopID] = []
  /// What a next hop is until its state arrives.
  let unknown: NextHopState

  init(unknown: NextHopState) { self.unknown = unknown }

  mutating func id(of address: IPAddress) -> NextHopID {
    if let id = ids[address] { return id }
    let id = NextHopID(addresses.count)
    addresses.append(address)
    states.append(unknown)
    references.append(0)
    ids[address] = id
    return id
  }

  mutating func retain(_ id: NextHopID) {
    references[Int(id)] += 1
    if references[Int(id)] == 1 { changedUse.append(id) }
  }

  mutating func release(_ id: NextHopID) {
    references[Int(id)] -= 1
    if references[Int(id)] == 0 { changedUse.append(id) }
  }

  /// True if the state differs from before.
  mutating func set(_ state: NextHopState, for id: NextHopID) -> Bool {
    guard states[Int(id)] != state else { return false }
    states[Int(id)] = state
    return true
  }
}
