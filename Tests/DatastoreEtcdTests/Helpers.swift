/// What the tests on a real etcd share.
import Datastore
import DatastoreEtcd
import EtcdServer
import Synchronization

struct TooLate: Error, CustomStringConvertible {
  let description: String
}

/// Throws if `body` is not done in time. It is cancelled then, and not waited for: it may be waiting for something that hangs.
func within<Value: Sendable>(
  _ limit: Duration, _ what: String, _ body: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  let (outcomes, continuation) = AsyncStream<Result<Value, any Error>>.makeStream()
  let work = Task {
    do { continuation.yield(.success(try await body())) } catch { continuation.yield(.failure(error)) }
  }
  let clock = Task {
    try await Task.sleep(for: limit)
    continuation.yield(.failure(TooLate(description: "not within \(limit): \(what)")))
  }
  defer {
    work.cancel()
    clock.cancel()
  }
  for await outcome in outcomes { return try outcome.get() }
  throw CancellationError()
}

/// Asks until it is so: for what another process knows and does not tell by itself.
func eventually(within limit: Duration = .seconds(20), _ what: String, _ isSo: () async throws -> Bool) async throws {
  let end = ContinuousClock.now + limit
  while try await !isSo() {
    if .now > end { throw TooLate(description: "not within \(limit): \(what)") }
    try await Task.sleep(for: .milliseconds(20))
  }
}

func octets(_ text: String) -> [UInt8] { Array(text.utf8) }

extension Datastore {
  @discardableResult
  func put(_ key: String, _ value: String, lease: LeaseID? = nil) async throws -> Revision {
    try await put(key, octets(value), lease: lease)
  }
  @discardableResult
  func put(_ key: String, _ value: [UInt8], lease: LeaseID? = nil) async throws -> Revision {
    guard case .committed(let revision) = try await transact(if: [], then: [.put(key, value, lease: lease)]) else {
      throw TooLate(description: "a put without comparisons conflicts")
    }
    return revision
  }
  func text(_ key: String) async throws -> String? { try await get(key).map { String(decoding: $0.value, as: UTF8.self) } }
  /// The error of an action that must fail.
  func failure(_ body: (Self) async throws -> Void) async -> String {
    do {
      try await body(self)
      return "no error"
    } catch {
      return "\(error)"
    }
  }
}

/// A server of its own for one test.
func withServer(_ options: EtcdServer.Options = .init(), _ body: (EtcdServer) async throws -> Void) async throws {
  let server = try EtcdServer(options)
  try await server.start()
  do {
    if options.members == 1 { try await server.waitUntilReady() } else { try await server.waitUntilReady(at: [server.endpoints[0]]) }
    try await body(server)
  } catch {
    await server.stop()
    throw error
  }
  await server.stop()
}
