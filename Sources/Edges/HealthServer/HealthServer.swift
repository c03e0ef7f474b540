/// What a daemon tells over HTTP: `/liveness`, `/readiness` and `/metrics`.
///
/// The server has a thread of its own and asks the daemon's loop for each page, with a deadline: an answer of this server says that the
/// loop answered, and not only that the process exists.
///
/// Hazards and the answers:
/// - The port is taken: that is told as a problem and tried again; no daemon stops routing because somebody else has its port.
/// - Many who ask, or one who keeps a connection and says nothing: connections are few, and idle ones are closed.
/// - Places change while it runs: what stays the same stays open.
import Hummingbird
import HummingbirdCore
import JSON
public import Logging
import MetricsText
import NIOCore
import NIOPosix
import Synchronization

public final class HealthServer: Sendable {
  public struct Pages: Sendable {
    public var liveness: @Sendable () async -> HealthReport
    public var readiness: @Sendable () async -> HealthReport
    /// Nil: the daemon does not answer.
    public var metrics: @Sendable () async -> String?
    public init(
      liveness: @escaping @Sendable () async -> HealthReport, readiness: @escaping @Sendable () async -> HealthReport,
      metrics: @escaping @Sendable () async -> String?
    ) {
      self.liveness = liveness
      self.readiness = readiness
      self.metrics = metrics
    }
  }
  static let connectionsMax = 64

  private let pages: Pages
  private let log: Logger
  private let retry: Duration
  private let plans: AsyncStream<ServingPlan>
  private let plan: AsyncStream<ServingPlan>.Continuation
  private struct State {
    var settingsProblems: [String] = []
    var problems: [ServingPlace: String] = [:]
    var ports: [ServingPlace: Int] = [:]
  }
  private let state = Mutex(State())

  public init(_ pages: Pages, log: Logger, retry: Duration = .seconds(10)) {
    self.pages = pages
    self.log = log
    self.retry = retry
    (plans, plan) = AsyncStream.makeStream(of: ServingPlan.self, bufferingPolicy: .bufferingNewest(1))
  }

  /// From any thread; takes effect soon after.
  public func want(_ new: ServingPlan) { plan.yield(new) }
  /// Why something is not served, in words.
  public var problems: [String] { state.withLock { $0.settingsProblems + $0.problems.sorted { "\($0.key)" < "\($1.key)" }.map(\.value) } }
  /// The ports that are open, by the places as they were asked for (port 0: any).
  public var ports: [ServingPlace: Int] { state.withLock { $0.ports } }

  /// Serves until the task is cancelled.
  public func run() async {
    let threads = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    var serving: [ServingPlace: (pages: Set<HealthPage>, task: Task<Void, Never>)] = [:]
    for await plan in plans {
      state.withLock { $0.settingsProblems = plan.problems }
      for (place, open) in serving where plan.places[place] != open.pages {
        open.task.cancel()
        await open.task.value
        serving[place] = nil
      }
      for (place, pages) in plan.places where serving[place] == nil {
        serving[place] = (pages, Task { await self.serve(pages, at: place, on: threads) })
      }
    }
    for open in serving.values {
      open.task.cancel()
      await open.task.value
    }
    try? await threads.shutdownGracefully()
  }

  private func serve(_ pages: Set<HealthPage>, at place: ServingPlace, on threads: MultiThreadedEventLoopGroup) async {
    var quiet = log
    quiet.logLevel = max(log.logLevel, .warning)
    while !Task.isCancelled {
      let application = Application(
        router: router(pages),
        server: .http1(configuration: .init(idleTimeout: .seconds(30))),
        configuration: .init(
          // By name it could be either family, as the machine's files say; whoever probes writes 127.0.0.1.
          address: .hostname(place.host == "localhost" ? "127.0.0.1" : place.host, port: place.port),
          availableConnectionsDelegate: MaximumAvailableConnections(Self.connectionsMax)),
        onServerRunning: { [self] channel in
          let port = channel.localAddress?.port
          state.withLock {
            $0.problems[place] = nil
            $0.ports[place] = port
          }
          log.info("serving \(pages.map(\.rawValue).sorted().joined(separator: ", ")) at \(place)")
        },
        eventLoopGroupProvider: .shared(threads), logger: quiet)
      var fault = "it ended"
      do { try await application.run() } catch { fault = "\(error)" }
      state.withLock { $0.ports[place] = nil }
      if Task.isCancelled { break }
      let what = pages.map(\.rawValue).sorted().joined(separator: ", ")
      let problem = "cannot serve \(what) at \(place): \(fault); trying again every \(retry)"
      let isNews = state.withLock { state in
        defer { state.problems[place] = problem }
        return state.problems[place] != problem
      }
      if isNews { log.warning("\(problem)") }
      try? await Task.sleep(for: retry)
    }
    state.withLock { $0.problems[place] = nil }
  }

  private func router(_ served: Set<HealthPage>) -> Router<BasicRequestContext> {
    let router = Router()
    @Sendable func answer(_ report: HealthReport) -> Response {
      Response(
        status: report.isGood ? .ok : .serviceUnavailable, headers: [.contentType: "application/json"],
        body: .init(byteBuffer: ByteBuffer(string: report.json.text(pretty: true) + "\n")))
    }
    if served.contains(.liveness) { router.get("liveness") { [pages] _, _ in answer(await pages.liveness()) } }
    if served.contains(.readiness) { router.get("readiness") { [pages] _, _ in answer(await pages.readiness()) } }
    if served.contains(.metrics) {
      router.get("metrics") { [pages] _, _ in
        guard let text = await pages.metrics() else {
          return Response(
            status: .serviceUnavailable, headers: [.contentType: "text/plain"],
            body: .init(byteBuffer: ByteBuffer(string: "the daemon does not answer\n")))
        }
        return Response(
          status: .ok, headers: [.contentType: MetricsPage.contentType], body: .init(byteBuffer: ByteBuffer(string: text)))
      }
    }
    return router
  }
}
