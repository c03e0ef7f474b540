/// A watch as its reader sees it: batches on demand, then an error. Opens its stream when first asked, and closes it when nobody holds it.
import Datastore
import EtcdMessages
import NIOCore
import Synchronization

final class EtcdWatch: Sendable {
  private let client: EtcdClient
  private let prefixes: [String]
  private struct State {
    var inbox: WatchInbox?
    /// How far the reader is.
    var position: Revision
    var isInPieces = false
    var hasRenewed = false
  }
  private let state: Mutex<State>

  init(_ client: EtcdClient, prefixes: [String], after revision: Revision) {
    self.client = client
    self.prefixes = prefixes
    state = Mutex(State(position: revision))
  }

  deinit {
    guard let inbox = state.withLock({ $0.inbox }) else { return }
    inbox.end(.cancelled)
    client.unregister(inbox)
  }

  /// Nil when the task was cancelled.
  func next() async throws -> WatchBatch? {
    // Without a prefix there is nothing to hear of, and no range to ask for.
    while !Task.isCancelled {
      let inbox: WatchInbox
      if let present = state.withLock({ $0.inbox }) { inbox = present } else { inbox = try await open() }
      switch await inbox.take() {
      case .begun(let revision):
        // A server that is behind what the reader has seen is another one (its data was restored), or far behind: the reader must look anew.
        if revision < state.withLock({ $0.position }) {
          client.noteReplaced(at: revision.rawValue)
          drop()
          throw DatastoreError.compacted
        }
      case .batch(let batch):
        client.heard(batch.revision)
        state.withLock { state in
          state.position = batch.revision
          state.hasRenewed = false
        }
        return batch
      case .end(let end):
        drop()
        if case .cancelled = end { return nil }
        try resume(after: end)
      }
    }
    drop()
    return nil
  }

  /// Returns if the watch can be opened once more.
  private func resume(after end: WatchEnd) throws(DatastoreError) {
    switch end {
    case .cancelled: return
    case .client(let error): throw error
    case .compacted: throw .compacted
    case .broken(let reason): throw .unavailable("\(client.name): the watch ended: \(reason)")
    case .garbled(let reason): throw .unusable("\(client.name): \(reason)")
    case .tooLarge:
      let isNew = state.withLock { state in
        defer { state.isInPieces = true }
        return !state.isInPieces
      }
      if !isNew { throw .unusable("\(client.name): a change of more than \(Self.pieceMax >> 20) MiB") }
    case .refused(let status):
      let (user, endpoints) = (client.configuration.credentials?.user, client.configuration.endpoints)
      let reaction = EtcdProblem.reaction(
        to: status, from: endpoints[0], store: client.name, user: user, what: "watching \(prefixes.joined(separator: ", "))")
      switch reaction {
      case .elsewhere(let error), .doubtful(let error): throw error
      case .newToken(let error):
        if !renewOnce() { throw error }
      case .final(let error):
        // etcd 3.4 says "permission denied" of an old token, too.
        guard user != nil, status.message.contains("permission denied"), renewOnce() else { throw error }
      }
    }
  }
  private func renewOnce() -> Bool {
    let isFirst = state.withLock { state in
      defer { state.hasRenewed = true }
      return !state.hasRenewed
    }
    if isFirst { client.forgetToken() }
    return isFirst
  }

  /// A response of more than this is asked for in pieces: etcd cuts them slowly, so not from the start.
  static let messageMax = 32 << 20
  /// One piece holds at least one change, and a change is as large as etcd's --max-request-bytes.
  static let pieceMax = 256 << 20

  private func open() async throws(DatastoreError) -> WatchInbox {
    let inbox = WatchInbox()
    guard client.register(inbox) else { throw EtcdClient.closed }
    let (position, isInPieces) = state.withLock { state in
      state.inbox = inbox
      return (state.position, state.isInPieces)
    }
    do throws(DatastoreError) {
      let token = try await client.token()
      let connection = try await client.connection()
      let assembly = WatchAssembly(prefixes: prefixes)
      let request = EtcdWatchRequest(assembly.range, startRevision: position.rawValue + 1, allowsFragments: isInPieces)
      let headers = CallHeaders.make(
        .watch, authority: connection.endpoint.description, usesTLS: client.configuration.tls != nil, token: token)
      let deadline = NIODeadline.now() + TimeAmount(client.configuration.times.call)
      connection.open(
        { health in
          WatchCall(
            headers, request, assembly, deadline: deadline, messageMax: isInPieces ? Self.pieceMax : Self.messageMax, inbox, health)
        }, refused: { inbox.end(.broken($0)) })
      return inbox
    } catch {
      drop()
      throw error
    }
  }

  private func drop() {
    let inbox = state.withLock { state in
      defer { state.inbox = nil }
      return state.inbox
    }
    guard let inbox else { return }
    inbox.end(.cancelled)
    client.unregister(inbox)
  }
}
