/// What routing asks of an IPAM block as it is stored: whose it is, and which of its addresses are elsewhere.
import AddressAssignment
import AddressPlans
import Addresses
import Calculation
import JSON

enum BlockReading {
  static let prefixes = IPFamily.allCases.map { AddressKeys.blocks($0) }

  /// Nil for a key that is no block's. A block that cannot be read, or is being deleted, is nobody's.
  static func read(_ key: String, _ value: [UInt8]?) -> (IPPrefix, BlockFact?)? {
    guard let part = key.split(separator: "/").last, let cidr = AddressBook.cidr(keyPart: part) else { return nil }
    guard let value, let document = try? JSONValue(parsing: value), document["deleted"]?.bool != true,
      let block = try? AllocationBlock(parsing: document), block.cidr == cidr
    else { return (cidr, nil) }
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
