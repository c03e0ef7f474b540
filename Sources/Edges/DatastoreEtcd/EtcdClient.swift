/// Calls to a cluster: over whichever member answers, once more where that is safe, with a token where the cluster wants one.
///
/// A call that was possibly carried out is not repeated unless it only reads: its writer hears that nobody knows, and looks.
import Datastore
import EtcdMessages
import NIOCore
import Octets
import Synchronization

final class EtcdClient: Sendable {
  let configuration: EtcdConfiguration
  var name: String { configuration.name }

  private struct State {
    var choice: EndpointChoice
    var current: EtcdConnection?
    /// Numbers the connections, because one can end before whoever dials knows it.
    var generation = 0
    var ended = 0
    var isDialing = false
    var waiters: [CheckedContinuation<Result<EtcdConnection, DatastoreError>, Never>] = []
    var roundEnded: ContinuousClock.Instant?
    var tls: TLSSide?
    var token: String?
    var authentication: Task<Result<String, DatastoreError>, Never>?
    var clusterID: UInt64?
    var isClosed = false
    var watches: [ObjectIdentifier: WatchInbox] = [:]
    var report = DatastoreConnection()
  }
  private let state: Mutex<State>
  static let answerMax = 32 << 20

  init(_ configuration: EtcdConfiguration) throws(DatastoreError) {
    self.configuration = configuration
    var tls: TLSSide?
    do { tls = try configuration.tls.map(TLSSide.init) } catch { throw .unusable("\(configuration.name): \(error)") }
    let side = tls
    let start = Int.random(in: configuration.endpoints.indices)
    state = Mutex(State(choice: EndpointChoice(configuration.endpoints, startingAt: start), tls: side))
  }

  static let closed = DatastoreError.unavailable("it was closed")

  /// Refuses everything from now on. Calls under way end in peace, watches end with an error.
  func close() {
    let (waiters, connection, watches) = state.withLock { state in
      state.isClosed = true
      defer { (state.waiters, state.current, state.watches) = ([], nil, [:]) }
      return (state.waiters, state.current, Array(state.watches.values))
    }
    for waiter in waiters { waiter.resume(returning: .failure(Self.closed)) }
    for watch in watches { watch.end(.client(Self.closed)) }
    connection?.retire()
  }

  // MARK: Calls

  /// - Parameters:
  ///   - isRepeatable: it changes nothing, so that it may be sent again after a failure that leaves in doubt whether it was carried out.
  ///   - what: for messages, as in "reading /calico/a".
  func call<Response>(
    _ method: EtcdMethod, _ request: [UInt8], isRepeatable: Bool, what: @autoclosure () -> String, header: (Response) -> EtcdHeader,
    _ decode: (inout OctetReader) throws(WireError) -> Response
  ) async throws(CallProblem) -> Response {
    let deadline = NIODeadline.now() + TimeAmount(configuration.times.call)
    var tries = configuration.endpoints.count + 1
    var hasRenewed = false
    while true {
      tries -= 1
      let connection: EtcdConnection
      let token: String?
      do throws(DatastoreError) {
        connection = try await self.connection()
        token = try await self.token()
      } catch {
        throw .datastore(error)
      }
      let outcome = await connection.call(
        method, request, usesTLS: configuration.tls != nil, token: token, deadline: deadline, answerMax: Self.answerMax)
      let hasTime = tries > 0 && NIODeadline.now() < deadline
      switch outcome {
      case .success(let octets):
        let response: Response
        do throws(WireError) {
          var reader = OctetReader(octets.span)
          response = try decode(&reader)
        } catch {
          throw .datastore(.unusable("\(name): \(connection.endpoint) answers something else than etcd: \(error)"))
        }
        try await checkCluster(header(response), connection)
        return response
      case .failure(.notSent(let reason)):
        abandon(connection)
        if !hasTime { throw .datastore(unavailable(connection, reason)) }
      case .failure(.broken(let reason)):
        abandon(connection)
        if !isRepeatable {
          throw .datastore(unavailable(connection, "\(reason); nobody knows whether \(what()) was carried out"))
        }
        if !hasTime { throw .datastore(unavailable(connection, reason)) }
      case .failure(.tooLarge(let size)): throw .tooLarge(size)
      case .failure(.garbled(let reason)):
        abandon(connection)
        throw .datastore(.unusable("\(name): \(connection.endpoint): \(reason)"))
      case .failure(.status(let status)):
        let reaction = EtcdProblem.reaction(
          to: status, from: connection.endpoint, store: name, user: configuration.credentials?.user, what: what())
        switch reaction {
        case .final(let error): throw .datastore(error)
        case .elsewhere(let error):
          abandon(connection)
          if !hasTime { throw .datastore(error) }
        case .doubtful(let error):
          abandon(connection)
          if !isRepeatable || !hasTime { throw .datastore(error) }
        case .newToken(let error):
          if hasRenewed { throw .datastore(error) }
          hasRenewed = true
          tries += 1
          forget(token: token)
        }
      }
    }
  }

