/// The steps of the protocol by name, so that a test can stop a process before or after any of them and count that each was reached.
///
/// Each is one transaction: what it writes is there as a whole or not at all.

public enum AddressStep: String, CaseIterable, Hashable, Sendable {
  /// An address of the node's own block, with the handle's count.
  case assignOwn = "assign-own"
  /// The same, of a block whose affinity or block another program's steps left unfinished.
  case finishAffinity = "finish-affinity"
  /// A block that nobody had, its affinity and the first address.
  case claim
  /// An empty block that another owner left, both affinities and the first address.
  case reclaim
  case borrow
  case assignExact = "assign-exact"
  case release
  /// An affinity whose block another owner won.
  case dropAffinity = "drop-affinity"
  /// A block goes back to nobody, with its affinity.
  case giveUp = "give-up"
  /// A count that no block bears out.
  case healHandle = "heal-handle"
}

public enum AddressMoment: String, CaseIterable, Hashable, Sendable {
  case before, after
}

/// Hears of each step. Nil costs a comparison.
public typealias AddressStepHook = @Sendable (AddressStep, AddressMoment) -> Void
