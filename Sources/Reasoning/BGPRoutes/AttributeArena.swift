/// Attribute sets, stored once each and named by a number: a reflector holds very many routes and few sets. Beside the values stand
/// their summaries, the integers that the decision process reads.

import Addresses
import BGPMessages

typealias AttributeID = Int32

/// What the decision process looks at.
struct AttributeSummary: Sendable {
  var nextHop: NextHopID
  /// RFC 4271, section 9.1.1: routes of external peers get the local default, 100.
  var localPreference: UInt32
  var pathLength: UInt32
  var multiExitDiscriminator: UInt32
  /// 0 where the path is empty or begins with a set: such paths came from our own AS, and compare among themselves.
  var neighbourAS: UInt32
  var clusterListLength: UInt32
  var originatorID: RouterID?
  var origin: UInt8
}

struct AttributeArena: Sendable {
  private(set) var values: [PathAttributes] = []
  private(set) var summaries: [AttributeSummary] = []
  private var references: [Int32] = []
  private var ids: [PathAttributes: AttributeID] = [:]
  private var free: [AttributeID] = []
  /// Sets that had no user at some moment since the last sweep.
  private var idle: [AttributeID] = []

  var count: Int { values.count - free.count }
  subscript(id: AttributeID) -> PathAttributes { values[Int(id)] }

  /// The number of a set; a new one lives until `sweep` unless it is retained.
  mutating func intern(_ attributes: PathAttributes, _ nextHops: inout NextHopTable) -> AttributeID {
    if let id = ids[attributes] { return id }
    let summary = AttributeSummary(
      nextHop: nextHops.id(of: attributes.nextHop.address), localPreference: attributes.localPreference ?? 100,
      pathLength: UInt32(attributes.asPath.length), multiExitDiscriminator: attributes.multiExitDiscriminator ?? 0,
      neighbourAS: attributes.asPath.neighborAS?.rawValue ?? 0, clusterListLength: UInt32(attributes.clusterList.count),
      originatorID: attributes.originatorID, origin: attributes.origin.rawValue)
    let id: AttributeID
    if let unused = free.popLast() {
      id = unused
      values[Int(id)] = attributes
      summaries[Int(id)] = summary
    } else {
      id = AttributeID(values.count)
      values.append(attributes)
      summaries.append(summary)
      references.append(0)
    }
    ids[attributes] = id
    idle.append(id)
    return id
  }

  mutating func retain(_ id: AttributeID) { references[Int(id)] += 1 }

  mutating func release(_ id: AttributeID) {
    references[Int(id)] -= 1
    precondition(references[Int(id)] >= 0, "an attribute set is released as often as it was retained")
    if references[Int(id)] == 0 { idle.append(id) }
  }

  /// Forgets sets that nobody uses.
  mutating func sweep() {
    for id in idle where references[Int(id)] == 0 {
      // A set may be listed twice.
      guard ids[values[Int(id)]] == id else { continue }
      ids[values[Int(id)]] = nil
      values[Int(id)] = PathAttributes(nextHop: .v4(.unspecified), asPath: ASPath([ASNumber(UInt32(bitPattern: id)), 0]))
      free.append(id)
    }
    idle.removeAll(keepingCapacity: true)
  }
}
