/// The sessions' word to the datastore, under a lease: established or not, since when, and why not. Written when one of these changes; the
/// attempts of a session that does not come up are no news.
import BGPMessages
import BGPSessions
import Datastore
import JSON
import Names

final class SessionReporter {
  let leased: LeasedKeys
  private let key: String
  private var known: [String: (isUp: Bool, since: UTCTime)] = [:]
  private var told: JSONValue?

  init(_ datastore: any Datastore, node: String) {
    key = StatusKeys.bgp(host: node)
    leased = LeasedKeys(datastore, prefixes: [], inherit: Self.inherit)
  }

  func report(_ speaker: Speaker, _ terms: LeasedKeys.Terms) {
    var now: [String: (isUp: Bool, since: UTCTime)] = [:]
    let sessions = speaker.peers.values.sorted { $0.plan.name < $1.plan.name }.map { peer -> JSONValue in
      let isUp = peer.session.state == .established
      let before = known[peer.plan.name]
      let since = before?.isUp == isUp ? before!.since : UTCTime.now()
      now[peer.plan.name] = (isUp, since)
      var value: JSONValue = [
        "name": .string(peer.plan.name), "peer": .string("\(peer.plan.peer)"), "peerAS": .integer(Int64(peer.plan.peerAS.rawValue)),
        "established": .bool(isUp), "since": .string(since.text),
      ]
      if !isUp, let error = peer.session.lastError { value["reason"] = .string(error.text) }
      return value
    }
    known = now
    let problems = (speaker.storedProblems + (speaker.plan?.problems ?? []) + speaker.problems).prefix(50).map { JSONValue.string($0) }
    let document: JSONValue = ["sessions": .array(sessions), "problems": .array(Array(problems))]
    if document != told {
      told = document
      leased.want(document.bytes(pretty: false), for: key)
    }
    leased.begin(terms, prefixes: [])
  }

  /// Sessions that stand as an earlier run reported them keep their time.
  static func inherit(wanted: [UInt8], standing: [UInt8]) -> [UInt8] {
    guard var new = try? JSONValue(parsing: wanted), let old = try? JSONValue(parsing: standing), let sessions = new["sessions"]?.array
    else { return wanted }
    new["sessions"] = .array(
      sessions.map { session in
        let before = old["sessions"]?.array?.first { $0["name"] == session["name"] }
        guard let since = before?["since"], before?["established"] == session["established"] else { return session }
        var kept = session
        kept["since"] = since
        return kept
      })
    return new.bytes(pretty: false)
  }
}
