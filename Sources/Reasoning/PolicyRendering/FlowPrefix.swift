/// What the kernel says of a packet that one of our rules ended: the prefix of its message, in Calico's form.
///
/// `DPI2|np/shop/web` is a packet denied by rule 3 of a policy, on its way in; `DPE|security` by the end of a tier, on its way out; `DRI|` by
/// the end of the profiles. The message goes to group 1 for packets into, to group 2 for packets out of a workload. Without a listener the
/// kernel makes none, so that a rule that nobody asks about costs next to nothing.

public import HostPlans
public import Resources
import Rulesets

public struct FlowPrefix: Hashable, Sendable {
  public enum Place: Hashable, Sendable {
    /// A policy or profile by `id`, and the index of the rule as people wrote it.
    case rule(String, index: Int)
    case endOfTier(String)
    case endOfProfiles
    /// A policy or profile that does not exist.
    case missing(String)
    /// Before any policy, in words.
    case frame(String)
  }
  public var direction: Direction
  public var place: Place
  public init(_ direction: Direction, _ place: Place) {
    self.direction = direction
    self.place = place
  }

  /// `np/shop/web`, `gnp/guard`, `pro/kns.shop`; a name that is too long for the kernel loses its middle.
  public static func id(_ key: ResourceKey) -> String {
    let text = "\(key.kind == .profile ? "pro" : key.kind == .globalNetworkPolicy ? "gnp" : "np")/\(key.qualifiedName)"
    guard text.utf8.count > idMax else { return text }
    var start = Array(text.utf8.prefix(idMax - 22))
    while let last = start.last, last & 0x80 != 0 { start.removeLast() }
    return String(decoding: start, as: UTF8.self) + "~" + KernelNames.digest(text)
  }
  private static let idMax = 110

  public static let groups: [Direction: UInt16] = [.ingress: 1, .egress: 2]

  public var text: String {
    let way = direction == .ingress ? "I" : "E"
    return switch place {
    case .rule(let id, let index): "D\(id.hasPrefix("pro/") ? "R" : "P")\(way)\(index)|\(id)"
    case .endOfTier(let name): "DP\(way)|\(name)"
    case .endOfProfiles: "DR\(way)|"
    case .missing(let id): "DM\(way)|\(id)"
    case .frame(let words): "DF\(way)|\(words)"
    }
  }

  public init?(_ text: String) {
    guard let bar = text.firstIndex(of: "|") else { return nil }
    let id = String(text[text.index(after: bar)...])
    var head = text[..<bar]
    guard head.popFirst() == "D", let owner = head.popFirst(), let way = head.popFirst(), way == "I" || way == "E" else { return nil }
    direction = way == "I" ? .ingress : .egress
    switch (owner, Int(head)) {
    case ("P", let index?), ("R", let index?): place = .rule(id, index: index)
    case ("P", nil): place = .endOfTier(id)
    case ("R", nil): place = .endOfProfiles
    case ("M", nil): place = .missing(id)
    case ("F", nil): place = .frame(id)
    default: return nil
    }
  }

  var telling: [Statement] { [.logGroup(Self.groups[direction]!, prefix: text)] }
}
