/// Candidate and leader: what is known of both, and the tasks' turns while this process leads.
import Datastore
import Logging
import MetricsText
import Names
import Resources
import Synchronization

final class Housekeeping: Sendable {
  static let electionName = "housekeeping"

  /// What has become of one task, in this process.
  struct Record: Sendable {
    var isRunning = false
    /// Runs by outcome.
    var done = 0
    var idle = 0
    var failed = 0
    var seconds = Summary()
    var lastRun: UTCTime?
    var lastGood: UTCTime?
    /// What the last run that did something has done.
    var lastDeed: (words: String, at: UTCTime)?
    /// Why the last run failed; nil if it did not.
    var problem: (words: String, since: UTCTime)?
    /// When it is due again.
    var due: ContinuousClock.Instant?
  }
  struct State: Sendable {
    /// As far as it has been read.
    var read = ControllersSettings()
    /// Nil until the datastore has been read completely: half a picture would switch on what the other half switches off.
    var settings: ControllersSettings?
    var datastoreProblem: String?
    var unreadable: String?
    var standing = Election.Standing.unknown("the datastore has not been asked yet")
    var leadsSince: UTCTime?
    var terms = 0
    var records: [String: Record] = [:]
  }

  let tasks: [ElectedTask]
  private let datastore: any Datastore
  private let candidate: String
  private let terms: Election.Terms
  private let log: Logger
  private let guarded = Mutex(State())
  /// Stirred when the settings change.
  private let changes = RevisionGate(at: .zero)

  init(_ datastore: any Datastore, candidate: String, tasks: [ElectedTask], terms: Election.Terms, log: Logger) {
    (self.datastore, self.candidate, self.tasks, self.terms, self.log) = (datastore, candidate, tasks, terms, log)
  }

  var state: State { guarded.withLock { $0 } }

  // MARK: What the datastore says

  /// New settings, if they changed.
  func take(_ events: [FeedEvent]) -> ControllersSettings? {
    let settings = guarded.withLock { state -> ControllersSettings? in
      let before = state.settings
      var isInSync = before != nil
      for event in events {
        switch event {
        case .resource(let key, let stored) where key.name == "default":
          state.unreadable = nil
          state.read = stored.map { ControllersSettings($0.document) } ?? ControllersSettings()
        case .unreadable(let key, let reason) where key.name == "default": state.unreadable = "\(reason); the last good version holds"
        case .inSync: isInSync = true
        case .connection(let problem): state.datastoreProblem = problem
        default: break
        }
      }
      guard isInSync, state.read != before else { return nil }
      state.settings = state.read
      return state.read
    }
    if let settings {
      for problem in settings.problems { log.warning("\(problem)") }
      changes.stir()
    }
    return settings
  }

  // MARK: The election

  func run() async {
    let election = Election(datastore, name: Self.electionName, candidate: candidate, terms: terms)
    await election.run({ [self] in note($0) }, lead: { [self] in await lead($0) })
  }

  private func note(_ standing: Election.Standing) {
    let before = guarded.withLock { state in
      defer {
        state.standing = standing
        state.leadsSince = standing == .leading ? state.leadsSince ?? .now() : nil
        if standing == .leading { state.terms += 1 }
      }
      return state.standing
    }
    guard before != standing else { return }
    switch (before, standing) {
    case (_, .leading): log.notice("elected: this process does the cluster's housekeeping")
    case (.leading, _): log.notice("not elected any more")
    case (_, .waiting(let leader?)): log.info("\(leader) does the cluster's housekeeping")
    case (_, .unknown(let why)): log.warning("no election: \(why)")
    default: break
    }
  }

  private func lead(_ term: LeaderTerm) async {
    while !Task.isCancelled, term.isHeld {
      let stirs = changes.stirs
      guard let settings = state.settings else {
        await changes.wait(after: .zero, stirs: stirs)
        continue
      }
      await withTaskGroup(of: Void.self) { group in
        for task in tasks {
          guard let period = task.period(settings) else { continue }
          group.addTask { [self] in await turns(of: task, every: period, settings, term) }
        }
        group.addTask { [self] in await changes.wait(after: .zero, stirs: stirs) }
        await group.next()
        group.cancelAll()
      }
    }
  }

  /// Until the task is cancelled.
  private func turns(of task: ElectedTask, every period: Duration, _ settings: ControllersSettings, _ term: LeaderTerm) async {
    var retry = Backoff(first: min(.seconds(5), period), max: max(min(.seconds(300), period), min(.seconds(5), period)))
    var log = log
    log[metadataKey: "task"] = "\(task.name)"
    if let due = state.records[task.name]?.due {
      // New settings, or another term: what is not due yet is not done sooner, unless the period has become shorter.
      try? await Task.sleep(until: min(due, .now + period), clock: .continuous)
    }
    while !Task.isCancelled, term.isHeld {
      change(task) { $0.isRunning = true }
      let began = ContinuousClock.now
      let context = ElectedTask.Context(datastore: datastore, term: term, settings: settings, candidate: candidate, log: log)
      var pause = period
      let result: Result<String?, any Error>
      do { result = .success(try await task.run(context)) } catch { result = .failure(error) }
      // What a term's end broke off is nobody's failure.
      if case .failure = result, Task.isCancelled || !term.isHeld {
        change(task) { $0.isRunning = false }
        return
      }
      let now = UTCTime.now()
      switch result {
      case .success(let deed):
        retry.reset()
        if let deed { log.info("\(deed)") }
        change(task) {
          if let deed {
            $0.done += 1
            $0.lastDeed = (deed, now)
          } else {
            $0.idle += 1
          }
          $0.problem = nil
          $0.lastGood = now
        }
      case .failure(let error):
        pause = retry.next()
        let isNews = change(task) { record in
          defer { record.problem = ("\(error)", record.problem?.since ?? now) }
          record.failed += 1
          return record.problem?.words != "\(error)"
        }
        if isNews { log.error("\(error)") }
      }
      let due = ContinuousClock.now + pause
      change(task) {
        $0.isRunning = false
        $0.lastRun = now
        $0.due = due
        let took = (ContinuousClock.now - began).components
        $0.seconds.observe(Double(took.seconds) + Double(took.attoseconds) / 1e18)
      }
      try? await Task.sleep(until: due, clock: .continuous)
    }
  }

  @discardableResult
  private func change<Value>(_ task: ElectedTask, _ body: (inout Record) -> Value) -> Value {
    guarded.withLock { body(&$0.records[task.name, default: Record()]) }
  }
}
