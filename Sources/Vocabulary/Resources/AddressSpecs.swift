/// What steers the assignment of addresses besides pools: reservations, the cluster's rules, and which node has which block.
import Addresses

/// Addresses that are assigned to nobody by themselves; whoever asks for one of them by name gets it.
public struct IPReservationSpec: Hashable, Sendable {
  public var reservedCIDRs: [IPPrefix] = []
  public init(reservedCIDRs: [IPPrefix] = []) { self.reservedCIDRs = reservedCIDRs }
}

/// The one object `default`. In etcd it is a view of `/calico/ipam/v2/config`.
public struct IPAMConfigurationSpec: Hashable, Sendable {
  public enum VMAddressPersistence: String, Hashable, Sendable, CaseIterable {
    case enabled = "Enabled"
    case disabled = "Disabled"
  }
  /// True: an address outside the node's own blocks is never given.
  public var strictAffinity = false
  /// False: a node has only the blocks that an administrator gave it.
  public var autoAllocateBlocks = true
  /// Zero means no limit but the built-in one.
  public var maxBlocksPerHost = 0
  /// Whether a virtual machine keeps its addresses when its pod is made anew; nil means the default, disabled.
  public var kubeVirtVMAddressPersistence: VMAddressPersistence?
  /// How long a released address is given to nobody else; nil means the default, zero.
  public var ipCooldownSeconds: Int?
  public init() {}
}

public struct BlockAffinitySpec: Hashable, Sendable {
  /// A block that is not confirmed is not routed.
  public enum State: String, Hashable, Sendable, CaseIterable {
    case confirmed, pending, pendingDeletion
  }
  /// `virtual` is not a node but a part of the cluster, such as the assignment of services' addresses.
  public enum Owner: String, Hashable, Sendable, CaseIterable {
    case host, virtual
  }
  public var state: State
  public var node: String
  /// Nil means the default, host.
  public var type: Owner?
  public var cidr: IPPrefix
  public var deleted = false
  public init(state: State, node: String, type: Owner? = nil, cidr: IPPrefix, deleted: Bool = false) {
    self.state = state
    self.node = node
    self.type = type
    self.cidr = cidr
    self.deleted = deleted
  }
}
