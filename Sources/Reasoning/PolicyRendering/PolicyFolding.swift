/// Many rules of one policy, so that a packet meets few of them.
///
/// Rules that name protocol and destination port exactly are found by one lookup: a map leads from protocol and port to a chain of the rules
/// that can match there, in their order, those that name no port in between. What has another port goes on with those alone. Each rule keeps its
/// words, its comment and its counter; one that names several ports may stand in several chains, and its counts add up.
///
/// A short policy of one protocol is left at its first rule by packets of any other, and does not repeat the protocol: the kernel checks
/// each word of every rule whenever a rule is added anywhere.

import Rulesets

struct PolicyFolding {
  /// By name; the policy's own chain is always there.
  private(set) var chains: [String: Chain] = [:]
  /// The map of ports, if there is one.
  private(set) var sets: [String: SetSource] = [:]

  /// A lookup costs as much as a dozen rules that do not match.
  static let dispatchMin = 12
  /// Protocols whose ports nft prints without being told the protocol in the same rule.
  private static let withPorts: Set<UInt8> = [6, 17, 132, 136]

  /// `literals` are the sets written in the rules.
  init(_ rules: [ChainRule], chain name: String, literals: [String: SetSource]) {
    if rules.count >= Self.dispatchMin, dispatch(rules, name, literals) { return }
    chains[name] = Chain(isPolicy: true, Self.hoisted(rules))
  }

  // MARK: By port

  private mutating func dispatch(_ rules: [ChainRule], _ name: String, _ literals: [String: SetSource]) -> Bool {
    let services = rules.map { Self.services($0, literals) }
    var indices: [[UInt8]: [Int]] = [:]
    for (index, keys) in services.enumerated() { for key in keys ?? [] { indices[key, default: []].append(index) } }
    let anywhere = services.indices.filter { services[$0] == nil }
    guard (rules.count - anywhere.count) * 2 >= Self.dispatchMin else { return false }
    // Ports with the same rules share a chain, named after the first of them.
    var ports: [[Int]: [[UInt8]]] = [:]
    for (key, exact) in indices { ports[(exact + anywhere).sorted(), default: []].append(key) }
    // Rules for any port are repeated in each chain: not without limit.
    guard ports.keys.reduce(0, { $0 + $1.count }) <= 4 * rules.count else { return false }
    var elements: Set<SetElement> = []
    for (members, keys) in ports {
      let part = KernelNames.part(of: name, keys.min { $0.lexicographicallyPrecedes($1) }!)
      chains[part] = Chain(isPolicy: true, members.map { rules[$0] })
      for key in keys { elements.insert(SetElement(key, data: .verdict(.goto(part)))) }
    }
    let spec = SetSpec(.protocolNumber, .port, data: .verdict)
    let map = KernelNames.literal("services", spec, elements)
    sets[map] = .literal(spec, elements)
    chains[name] = Chain(isPolicy: true, [ChainRule(.verdictMap([.transportProtocol, .destinationPort], map: map))] + anywhere.map { rules[$0] })
    return true
  }

  /// Every protocol with port that the rule can match; nil if there are too many to name.
  private static func services(_ rule: ChainRule, _ literals: [String: SetSource]) -> [[UInt8]]? {
    var protocols: [UInt8]?
    var ports: [[UInt8]]?
    for statement in rule.statements {
      switch statement {
      case .match(.transportProtocol, .equal, let value): protocols = value
      case .match(.destinationPort, .equal, let value): ports = [value]
      case .lookup(let fields, let set, false) where fields == [.transportProtocol] || fields == [.destinationPort]:
        guard case .literal(let spec, let elements)? = literals[set], !spec.isInterval else { break }
        if fields == [.destinationPort] { ports = elements.map(\.key) } else { protocols = elements.map { $0.key[0] } }
      default: break
      }
    }
    guard let protocols, let ports, protocols.allSatisfy(withPorts.contains) else { return nil }
    return protocols.flatMap { one in ports.map { KeyOctets.concatenated([one], $0) } }
  }

  // MARK: By protocol

  private static func hoisted(_ rules: [ChainRule]) -> [ChainRule] {
    guard rules.count > 2, let first = rules[0].transport, withPorts.contains(first), rules.allSatisfy({ $0.transport == first }) else {
      return rules
    }
    return [ChainRule(.transport(first, .notEqual), .return)]
      + rules.map { rule in
        var rule = rule
        rule.statements.removeAll { $0 == .transport(first) }
        return rule
      }
  }
}

extension ChainRule {
  /// The one protocol that it is about.
  fileprivate var transport: UInt8? {
    for statement in statements { if case .match(.transportProtocol, .equal, let value) = statement { return value[0] } }
    return nil
  }
}
