/// The node's side of CNI: containers are attached to the network and detached from it, in one warm process.
///
/// `RequestListener` receives, `Turns` orders, `Attachments` works, `WorkloadNetwork` and `FlowMemory` speak to the kernel. Everything
/// of other parts (records, addresses, Felix's word) comes through the protocols of `Collaborators`.

public import CNIMessages
public import JSON
public import Logging
public import NetlinkEdge
import Sockets
import Synchronization

public struct CNIServerOptions: Sendable {
  public var nodeName: String
  /// Where plugins find us.
  public var socketPath: String
  /// Where plugins leave a DEL while we are away.
  public var tombstoneDirectory: String
  /// Octets, unless the network configuration says otherwise.
  public var mtu: UInt32
  /// Instead of `mtu`, as soon as it is known.
  public var mtuFound: @Sendable () -> UInt32? = { nil }
  /// How long an ADD may wait for Felix, unless the network configuration says otherwise. Below the plugin's own limit of 90 s.
  public var timeout: Duration
  /// Calls worked on at the same time.
  public var concurrencyMax: Int
  /// The host's side of the cables; nil is the namespace of the process.
  public var hostNamespace: NetworkNamespace?

  public init(
    nodeName: String, socketPath: String = NodeProtocol.socketDefault, tombstoneDirectory: String? = nil, mtu: UInt32 = 1500,
    timeout: Duration = .seconds(60), concurrencyMax: Int = 32, hostNamespace: NetworkNamespace? = nil
  ) {
    self.nodeName = nodeName
    self.socketPath = socketPath
    self.tombstoneDirectory = NodeProtocol.tombstones(configured: tombstoneDirectory, socket: socketPath)
    self.mtu = mtu
    self.timeout = timeout
    self.concurrencyMax = concurrencyMax
    self.hostNamespace = hostNamespace
  }
}

public final class CNIServer: Sendable {
  private let options: CNIServerOptions
  private let attachments: Attachments
  private let addressCalls: AddressCalls
  private let tombstones: Tombstones
  /// Rounds of finishing tombstones that are asked for; the one under way is counted until it ends.
  private let rounds = Mutex(0)
  private let turns: Turns
  private let waits = StoppableWaits()
  private let log: Logger

  public init(
    options: CNIServerOptions, records: any EndpointRecords, addresses: any AddressSource, programmed: any EndpointReadiness, log: Logger
  ) {
    self.options = options
    self.log = log
    turns = Turns(concurrencyMax: options.concurrencyMax)
    tombstones = Tombstones(directory: options.tombstoneDirectory)
    let returns = AddressReturns(addresses: addresses, flows: FlowMemory(namespace: options.hostNamespace))
    addressCalls = AddressCalls(node: options.nodeName, records: records, addresses: addresses, returns: returns, log: log)
    attachments = Attachments(
      node: options.nodeName, mtuDefault: { [options] in options.mtuFound() ?? options.mtu }, timeout: options.timeout, network: WorkloadNetwork(host: options.hostNamespace),
      records: records, addresses: addresses, returns: returns, readiness: programmed, waits: waits, log: log)
  }

  /// Serves until cancelled, then finishes what is under way: waits for Felix end at once, with an error that tells the runtime to try
  /// again. Throws when the socket cannot be had (another process serves it: EADDRINUSE).
  public func run() async throws {
    let listener = try RequestListener(path: options.socketPath, tombstones: options.tombstoneDirectory, log: log)
    let (events, continuation) = AsyncStream.makeStream(of: RequestListener.Event.self)
    // A task of its own: cancelling `run` must not cancel the calls under way, or undoing them would be cancelled as well.
    let serving = Task {
      await withDiscardingTaskGroup { group in
        for await event in events {
          switch event {
          case .request(let pending): group.addTask { await self.serve(pending) }
          case .tombstones:
            let isIdle = self.rounds.withLock { rounds in
              defer { rounds += 1 }
              return rounds == 0
            }
            if isIdle { group.addTask { await self.finishTombstonesUntilNoneIsNew() } }
          }
        }
      }
    }
    defer { continuation.finish() }
    log.info("CNI: serving at \(options.socketPath)")
    try await withTaskCancellationHandler {
      try await onThread {
        defer { continuation.finish() }
        try listener.run { continuation.yield($0) }
      }
    } onCancel: {
      listener.stop()
      waits.stop()
    }
    await serving.value
  }

