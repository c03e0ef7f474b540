/// The decision process: which path to a prefix is used. The ladder is data; each rung narrows the set of candidates and the
/// rung that left one alone is the reason, so that a person can be told why.

import Addresses

/// Why a path won, in the order of the ladder.
///
/// Local routes, then preference, then the tie-breaks of RFC 4271, section 9.1.2.2, by letter; RFC 4456, section 9, lets the
/// originator stand for the router and adds the cluster list. RFC 4271 (f) compares identifiers also between external paths; the
/// older path is not favoured (RFC 5004 would), since the answer would then depend on the order of arrival.
public enum DecisionStep: UInt8, Sendable, CaseIterable, CustomStringConvertible {
  /// There was no other candidate.
  case only
  case local
  case localPreference
  case pathLength
  case origin
  case multiExitDiscriminator
  case external
  case interiorCost
  case routerID
  case clusterListLength
  case peerAddress

  static let ladder: [DecisionStep] = [
    .local, .localPreference, .pathLength, .origin, .multiExitDiscriminator, .external, .interiorCost, .routerID,
    .clusterListLength, .peerAddress,
  ]

  public var description: String {
    switch self {
    case .only: "only path"
    case .local: "local route"
    case .localPreference: "higher local preference"
    case .pathLength: "shorter AS path"
    case .origin: "lower origin"
    case .multiExitDiscriminator: "lower MED from the same neighbour AS"
    case .external: "external over internal"
    case .interiorCost: "lower interior cost"
    case .routerID: "lower router or originator identifier"
    case .clusterListLength: "shorter cluster list"
    case .peerAddress: "lower peer address"
    }
  }
}

/// What the ladder looks at: integers only.
struct Candidate: Sendable {
  var path: Int32
  var isLocal = false
  var isExternal = false
  var origin: UInt8 = 0
  var localPreference: UInt32 = 100
  var pathLength: UInt32 = 0
  var multiExitDiscriminator: UInt32 = 0
  var neighbourAS: UInt32 = 0
  var interiorCost: UInt32 = 0
  var routerID: UInt32 = 0
  var clusterListLength: UInt32 = 0
  /// The place of the peer's address among all peers' addresses.
  var peerRank: Int32 = 0

  /// Lower is better. MED has no such key: it orders only within a neighbour AS.
  @inline(__always)
  func key(_ step: DecisionStep) -> UInt32 {
    switch step {
    case .local: isLocal ? 0 : 1
    case .localPreference: ~localPreference
    case .pathLength: pathLength
    case .origin: UInt32(origin)
    case .external: isExternal || isLocal ? 0 : 1
    case .interiorCost: interiorCost
    case .routerID: routerID
    case .clusterListLength: clusterListLength
    case .peerAddress: UInt32(bitPattern: peerRank)
    case .only, .multiExitDiscriminator: 0
    }
  }
}

/// Reusable space for one decision.
struct Decision: Sendable {
  var candidates: [Candidate] = []
  /// The paths that tie with the best up to and including `.interiorCost`, the best first: what may share traffic.
  var multipath: [Int32] = []

  /// Narrows `candidates` to the best. Each rung narrows the set, as the RFC words it: MED does not order pairs.
  mutating func decide() -> (path: Int32, because: DecisionStep)? {
    multipath.removeAll(keepingCapacity: true)
    guard let first = candidates.first else { return nil }
    if candidates.count == 1 {
      multipath.append(first.path)
      return (first.path, .only)
    }
    var because = DecisionStep.only
    for step in DecisionStep.ladder {
      if candidates.count > 1 {
        let before = candidates.count
        step == .multiExitDiscriminator ? narrowByMED() : narrow(step)
        if candidates.count < before { because = step }
      }
      if step == .interiorCost { multipath.append(contentsOf: candidates.lazy.map(\.path)) }
    }
    let best = candidates[0].path
    if let index = multipath.firstIndex(of: best), index > 0 { multipath.swapAt(0, index) }
    return (best, because)
  }

  private mutating func narrow(_ step: DecisionStep) {
    var best = candidates[0].key(step)
    for index in 1..<candidates.count { best = min(best, candidates[index].key(step)) }
    keep { $0.key(step) == best }
  }

  /// RFC 4271, section 9.1.2.2 (c): a path goes if another of the same neighbour AS has a lower MED. Sets are small, so pairs do.
  private mutating func narrowByMED() {
    var kept = 0
    let all = candidates
    for candidate in all
    where !all.contains(where: {
      $0.neighbourAS == candidate.neighbourAS && $0.isLocal == candidate.isLocal
        && $0.multiExitDiscriminator < candidate.multiExitDiscriminator
    }) {
      candidates[kept] = candidate
      kept += 1
    }
    candidates.removeLast(candidates.count - kept)
  }

  private mutating func keep(_ isKept: (Candidate) -> Bool) {
    var kept = 0
    for index in candidates.indices where isKept(candidates[index]) {
      if kept != index { candidates[kept] = candidates[index] }
      kept += 1
    }
    candidates.removeLast(candidates.count - kept)
  }
}