  enum CallProblem: Error {
    case datastore(DatastoreError)
    /// Ask for less at a time.
    case tooLarge(Int)
  }

  func unavailable(_ connection: EtcdConnection, _ reason: String) -> DatastoreError {
    .unavailable("\(name): \(connection.endpoint): \(reason)")
  }

  // MARK: Which cluster

  /// Endpoints of two clusters under one name would show two truths in turn: whatever does not belong to the cluster we began with is
  /// refused. If nobody of that cluster is left, and most members say the same new number, the cluster was replaced: everything is read anew.
  private func checkCluster(_ header: EtcdHeader, _ connection: EtcdConnection) async throws(CallProblem) {
    guard header.clusterID != 0 else { return }
    let known = state.withLock { state in
      if state.clusterID == nil { state.clusterID = header.clusterID }
      if state.clusterID == header.clusterID { state.report.newest = max(state.report.newest, Revision(rawValue: header.revision)) }
      return state.clusterID
    }
    guard let known, known != header.clusterID else { return }
    let found = await clusters()
    if found.allSatisfy({ $0 == header.clusterID }), 2 * found.count > configuration.endpoints.count {
      adopt(header)
      throw .datastore(unavailable(connection, "the cluster was replaced by another one (\(Self.text(header.clusterID))); everything is read anew"))
    }
    abandon(connection)
    throw .datastore(
      .unusable(
        """
        \(name): \(connection.endpoint) belongs to cluster \(Self.text(header.clusterID)), but this program began with cluster \
        \(Self.text(known)); name endpoints of one cluster only. If the cluster was replaced, this program goes on when most of the endpoints belong \
        to the new one and none to the old one
        """))
  }
  private static func text(_ cluster: UInt64) -> String { String(cluster, radix: 16) }

  /// The clusters of all members that answer.
  private func clusters() async -> [UInt64] {
    let (times, tls) = (configuration.times, state.withLock { $0.tls })
    return await withTaskGroup(of: UInt64?.self) { group in
      for endpoint in configuration.endpoints {
        group.addTask {
          guard let connection = try? await EtcdConnection.dial(endpoint, tls: tls, times: times, timeout: times.dialOfMany, onEnd: {}) else { return nil }
          defer { connection.retire() }
          let outcome = await connection.call(
            .status, [], usesTLS: tls != nil, token: nil, deadline: .now() + TimeAmount(times.dialOfMany), answerMax: 1 << 20)
          guard case .success(let octets) = outcome else { return nil }
          var reader = OctetReader(octets.span)
          return (try? EtcdPlainResponse(decoding: &reader))?.header.clusterID
        }
      }
      return await group.reduce(into: []) { if let cluster = $1 { $0.append(cluster) } }
    }
  }

