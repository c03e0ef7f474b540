/// Tells the CNI server when an endpoint is in the kernel. Written by Felix's loop, read by CNI tasks.
import Addresses
public import CNIServer
import Resources
import Synchronization

public final class ReadinessBoard: EndpointReadiness, Sendable {
  /// What the kernel holds of an endpoint, rules aside: those are committed for all endpoints at once.
  struct Progress: Equatable, Sendable {
    var addresses: Set<IPAddress>
    /// Why interface settings, neighbours or routes are not there yet, in words; nil when they are.
    var problem: String?
    /// False: the problem is that the interface is missing or switched off.
    var isInterfaceUp = true
    var isProgrammed: Bool { problem == nil }
  }
  public struct Late: Error, CustomStringConvertible {
    public let description: String
  }
  private struct Waiter {
    let endpoint: AttachedEndpoint
    let wantsAll: Bool
    /// Nil until its task waits.
    var continuation: CheckedContinuation<Bool, Never>?
    var isGivenUp = false
  }
  private struct State {
    /// Of the datastore: everything up to here has gone through the kernel.
    var revision: Int64 = -1
    /// The kernel holds the rules of that revision.
    var isProtected = false
    var progress: [ResourceKey: Progress] = [:]
    var waiters: [UInt64: Waiter] = [:]
    var idLast: UInt64 = 0

    func isReached(_ endpoint: AttachedEndpoint, _ wantsAll: Bool) -> Bool {
      guard isProtected, revision >= Int64(endpoint.resourceVersion) ?? 0, let progress = progress[endpoint.key] else { return false }
      return progress.addresses.isSuperset(of: endpoint.addresses) && (progress.isProgrammed || !wantsAll)
    }
  }
  private let state = Mutex(State())
  public init() {}

  /// Endpoints that are not in `changed` stand as they did; nil: the endpoint is gone.
  func post(revision: Int64, isProtected: Bool, changed: [ResourceKey: Progress?]) {
    let ready = state.withLock { state -> [CheckedContinuation<Bool, Never>] in
      state.revision = revision
      state.isProtected = isProtected
      for (key, progress) in changed { state.progress[key] = progress }
      var ready: [CheckedContinuation<Bool, Never>] = []
      for (id, waiter) in state.waiters {
        guard let continuation = waiter.continuation, state.isReached(waiter.endpoint, waiter.wantsAll) else { continue }
        ready.append(continuation)
        state.waiters[id] = nil
      }
      return ready
    }
    for continuation in ready { continuation.resume(returning: true) }
  }

  /// Those who wait now: for tests.
  var waiterCount: Int { state.withLock { $0.waiters.count } }

  public func waitUntilProtected(_ endpoint: AttachedEndpoint, deadline: ContinuousClock.Instant) async throws {
    try await wait(endpoint, wantsAll: false, deadline)
  }
  public func waitUntilProgrammed(_ endpoint: AttachedEndpoint, deadline: ContinuousClock.Instant) async throws {
    try await wait(endpoint, wantsAll: true, deadline)
  }

  private func wait(_ endpoint: AttachedEndpoint, wantsAll: Bool, _ deadline: ContinuousClock.Instant) async throws {
    // Known from here on, so that whoever gives up before the continuation exists leaves a mark that nobody has to clean up later.
    let id = state.withLock { state in
      state.idLast += 1
      state.waiters[state.idLast] = Waiter(endpoint: endpoint, wantsAll: wantsAll)
      return state.idLast
    }
    let timer = Task {
      try await Task.sleep(until: deadline)
      giveUp(id)
    }
    defer { timer.cancel() }
    let isReached = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let answer = state.withLock { state -> Bool? in
          guard let waiter = state.waiters[id] else { preconditionFailure("only who waits or who resumes it removes a waiter") }
          let isReached = state.isReached(endpoint, wantsAll)
          if !isReached, !waiter.isGivenUp {
            state.waiters[id]?.continuation = continuation
            return nil
          }
          state.waiters[id] = nil
          return isReached
        }
        if let answer { continuation.resume(returning: answer) }
      }
    } onCancel: {
      giveUp(id)
    }
    if isReached { return }
    try Task.checkCancellation()
    throw Late(description: "Felix has not programmed \(endpoint.key): \(state.withLock { Self.reason($0, endpoint) })")
  }

  private static func reason(_ state: State, _ endpoint: AttachedEndpoint) -> String {
    guard let progress = state.progress[endpoint.key] else { return "it has not heard of the endpoint from the datastore" }
    if !state.isProtected { return "the kernel has refused its rules" }
    if state.revision < Int64(endpoint.resourceVersion) ?? 0 {
      return "it has not heard of the endpoint's last change (revision \(endpoint.resourceVersion)) from the datastore"
    }
    if let address = endpoint.addresses.first(where: { !progress.addresses.contains($0) }) { return "its record has no address \(address)" }
    return progress.problem ?? "it was too late by a moment"
  }

  private func giveUp(_ id: UInt64) {
    let continuation = state.withLock { state -> CheckedContinuation<Bool, Never>? in
      // Nil: it has its answer already.
      guard let waiter = state.waiters[id] else { return nil }
      if let continuation = waiter.continuation {
        state.waiters[id] = nil
        return continuation
      }
      state.waiters[id]?.isGivenUp = true
      return nil
    }
    continuation?.resume(returning: false)
  }
}
