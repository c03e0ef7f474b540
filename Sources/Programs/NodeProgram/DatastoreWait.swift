/// A host that boots before its datastore waits for it: what needs the datastore is tried until it works, and the log says what is missing.
/// (Calico waits only if WAIT_FOR_DATASTORE is true; without it, calico-node dies and whoever supervises it starts it again.)
public import Datastore
public import Logging

public struct DatastoreWait: Sendable {
  private let log: Logger
  /// Between two tries; doubles to `pauseMax`.
  private let pauseFirst: Duration
  private let pauseMax: Duration
  public init(log: Logger, pauseFirst: Duration = .milliseconds(500), pauseMax: Duration = .seconds(5)) {
    (self.log, self.pauseFirst, self.pauseMax) = (log, pauseFirst, pauseMax)
  }

  /// Runs `body` until the datastore lets it. Other errors, and refusals of the datastore that waiting does not mend, are thrown.
  public func run(_ datastore: any Datastore, _ body: () async throws -> Void) async throws {
    var pause = pauseFirst
    var said: String?
    while true {
      do {
        try await body()
        if said != nil { log.notice("the datastore answers: \(datastore.name)") }
        return
      } catch {
        guard let why = Self.waitable(error) else { throw error }
        // The same reason again is no news.
        if said != why { log.warning("waiting for the datastore: \(why)") }
        said = why
        try await Task.sleep(for: pause)
        pause = min(pause * 2, pauseMax)
      }
    }
  }

  /// The reason, if waiting may help.
  private static func waitable(_ error: any Error) -> String? {
    switch error {
    case DatastoreError.unavailable(let why), ResourceStoreError.datastore(.unavailable(let why)): why
    default: nil
    }
  }
}