  private func adopt(_ header: EtcdHeader) {
    let watches = state.withLock { state in
      // Of many calls that see it, one does it.
      guard state.clusterID != header.clusterID else { return [WatchInbox]() }
      state.clusterID = header.clusterID
      state.token = nil
      state.report.newest = Revision(rawValue: header.revision)
      state.report.replaced += 1
      return Array(state.watches.values)
    }
    for watch in watches { watch.end(.compacted) }
  }

  /// The cluster has the same number, and another past.
  func noteReplaced(at revision: Int64) {
    state.withLock {
      $0.report.replaced += 1
      $0.report.newest = Revision(rawValue: revision)
    }
  }

  /// A watch's word on how far the store is.
  func heard(_ revision: Revision) { state.withLock { $0.report.newest = max($0.report.newest, revision) } }

  var report: DatastoreConnection {
    state.withLock { state in
      var report = state.report
      report.endpoint = state.current?.endpoint.description
      report.isEncrypted = configuration.tls != nil
      if report.endpoint != nil { report.problem = nil }
      return report
    }
  }

  // MARK: The connection

  /// A connection that works as far as anybody knows. The first caller dials, others wait for the same outcome.
  func connection() async throws(DatastoreError) -> EtcdConnection {
    if let ready = state.withLock({ $0.isClosed ? nil : $0.current }) { return ready }
    let result: Result<EtcdConnection, DatastoreError> = await withCheckedContinuation { continuation in
      let (known, mustDial) = state.withLock { state -> (Result<EtcdConnection, DatastoreError>?, Bool) in
        if state.isClosed { return (.failure(Self.closed), false) }
        if let ready = state.current { return (.success(ready), false) }
        state.waiters.append(continuation)
        defer { state.isDialing = true }
        return (nil, !state.isDialing)
      }
      if let known { continuation.resume(returning: known) }
      // A task of its own: whoever waits may be cancelled, and others wait for the same.
      if mustDial { Task { await dialRound() } }
    }
    return try result.get()
  }

  private func dialRound() async {
    let (round, wait) = state.withLock { state in
      (state.choice.round, state.roundEnded.map { $0 + state.choice.pause - .now } ?? .zero)
    }
    if wait > .zero { try? await Task.sleep(for: wait) }
    renewTLS()
    let times = configuration.times
    var problems: [DialProblem] = []
    for endpoint in round {
      let (generation, tls, isClosed) = state.withLock { state in
        state.generation += 1
        return (state.generation, state.tls, state.isClosed)
      }
      if isClosed { break }
      do throws(DialProblem) {
        let connection = try await EtcdConnection.dial(
          endpoint, tls: tls, times: times, timeout: round.count == 1 ? times.dial : times.dialOfMany,
          onEnd: { [weak self] in self?.ended(generation, endpoint) })
        return finishRound(.success(connection), generation)
      } catch {
        problems.append(error)
      }
    }
    finishRound(.failure(.unavailable(describe(problems))), 0)
  }

  private func describe(_ problems: [DialProblem]) -> String {
    // One endpoint: the name says which.
    if configuration.endpoints.count == 1, let only = problems.first { return "\(name): \(only.reason)" }
    return "\(name): no member can be reached: " + problems.map { "\($0.endpoint): \($0.reason)" }.joined(separator: "; ")
  }

  private func finishRound(_ result: Result<EtcdConnection, DatastoreError>, _ generation: Int) {
    let (waiters, isUnwanted) = state.withLock { state in
      state.isDialing = false
      state.roundEnded = .now
      switch result {
      case .success(let connection):
        state.choice.connected(to: connection.endpoint)
        state.report.made += 1
        // Its end may have been told before its beginning; whoever waits finds out by trying it.
        if state.ended < generation, !state.isClosed { state.current = connection }
      case .failure(let error):
        state.choice.roundFailed()
        state.report.failed += 1
        state.report.problem = "\(error)"
      }
      defer { state.waiters = [] }
      return (state.waiters, state.isClosed)
    }
    if isUnwanted, case .success(let connection) = result { connection.retire() }
    for waiter in waiters { waiter.resume(returning: result) }
  }

