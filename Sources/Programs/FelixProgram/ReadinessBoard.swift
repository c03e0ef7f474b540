/// Tells the CNI server when an endpoint is in the kernel. Written by Felix's loop, read by CNI tasks.
import Addresses
public import CNIServer
import Resources
import Synchronization

public final class ReadinessBoard: EndpointReadiness, Sendable {
  /// What the kernel holds of an endpoint.
  struct Progress: Equatable, Sendable {
    /// Of the datastore: everything up to here has gone through the kernel.
    var revision: Int64
    var addresses: Set<IPAddress>
    /// Rules are committed.
    var isProtected: Bool
    /// Interface settings, neighbours and routes as well.
    var isProgrammed: Bool
    /// Why it is not programmed yet, in words.
    var problem: String?
  }
  public struct Late: Error, CustomStringConvertible {
    public let description: String
  }
  private struct Waiter {
    let id: UInt64
    let endpoint: AttachedEndpoint
    let wantsAll: Bool
    let continuation: CheckedContinuation<Bool, Never>
  }
  private struct State {
    var progress: [ResourceKey: Progress] = [:]
    var waiters: [Waiter] = []
    var idLast: UInt64 = 0
    /// Given up before they could be registered.
    var cancelled: Set<UInt64> = []
  }
  private let state = Mutex(State())
  public init() {}

  func post(_ progress: [ResourceKey: Progress]) {
    let ready = state.withLock { state -> [Waiter] in
      state.progress = progress
      var ready: [Waiter] = []
      state.waiters.removeAll { waiter in
        guard Self.isReached(progress[waiter.endpoint.key], waiter.endpoint, waiter.wantsAll) else { return false }
        ready.append(waiter)
        return true
      }
      return ready
    }
    for waiter in ready { waiter.continuation.resume(returning: true) }
  }

  private static func isReached(_ progress: Progress?, _ endpoint: AttachedEndpoint, _ wantsAll: Bool) -> Bool {
    guard let progress, progress.isProtected, progress.revision >= Int64(endpoint.resourceVersion) ?? 0 else { return false }
    return progress.addresses.isSuperset(of: endpoint.addresses) && (progress.isProgrammed || !wantsAll)
  }

  public func waitUntilProtected(_ endpoint: AttachedEndpoint, deadline: ContinuousClock.Instant) async throws {
    try await wait(endpoint, wantsAll: false, deadline)
  }
  public func waitUntilProgrammed(_ endpoint: AttachedEndpoint, deadline: ContinuousClock.Instant) async throws {
    try await wait(endpoint, wantsAll: true, deadline)
  }

  private func wait(_ endpoint: AttachedEndpoint, wantsAll: Bool, _ deadline: ContinuousClock.Instant) async throws {
    let id = state.withLock { state in
      state.idLast += 1
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
          if Self.isReached(state.progress[endpoint.key], endpoint, wantsAll) { return true }
          if state.cancelled.remove(id) != nil { return false }
          state.waiters.append(Waiter(id: id, endpoint: endpoint, wantsAll: wantsAll, continuation: continuation))
          return nil
        }
        if let answer { continuation.resume(returning: answer) }
      }
    } onCancel: {
      giveUp(id)
    }
    if isReached { return }
    try Task.checkCancellation()
    let problem = state.withLock { $0.progress[endpoint.key] }
    let reason = problem.map { $0.problem ?? ($0.isProtected ? "its routes are not there yet" : "its rules are not in the kernel yet") }
    throw Late(description: "Felix has not programmed \(endpoint.key): \(reason ?? "it has not heard of the endpoint from the datastore")")
  }

  private func giveUp(_ id: UInt64) {
    let waiter = state.withLock { state -> Waiter? in
      guard let index = state.waiters.firstIndex(where: { $0.id == id }) else {
        state.cancelled.insert(id)
        return nil
      }
      return state.waiters.remove(at: index)
    }
    waiter?.continuation.resume(returning: false)
  }
}
