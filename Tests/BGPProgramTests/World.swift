/// A small world of network namespaces: our speaker in one, BIRD or another speaker of ours in others.

import Addresses
import BGPProgram
import Dispatch
import Glibc
import JSON
import KernelSandbox
import Logging
import NetlinkEdge
import Sockets
import Synchronization

/// A speaker on a thread of its own inside a namespace.
///
/// Sendable: `speaker` is touched only on the loop's thread, by work posted to its mailbox.
final class RunningSpeaker: @unchecked Sendable {
  private let mailbox: EventLoop.Mailbox
  private let ended = Latch<Bool>()

  init(
    in namespace: NetworkNamespace, wasRunning: Bool = false, options change: @Sendable (inout Speaker.Options) -> Void = { _ in }
  ) throws {
    let started = Latch<Result<EventLoop.Mailbox, any Error>>()
    let box = Box()
    let ended = self.ended
    var options = Speaker.Options()
    options.connectRetry = .seconds(1)
    change(&options)
    let given = options
    try DedicatedThread.start {
      do {
        try namespace.run { () throws -> Void in
          let loop = try EventLoop()
          var log = Logger(label: "bgp")
          log.logLevel = getenv("BGP_TEST_LOG") == nil ? .critical : .debug
          box.speaker = try Speaker(loop: loop, log: log, options: given, wasRunning: wasRunning)
          started.set(.success(loop.mailbox))
          loop.run()
          box.speaker!.stop()
          box.speaker = nil
        }
      } catch {
        started.set(.failure(error))
      }
      ended.set(true)
    }
    mailbox = try started.wait().get()
    self.box = box
  }
  final class Box: @unchecked Sendable {
    var speaker: Speaker?
  }
  private let box: Box

  private func ask<Value: Sendable>(_ question: @escaping @Sendable (Speaker) -> Value) -> Value {
    let answer = Latch<Value>()
    let box = self.box
    mailbox.post { answer.set(question(box.speaker!)) }
    return answer.wait()
  }
  func apply(_ plan: BGPPlan) { ask { $0.apply(plan) } }
  var status: JSONValue { ask { $0.status() } }
  var kernelChanges: Int { ask { $0.kernelChanges } }
  var isDeferring: Bool { ask { $0.isDeferring } }
  func stop() {
    mailbox.stop()
    _ = ended.wait()
  }
  func state(_ session: String) -> String? {
    status["sessions"]?.array?.first { $0["name"]?.string == session }?["state"]?.string
  }
  func session(_ name: String, _ member: String) -> Int64? {
    status["sessions"]?.array?.first { $0["name"]?.string == name }?[member]?.integer
  }
}

/// A value that arrives once.
final class Latch<Value: Sendable>: Sendable {
  private let state = Mutex<Value?>(nil)
  private let arrival = DispatchSemaphore(value: 0)
  func set(_ value: Value) {
    state.withLock { $0 = value }
    arrival.signal()
  }
  func wait() -> Value {
    arrival.wait()
    // Whoever waits next finds it as well.
    arrival.signal()
    return state.withLock { $0! }
  }
}

/// BIRD 2 in a namespace.
final class Bird {
  private let child: ChildProcess
  private let directory: String
  private let sandbox: KernelSandbox
  private let namespace: NetworkNamespace

  init(_ sandbox: KernelSandbox, _ namespace: NetworkNamespace, _ configuration: String) throws {
    self.sandbox = sandbox
    self.namespace = namespace
    directory = try Files.makeTemporaryDirectory(prefix: "bird-")
    try Files.write(Array("log \"\(directory)/log\" all;\n\(configuration)".utf8), to: "\(directory)/bird.conf", create: true)
    let command = ChildCommand(
      "/usr/sbin/bird", ["-f", "-c", "\(directory)/bird.conf", "-s", "\(directory)/ctl", "-P", "\(directory)/pid"],
      networkNamespace: namespace.descriptor.borrowed)
    child = try command.start()
    _ = eventually { Files.exists("\(directory)/ctl") }
  }
  deinit {
    try? child.signal(SIGKILL)
    _ = try? child.wait()
    try? Files.removeTree(directory)
  }
  func birdc(_ words: String...) throws -> String { try sandbox.run(namespace, "/usr/sbin/birdc", ["-s", "\(directory)/ctl"] + words) }
  func routes() throws -> String { try birdc("show", "route") }
  /// The whole log, for messages of failed expectations.
  var log: String { (try? Files.readText("\(directory)/log")) ?? "" }
}