  private func ended(_ generation: Int, _ endpoint: EtcdEndpoint) {
    state.withLock { state in
      state.ended = max(state.ended, generation)
      guard generation == state.generation, state.current != nil else { return }
      state.current = nil
      state.choice.lost(endpoint)
    }
  }

  /// Another member is to answer from now on; watches on this one go on while they can.
  func abandon(_ connection: EtcdConnection) {
    let wasCurrent = state.withLock { state in
      guard state.current === connection else { return false }
      state.current = nil
      state.choice.lost(connection.endpoint)
      return true
    }
    if wasCurrent { connection.retire() }
  }

  /// Certificates are renewed in place: each round of dialling reads the files anew, and keeps what it had if they are in the making.
  private func renewTLS() {
    guard let configuration = configuration.tls, let side = try? TLSSide(configuration) else { return }
    state.withLock { $0.tls = side }
  }

  // MARK: The token

  /// Nil without credentials. One caller asks for it, others wait: a password costs etcd a tenth of a second.
  func token() async throws(DatastoreError) -> String? {
    guard let credentials = configuration.credentials else { return nil }
    if let known = state.withLock({ $0.token }) { return known }
    let task = state.withLock { state in
      if let running = state.authentication { return running }
      let task = Task { await authenticate(credentials) }
      state.authentication = task
      return task
    }
    return try await task.value.get()
  }

  private func authenticate(_ credentials: EtcdConfiguration.Credentials) async -> Result<String, DatastoreError> {
    let result = await requestToken(credentials)
    state.withLock { state in
      state.authentication = nil
      if case .success(let token) = result { state.token = token }
    }
    return result
  }

  private func requestToken(_ credentials: EtcdConfiguration.Credentials) async -> Result<String, DatastoreError> {
    let request = EtcdRequest.authenticate(name: credentials.user, password: credentials.password)
    let deadline = NIODeadline.now() + TimeAmount(configuration.times.call)
    var last = DatastoreError.unavailable(name)
    for _ in 0...configuration.endpoints.count {
      let connection: EtcdConnection
      do { connection = try await self.connection() } catch { return .failure(error) }
      let outcome = await connection.call(
        .authenticate, request, usesTLS: configuration.tls != nil, token: nil, deadline: deadline, answerMax: 1 << 20)
      switch outcome {
      case .success(let octets):
        var reader = OctetReader(octets.span)
        guard let response = try? EtcdAuthenticateResponse(decoding: &reader) else {
          return .failure(.unusable("\(name): \(connection.endpoint) answers something else than etcd"))
        }
        return .success(response.token)
      case .failure(.status(let status)):
        // Credentials for a cluster that asks for none do no harm.
        if status.message.contains("authentication is not enabled") { return .success("") }
        switch EtcdProblem.reaction(to: status, from: connection.endpoint, store: name, user: credentials.user, what: "the password") {
        case .final(let error), .newToken(let error): return .failure(error)
        case .elsewhere(let error), .doubtful(let error):
          last = error
          abandon(connection)
        }
      case .failure(.notSent(let reason)), .failure(.broken(let reason)), .failure(.garbled(let reason)):
        last = unavailable(connection, reason)
        abandon(connection)
      case .failure(.tooLarge): return .failure(.unusable("\(name): \(connection.endpoint) answers something else than etcd"))
      }
    }
    return .failure(last)
  }

  func forgetToken() { state.withLock { $0.token = nil } }
  func forget(token: String?) {
    state.withLock { if $0.token == token { $0.token = nil } }
  }

  // MARK: Watches

  /// False if the client is closed: then the watch must end by itself.
  func register(_ watch: WatchInbox) -> Bool {
    state.withLock { state in
      if state.isClosed { return false }
      state.watches[ObjectIdentifier(watch)] = watch
      return true
    }
  }
  func unregister(_ watch: WatchInbox) {
    _ = state.withLock { $0.watches.removeValue(forKey: ObjectIdentifier(watch)) }
  }
}
