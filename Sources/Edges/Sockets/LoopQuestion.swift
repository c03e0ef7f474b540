/// Asking a loop's thread something from a task, and not waiting for ever: a loop that hangs answers nothing, and that is an answer too.
import Synchronization

extension EventLoop.Mailbox {
  /// What `question` returns on the loop's thread; nil when that has not happened within `limit`.
  public func ask<Value: Sendable>(within limit: Duration, _ question: @escaping @Sendable () -> Value) async -> Value? {
    let answer = OneAnswer<Value>()
    let timer = Task {
      try await Task.sleep(for: limit)
      answer.resolve(nil)
    }
    defer { timer.cancel() }
    return await withCheckedContinuation { continuation in
      answer.wait(continuation)
      post {
        // Nobody waits any more: a loop that was stuck need not work off what was asked meanwhile.
        if !answer.isResolved { answer.resolve(question()) }
      }
    }
  }
}

/// Resumes a continuation once, with whatever comes first.
private final class OneAnswer<Value: Sendable>: Sendable {
  private enum State {
    case open
    case awaited(CheckedContinuation<Value?, Never>)
    case resolved(Value?)
  }
  private let state = Mutex(State.open)

  var isResolved: Bool { state.withLock { if case .resolved = $0 { true } else { false } } }

  func wait(_ continuation: CheckedContinuation<Value?, Never>) {
    let answer = state.withLock { state -> Value?? in
      if case .resolved(let value) = state { return .some(value) }
      state = .awaited(continuation)
      return nil
    }
    if let answer { continuation.resume(returning: answer) }
  }
  func resolve(_ value: Value?) {
    let waiting = state.withLock { state -> CheckedContinuation<Value?, Never>? in
      switch state {
      case .open:
        state = .resolved(value)
        return nil
      case .awaited(let continuation):
        state = .resolved(value)
        return continuation
      case .resolved: return nil
      }
    }
    waiting?.resume(returning: value)
  }
}
