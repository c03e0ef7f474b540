/// The node's side of CNI: containers are attached to the network and detached from it, in one warm process.
///
/// `RequestListener` receives, `Turns` orders, `Attachments` works, `WorkloadNetwork` and `FlowMemory` speak to the kernel. Everything
/// of other parts (records, addresses, Felix's word) comes through the protocols of `Collaborators`.

public import CNIMessages
import JSON
public import Logging
public import NetlinkEdge
import Sockets

public struct CNIServerOptions: Sendable {
  public var nodeName: String
  /// Where plugins find us.
  public var socketPath: String
  /// Where plugins leave a DEL while we are away.
  public var tombstoneDirectory: String
  /// Octets, unless the network configuration says otherwise.
  public var mtu: UInt32
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
  private let turns: Turns
  private let waits = StoppableWaits()
  private let log: Logger

  public init(
    options: CNIServerOptions, records: any EndpointRecords, addresses: any AddressSource, programmed: any EndpointReadiness, log: Logger
  ) {
    self.options = options
    self.log = log
    turns = Turns(concurrencyMax: options.concurrencyMax)
    attachments = Attachments(
      node: options.nodeName, mtuDefault: options.mtu, timeout: options.timeout, network: WorkloadNetwork(host: options.hostNamespace),
      flows: FlowMemory(namespace: options.hostNamespace), records: records, addresses: addresses, readiness: programmed, waits: waits,
      log: log)
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
          case .tombstones: group.addTask { await self.finishTombstones() }
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

  private func serve(_ pending: PendingRequest) async {
    let request = pending.request
    let response = await turns.take(turn(of: request)) { () async -> NodeResponse in
      do throws(CNIError) {
        // A container keeps its id across restarts: a DEL of its former life must not be finished on its new one.
        if request.call.command == .add { try await finishTombstone(named: request.tombstoneName) }
        let result = try await attachments.perform(request, namespace: pending.namespace)
        if request.call.command == .delete { try? Files.remove(tombstonePath(request.tombstoneName)) }
        return .success(result)
      } catch {
        log.error("\(request.call.command.rawValue) of \(request.call.containerID) \(request.call.interfaceName): \(error)")
        return .failure(error)
      }
    }
    if !pending.answer(response) {
      log.warning("\(request.call.command.rawValue) of \(request.call.containerID): the plugin did not wait for its answer")
    }
  }

  /// Calls that cannot be understood need no order.
  private func turn(of request: NodeRequest) -> String {
    guard let configuration = try? NetworkConfiguration(request.configuration),
      let workload = try? Workload(request.call, configuration, node: options.nodeName)
    else { return "container/\(request.call.containerID)" }
    return workload.turn
  }

  // MARK: Tombstones

  private func tombstonePath(_ name: String) -> String { "\(options.tombstoneDirectory)/\(name)" }

  private func finishTombstones() async {
    guard let names = try? Files.list(options.tombstoneDirectory) else { return }
    for name in names where name.hasSuffix(NodeRequest.tombstoneSuffix) {
      guard let request = try? readTombstone(name) else {
        log.error("\(tombstonePath(name)) is no DEL that margay-cni left; remove it")
        continue
      }
      await turns.take(turn(of: request)) {
        do throws(CNIError) {
          try await finishTombstone(named: name)
        } catch {
          log.warning("DEL left at \(tombstonePath(name)) is not finished yet: \(error)")
        }
      }
    }
  }

  /// Nil when there is none of that name.
  private func readTombstone(_ name: String) throws -> NodeRequest? {
    guard Files.exists(tombstonePath(name)) else { return nil }
    let request = try NodeRequest(JSONValue(parsing: try Files.read(tombstonePath(name))))
    return request.call.command == .delete ? request : nil
  }

  /// Call in the workload's turn: between looking and doing, nobody else may finish it or attach the container anew.
  private func finishTombstone(named name: String) async throws(CNIError) {
    guard let request = try? readTombstone(name) else { return }
    _ = try await attachments.perform(request, namespace: nil)
    try? Files.remove(tombstonePath(name))
    log.info("DEL of \(request.call.containerID) \(request.call.interfaceName), left while nobody served, is finished")
  }
}
