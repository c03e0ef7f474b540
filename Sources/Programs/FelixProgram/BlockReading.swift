/// What routing asks of an IPAM block as it is stored: whose it is, and which of its addresses are elsewhere.
import AddressAssignment
import AddressPlans
import Addresses
import Calculation
import JSON

package enum BlockReading {
  package static let prefixes = IPFamily.allCases.map { AddressKeys.blocks($0) }

  /// Nil for a key that is no block's, and for a block that cannot be read: what was known of it before stays. One that is being deleted is
  /// nobody's.
  package static func read(_ key: String, _ value: [UInt8]?) -> (IPPrefix, BlockFact?)? {
    guard let part = key.split(separator: "/").last, let cidr = AddressBook.cidr(keyPart: part) else { return nil }
    guard let value else { return (cidr, nil) }
    guard let document = try? JSONValue(parsing: value) else { return nil }
    if document["deleted"]?.bool == true { return (cidr, nil) }
    guard let block = try? AllocationBlock(parsing: document), block.cidr == cidr else { return nil }
    var fact = BlockFact(affinity: nil)
    if let affinity = block.affinity, case .host(let node)? = BlockOwner(affinity: affinity) { fact.affinity = node }
    for (ordinal, index) in block.allocations.enumerated() {
      guard let index else { continue }
      let holder = block.attributes[index]
      // While a workload moves, traffic goes to where it arrives: the second holder.
      guard !holder.isCooling, let node = holder.alternate?.secondary["node"] ?? holder.secondary["node"], node != fact.affinity else { continue }
      fact.borrowers[block.address(ordinal)] = node
    }
    return (cidr, fact)
  }
}
