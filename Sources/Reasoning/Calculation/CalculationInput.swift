/// What the calculation hears: the present content of datastore keys, one at a time. An input states a fact; it is not an event.
///
/// The same fact may come twice, an older one may come again after a reconnect, and between two flushes only the last one per key counts.
import Addresses
import Resources

/// What routing needs to know of an IPAM block.
public struct BlockFact: Hashable, Sendable {
  /// The node that the block belongs to; nil for a block without affinity.
  public var affinity: String?
  /// Addresses of it that another node's workloads or tunnels have, with that node.
  public var borrowers: [IPAddress: String]
  public init(affinity: String?, borrowers: [IPAddress: String] = [:]) {
    self.affinity = affinity
    self.borrowers = borrowers
  }
}

public enum CalculationInput: Hashable, Sendable {
  /// The object under a key, or nil where there is none.
  ///
  /// Whoever remembers the last readable version of a policy whose stored text cannot be read hands that version in here: the calculation
  /// knows the present only, so its answer never depends on what it has seen before.
  case resource(ResourceKey, Resource?)
  case block(IPPrefix, BlockFact?)
  /// The first complete picture has been handed in; before this, `flush` answers nothing.
  case inSync
}
