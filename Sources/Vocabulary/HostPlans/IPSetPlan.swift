/// Sets of addresses, as the plan names them.
import Addresses
import Resources

/// The identity of a set of addresses: the unique id of the selector (`s:…`), or of selector, protocol and port name (`n:…`).
public struct IPSetID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let text: String
  public init(_ text: String) { self.text = text }
  public static func < (a: Self, b: Self) -> Bool { a.text < b.text }
  public var description: String { text }
}

/// Sets that stand for a place in the cluster and not for a selector. The names are Calico's.
extension IPSetID {
  /// Connections from here to outside of `networkPools` leave with the host's address.
  public static let masqueradedPools = IPSetID("masq-ipam-pools")
  /// Every address that a workload may have.
  public static let networkPools = IPSetID("network-ip-pools")
  public static let hosts = IPSetID("all-hosts-net")
  /// Addresses that only translation makes sense of.
  public static let services = IPSetID("service-nets")
}

public enum IPSetMember: Hashable, Comparable, Sendable {
  case net(IPPrefix)
  case addressPort(IPAddress, NetworkProtocol, UInt16)
  public var family: IPFamily {
    switch self {
    case .net(let prefix): prefix.family
    case .addressPort(let address, _, _): address.family
    }
  }
  public static func < (a: Self, b: Self) -> Bool {
    switch (a, b) {
    case (.net(let a), .net(let b)): a < b
    case (.addressPort(let a, let p, let m), .addressPort(let b, let q, let n)): (a, p.number, m) < (b, q.number, n)
    case (.net, .addressPort): true
    case (.addressPort, .net): false
    }
  }
}

public struct IPSetPlan: Hashable, Sendable {
  public enum Content: Hashable, Sendable {
    case nets
    case addressPorts
  }
  public var content: Content
  /// Both families together; the driver splits them.
  public var members: Set<IPSetMember>
  /// The selector in words, for the comment in the kernel.
  public var explanation: String
  public init(content: Content, members: Set<IPSetMember>, explanation: String) {
    self.content = content
    self.members = members
    self.explanation = explanation
  }
}
