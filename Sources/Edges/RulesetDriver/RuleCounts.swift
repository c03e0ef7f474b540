/// What the rules of our table have counted, for whoever asks now and then.
///
/// The kernel tells all rules or none, so reading costs what the table holds: callers keep the answer for a multiple of the time it took.
public import NetlinkEdge
import NetlinkMessages
import Octets
import Rulesets

public struct RuleCount: Hashable, Sendable {
  public var chain: String
  public var comment: String
  public var packets: UInt64
  public var octets: UInt64
}

public enum RuleCounts {
  /// Of all rules with a comment; `namespace` is a descriptor of a network namespace, nil is that of the calling thread.
  public static func read(table: String = "margay", namespace: CInt? = nil) throws(NetlinkError) -> [RuleCount] {
    let socket = try NetlinkSocket(.netfilter, namespace: namespace)
    return try socket.dump(
      type: RulesetMessageType.getRule, what: "read the counters of table inet \(table)",
      body: { writer in
        writer.u8(RulesetMessageType.familyInet)
        writer.zeros(3)
        writer.attribute(1, text: table)
      },
      decode: { _, body throws(WireError) -> RuleCount? in
        let item = try RulesetReading.rule(body: &body)
        let data = item.rule.userData
        // NFTNL_UDATA_RULE_COMMENT: 0, the length, the text and its end mark.
        guard item.table == table, data.count > 2, data[0] == 0, data.count >= 2 + Int(data[1]) else { return nil }
        let comment = String(decoding: data[2..<(2 + Int(data[1]))].prefix { $0 != 0 }, as: UTF8.self)
        return RuleCount(chain: item.chain, comment: comment, packets: item.rule.packets, octets: item.rule.octets)
      })
  }
}
