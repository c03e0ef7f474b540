/// Waiting without threads, and threads for what blocks.

import Sockets
import Synchronization

/// Calls about the same workload one after another, in order of arrival; at most so many at once of different ones.
final class Turns: Sendable {
  private struct State {
    var queues: [String: [CheckedContinuation<Void, Never>]] = [:]
    var running = 0
    var waiting: [CheckedContinuation<Void, Never>] = []
  }
  private let state = Mutex(State())
  private let concurrencyMax: Int
  init(concurrencyMax: Int) { self.concurrencyMax = concurrencyMax }

  func take<Value: Sendable>(_ name: String, _ body: () async -> Value) async -> Value {
    // The workload's turn first: whoever waits behind it must not hold a place that others could use.
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state in
        if state.queues[name] == nil {
          state.queues[name] = []
          return true
        }
        state.queues[name]!.append(continuation)
        return false
      }
      if isFree { continuation.resume() }
    }
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state in
        if state.running < concurrencyMax {
          state.running += 1
          return true
        }
        state.waiting.append(continuation)
        return false
      }
      if isFree { continuation.resume() }
    }
    let value = await body()
    let (place, turn) = state.withLock { state in
      let place = state.waiting.isEmpty ? nil : state.waiting.removeFirst()
      if place == nil { state.running -= 1 }
      if state.queues[name]!.isEmpty {
        state.queues[name] = nil
        return (place, nil as CheckedContinuation<Void, Never>?)
      }
      return (place, state.queues[name]!.removeFirst())
    }
    place?.resume()
    turn?.resume()
    return value
  }
}

/// Runs `body` on a thread of its own: the kernel answers some requests only after an RCU grace period (20 ms for the end of a veth pair),
/// and the tasks' few threads must not stand still meanwhile.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    do throws(SystemError) {
      try DedicatedThread.start { continuation.resume(with: Result { try body() }) }
    } catch {
      continuation.resume(throwing: error)
    }
  }
}

/// Waits that end when the server stops, although the calls around them finish in order.
final class StoppableWaits: Sendable {
  private struct State {
    var stopped = false
    var next = 0
    var tasks: [Int: Task<Void, any Error>] = [:]
  }
  private let state = Mutex(State())

  /// Throws what `body` throws, `CancellationError` when stopped, `DeadlineExceeded` after `deadline`.
  func run(until deadline: ContinuousClock.Instant, _ body: @escaping @Sendable () async throws -> Void) async throws {
    let task = Task {
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await body() }
        group.addTask {
          try await Task.sleep(until: deadline, clock: .continuous)
          throw DeadlineExceeded()
        }
        try await group.next()
        group.cancelAll()
      }
    }
    let number: Int? = state.withLock { state in
      if state.stopped { return nil }
      state.next += 1
      state.tasks[state.next] = task
      return state.next
    }
    guard let number else {
      task.cancel()
      throw CancellationError()
    }
    defer { state.withLock { $0.tasks[number] = nil } }
    try await task.value
  }
  func stop() {
    let tasks = state.withLock { state in
      state.stopped = true
      return state.tasks
    }
    for task in tasks.values { task.cancel() }
  }
}

struct DeadlineExceeded: Error, CustomStringConvertible {
  var description: String { "the deadline has passed" }
}
