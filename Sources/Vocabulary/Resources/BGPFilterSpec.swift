/// Which routes a peer gets and gives, and what is changed in them on the way.
import Addresses

/// A community's value as Calico writes it: `65000:100` (RFC 1997), or `65000:1:2`, a large one (RFC 8092).
public enum CommunityValue: Hashable, Sendable, CustomStringConvertible {
  case standard(UInt16, UInt16)
  case large(UInt32, UInt32, UInt32)
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } }) else { return nil }
    if parts.count == 2, let a = UInt16(parts[0]), let b = UInt16(parts[1]) {
      self = .standard(a, b)
    } else if parts.count == 3, let a = UInt32(parts[0]), let b = UInt32(parts[1]), let c = UInt32(parts[2]) {
      self = .large(a, b, c)
    } else {
      return nil
    }
  }
  public var description: String {
    switch self {
    case .standard(let a, let b): "\(a):\(b)"
    case .large(let a, let b, let c): "\(a):\(b):\(c)"
    }
  }
}

/// The rules of a list are tried in order; the first that matches decides, and a route that none matches is accepted.
public struct BGPFilterSpec: Hashable, Sendable {
  public enum Match: String, Hashable, Sendable, CaseIterable {
    case equal = "Equal"
    case notEqual = "NotEqual"
    case within = "In"
    case notWithin = "NotIn"
  }
  public enum Source: String, Hashable, Sendable, CaseIterable {
    case remotePeers = "RemotePeers"
  }
  public enum PeerType: String, Hashable, Sendable, CaseIterable {
    case external = "eBGP"
    case `internal` = "iBGP"
  }
  public enum Action: String, Hashable, Sendable, CaseIterable {
    case accept = "Accept"
    case reject = "Reject"
  }
  public struct Lengths: Hashable, Sendable {
    public var min: UInt8?
    public var max: UInt8?
    public init(min: UInt8? = nil, max: UInt8? = nil) {
      self.min = min
      self.max = max
    }
  }
  public enum Operation: Hashable, Sendable {
    case addCommunity(CommunityValue)
    /// The first number is the first of the path afterwards.
    case prependASPath([UInt32])
    case setPriority(Int)
  }
  /// All that is given must match.
  public struct Rule: Hashable, Sendable {
    public var action: Action
    /// Always together with `matchOperator`.
    public var cidr: IPPrefix?
    public var matchOperator: Match?
    public var prefixLength: Lengths?
    public var source: Source?
    /// The name of an interface; `*` stands for any characters.
    public var interface: String?
    public var peerType: PeerType?
    public var communities: [CommunityValue] = []
    /// The numbers that the path begins with.
    public var asPathPrefix: [UInt32] = []
    /// The metric in the kernel.
    public var priority: Int?
    public var operations: [Operation] = []
    /// Why the rule cannot be applied as written. Whether it matches nobody knows, so that what follows it in the list is unsure, too.
    public var fault: String?
    public init(_ action: Action) { self.action = action }
  }
  public var exportV4: [Rule] = []
  public var importV4: [Rule] = []
  public var exportV6: [Rule] = []
  public var importV6: [Rule] = []
  public init() {}
}