  /// For people: what plugins left on disk and is not finished.
  public var status: JSONValue { ["tombstones": tombstones.status] }

  private func serve(_ pending: PendingRequest) async {
    let request = pending.request
    let call = request.call
    // Another IPAM plugin may give again what a DEL that lies on disk still has to take down.
    if call.command == .add, request.ipamResult != nil { await finishTombstones() }
    let response = await turns.take(turn(of: request)) { () async -> NodeResponse in
      do throws(CNIError) {
        // A container keeps its id across restarts: a DEL of its former life must not be finished on its new one.
        if call.command == .add {
          try await finishTombstone(named: request.tombstoneName)
          if request.ipamResult != nil { try refuseUnfinished(request) }
        }
        let result = try await perform(request, pending.namespace)
        if call.command == .delete { tombstones.isDone(request.tombstoneName) }
        return .success(result)
      } catch {
        log.error("\(call.command.rawValue) of \(call.containerID) \(call.interfaceName): \(error)")
        return .failure(error)
      }
    }
    if !pending.answer(response) { log.warning("\(call.command.rawValue) of \(call.containerID): the plugin did not wait for its answer") }
  }

  private func perform(_ request: NodeRequest, _ namespace: NetworkNamespace?) async throws(CNIError) -> JSONValue? {
    switch request.role {
    case .network: try await attachments.perform(request, namespace: namespace)
    case .ipam: try await addressCalls.perform(request)
    }
  }

  /// Calls that cannot be understood need no order.
  private func turn(of request: NodeRequest) -> String {
    guard let configuration = try? NetworkConfiguration(request.configuration),
      let workload = try? Workload(request.call, configuration, node: options.nodeName)
    else { return "container/\(request.call.containerID)" }
    return request.role == .ipam ? "ipam/\(workload.handle)" : workload.turn
  }

  // MARK: Tombstones

  /// A few at a time: calls that a runtime waits for come between them.
  private static let tombstonesAtOnce = 8

  /// One round at a time, and one more for all that was asked for meanwhile.
  private func finishTombstonesUntilNoneIsNew() async {
    var asked: Int
    repeat {
      asked = rounds.withLock { $0 }
      await finishTombstones()
    } while rounds.withLock { rounds in
      rounds -= asked
      return rounds > 0
    }
  }

  private func finishTombstones() async {
    let names = tombstones.names
    await withDiscardingTaskGroup { group in
      for first in 0..<min(Self.tombstonesAtOnce, names.count) {
        group.addTask { [self] in
          for number in stride(from: first, to: names.count, by: Self.tombstonesAtOnce) { await finishInTurn(names[number]) }
        }
      }
    }
  }

  private func finishInTurn(_ name: String) async {
    switch tombstones.read(name) {
    case .missing: return
    case .damaged(let why, let isNew):
      if isNew { log.error("\(tombstones.path(name)) is no DEL that margay-cni left (\(why)); remove it") }
    case .request(let request):
      await turns.take(turn(of: request)) {
        do throws(CNIError) {
          try await finishTombstone(named: name)
        } catch {
          tombstones.failed(name, "\(error)")
          log.warning("DEL left at \(tombstones.path(name)) is not finished yet: \(error)")
        }
      }
    }
  }

  /// Call in the workload's turn: between looking and doing, nobody else may finish it or attach the container anew.
  private func finishTombstone(named name: String) async throws(CNIError) {
    guard case .request(let request) = tombstones.read(name) else { return }
    _ = try await perform(request, nil)
    tombstones.isDone(name)
    log.info("DEL of \(request.call.containerID) \(request.call.interfaceName), left while nobody served, is finished")
  }

  /// An address that another IPAM plugin gave may be one whose former holder's cable, record or flows are still there.
  private func refuseUnfinished(_ request: NodeRequest) throws(CNIError) {
    for name in tombstones.names {
      guard case .request(let left) = tombstones.read(name), (try? NetworkConfiguration(left.configuration))?.ipam.isOurs == false else { continue }
      throw CNIError(
        .tryAgainLater, "the DEL left at \(tombstones.path(name)) is not finished, and its addresses may be what \(request.call.containerID) was given",
        details: "see the log of margay felix for what is in its way")
    }
  }
}
