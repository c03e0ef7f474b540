/// What a Log rule writes into the kernel's log: the prefix as configured, and not too often.
///
/// The specifiers are Calico's: %t the tier, %k the kind in short, %n the name, %p the name with its namespace. Anything else behind a
/// percent sign stays as it is.

import HostPlans
import Resources
import Rulesets

struct LogRendering {
  let statements: [Statement]

  /// The kernel keeps 128 octets, of which the last is the end mark.
  static let prefixMax = 127

  init(_ settings: HostSettings, _ key: ResourceKey, tier: String) {
    let prefix = Self.prefix(settings.logPrefix, key, tier: key.kind == .profile ? "" : tier)
    let limit = settings.logLimit.map { RateLimit(packets: $0.packets, perSeconds: $0.unit.seconds, burst: $0.burst) }
    statements = (limit.map { [.limit($0)] } ?? []) + [.log(prefix: prefix)]
  }

  static func prefix(_ format: String, _ key: ResourceKey, tier: String) -> String {
    var text = ""
    var rest = Substring(format)
    while let sign = rest.popFirst() {
      guard sign == "%", let word = rest.first.flatMap({ Self.word($0, key, tier) }) else {
        text.append(sign)
        continue
      }
      text += word
      rest.removeFirst()
    }
    // A quote or a control sign would break the listing of the ruleset, or begin a line of its own in the log.
    var octets = text.utf8.map { $0 < 0x20 || $0 == 0x7f || $0 == UInt8(ascii: "\"") ? UInt8(ascii: " ") : $0 }
    let end = ": "
    if octets.count + end.utf8.count > prefixMax {
      octets.removeSubrange((prefixMax - end.utf8.count)...)
      while let last = octets.last, last & 0xc0 == 0x80 { octets.removeLast() }
      if let last = octets.last, last & 0x80 != 0 { octets.removeLast() }
    }
    return String(decoding: octets, as: UTF8.self) + end
  }

  private static func word(_ letter: Character, _ key: ResourceKey, _ tier: String) -> String? {
    switch letter {
    case "t": tier
    case "n": key.name
    case "p": key.qualifiedName
    case "k":
      switch key.kind {
      case .globalNetworkPolicy: "gnp"
      case .profile: "pro"
      default: "np"
      }
    default: nil
    }
  }
}
