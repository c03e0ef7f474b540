/// What etcd refuses, as the errors of the datastore, in words for the person who must act.
///
/// etcd has few codes and many sentences: the sentences are what tells one problem from another. They have not changed since 3.1
/// (`api/v3rpc/rpctypes/error.go`).
import Datastore

enum EtcdProblem {
  /// What to do about a refusal.
  enum Reaction: Equatable {
    /// Tell the caller.
    case final(DatastoreError)
    /// It was not carried out, and this member cannot do it: ask another.
    case elsewhere(DatastoreError)
    /// It may have been carried out, or not; this member cannot tell.
    case doubtful(DatastoreError)
    /// The token has ended: a new one, and again. The error is for when that does not help.
    case newToken(DatastoreError)
  }

  /// - Parameters:
  ///   - store: the name of the cluster, for messages.
  ///   - what: what was asked, as in "writing /calico/a and 3 more keys".
  static func reaction(
    to status: GRPCStatus, from endpoint: EtcdEndpoint, store: String, user: String?, what: @autoclosure () -> String
  ) -> Reaction {
    let words = status.message
    func has(_ sentence: String) -> Bool { words.contains(sentence) }
    if has("required revision has been compacted") || has("required revision is a future revision") { return .final(.compacted) }
    if has("requested lease not found") { return .final(.leaseNotFound) }
    if has("invalid auth token") || has("revision of auth store is old") {
      return .newToken(.unavailable("\(store): \(endpoint) does not accept the token that it gave us"))
    }
    if has("user name is empty") {
      return .final(.refused("\(store) asks who we are: set ETCD_USERNAME and ETCD_PASSWORD"))
    }
    if has("authentication failed") {
      return .final(
        .refused("\(store) does not know user \(user ?? "?") with this password: check ETCD_USERNAME and ETCD_PASSWORD"))
    }
    if has("permission denied") {
      let who = user.map { "user \($0)" } ?? "this client"
      return .final(
        .refused("\(store): \(who) lacks permission for \(what()); grant it with `etcdctl role grant-permission ROLE readwrite --prefix /calico`"))
    }
    if has("too many operations in txn request") {
      return .final(.refused("\(store): \(what()) is more than one transaction may hold (128 unless etcd's --max-txn-ops says otherwise)"))
    }
    if has("request is too large") || has("received message larger than max") {
      return .final(.refused("\(store): \(what()) is larger than etcd takes (1.5 MiB unless its --max-request-bytes says otherwise)"))
    }
    if has("database space exceeded") {
      return .final(
        .unavailable(
          "\(store) is full (alarm NOSPACE) and refuses to write: compact and defragment it, then `etcdctl alarm disarm`; or raise --quota-backend-bytes"
        ))
    }
    if has("no leader") || has("raft proposal dropped") {
      return .elsewhere(.unavailable("\(store): \(endpoint) answers, but sees no leader; have most of its members gone?"))
    }
    if has("request timed out") || has("leader changed") {
      return .doubtful(.unavailable("\(store): \(endpoint) answers, but its cluster does not decide (\(short(words))); have most of its members gone?"))
    }
    if has("server stopped") || has("transport is closing") || has("server is shutting down") {
      return .doubtful(.unavailable("\(store): \(endpoint) is stopping"))
    }
    if status.code == 12 { return .final(.unusable("\(store): \(endpoint) does not know etcd's v3 API")) }
    let error = DatastoreError.unavailable("\(store): \(endpoint): \(short(words)) (gRPC status \(status.code))")
    return status.code == GRPCStatus.unavailable ? .doubtful(error) : .final(error)
  }

  private static func short(_ words: String) -> String { words.hasPrefix("etcdserver: ") ? String(words.dropFirst(12)) : words }
}
