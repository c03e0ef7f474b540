/// What tables of others do to packets that ours accepts.
///
/// The verdict of one table cannot overrule another's: a packet passes when no table drops it. We never touch others' tables, so where one
/// drops whatever nobody there accepts (as Docker sets the policy of FORWARD), an operator has to open it, and must be told.

import Glibc
public import NetlinkEdge
import NetlinkMessages
import Octets
import Rulesets

/// A base chain of another table that drops forwarded packets which none of its rules accepts.
public struct DroppingChain: Hashable, Sendable, CustomStringConvertible {
  public var family: String
  public var table: String
  public var chain: String
  public var description: String {
    "table \(family) \(table): chain \(chain) drops forwarded packets that no rule there accepts, also those that policy allows"
  }
}

public enum OtherTables {
  /// Chains that drop by their policy, in tables none of whose rules names interfaces that begin with one of `prefixes`: where one does,
  /// somebody has thought of workloads.
  public static func dropping(
    namespace: CInt?, besides ours: String = "margay", prefixes: [String]
  ) throws(NetlinkError) -> [DroppingChain] {
    let socket = try NetlinkSocket(.netfilter, namespace: namespace, bufferOctets: 1 << 20)
    let names = prefixes.map { Array($0.utf8) }
    var found: [DroppingChain] = []
    for (number, family) in [(RulesetMessageType.familyInet, "inet"), (2, "ip"), (10, "ip6")] {
      let chains = try socket.dump(
        type: RulesetMessageType.getChain, what: "read chains of family \(family)",
        body: {
          $0.u8(number)
          $0.zeros(3)
        }
      ) { _, body throws(WireError) in try RulesetReading.chain(body: &body) }
      for item in chains where item.chain.hook?.point == .forward && item.chain.policy == 0 {
        if number == RulesetMessageType.familyInet, item.table == ours { continue }
        let isOpened = try socket.dump(
          type: RulesetMessageType.getRule, what: "read rules of table \(family) \(item.table)",
          body: {
            $0.u8(number)
            $0.zeros(3)
            $0.attribute(1, text: item.table)
          }
        ) { _, body throws(WireError) in
          let octets = body.rest()
          return names.contains { octets.contains($0) }
        }.contains(true)
        if !isOpened { found.append(DroppingChain(family: family, table: item.table, chain: item.name)) }
      }
    }
    return found
  }
}
