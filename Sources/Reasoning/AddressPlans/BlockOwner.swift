/// Who a block belongs to: a node, whose workloads and tunnels get its addresses, or a virtual owner, as the load balancer's addresses have.

public enum BlockOwner: Hashable, Comparable, Sendable, CustomStringConvertible {
  case host(String)
  case virtual(String)

  /// Calico's owner of the addresses of services.
  public static let loadBalancer = BlockOwner.virtual("load-balancer")

  /// As a block writes it: `host:<node>`.
  public init?(affinity text: String) {
    guard let colon = text.firstIndex(of: ":") else { return nil }
    let name = String(text[text.index(after: colon)...])
    switch text[..<colon] {
    case "host": self = .host(name)
    case "virtual": self = .virtual(name)
    default: return nil
    }
  }
  public var affinity: String { "\(keyPart):\(name)" }
  /// `host` or `virtual`, the part of an affinity's key.
  public var keyPart: String {
    switch self {
    case .host: "host"
    case .virtual: "virtual"
    }
  }
  public var name: String {
    switch self {
    case .host(let name), .virtual(let name): name
    }
  }
  public var isHost: Bool { if case .host = self { true } else { false } }
  public var description: String { isHost ? "node \(name)" : name }
}
