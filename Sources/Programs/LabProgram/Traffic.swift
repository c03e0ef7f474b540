/// Real packets between workloads, and what became of them.
///
/// One thread with one event loop holds sockets that were opened inside the workloads' namespaces: a socket stays in the namespace it was
/// opened in, so a whole datacenter's traffic needs no process per workload. Servers echo; probes ask once; streams ask again and again.
import Addresses
import Glibc
import NetlinkEdge
import Sockets
import Synchronization

/// What one workload offers to, or asks of, another.
public enum Service: Hashable, Sendable, CustomStringConvertible {
  case icmp
  case tcp(UInt16)
  case udp(UInt16)
  public var description: String {
    switch self {
    case .icmp: "icmp"
    case .tcp(let port): "tcp/\(port)"
    case .udp(let port): "udp/\(port)"
    }
  }
}

/// A place that packets come from and go to.
public struct Station: Sendable {
  public let name: String
  public let namespacePath: String
  public let addresses: [IPFamily: IPAddress]
}

public struct Probe: Hashable, Sendable, CustomStringConvertible {
  public let from: String
  public let to: String
  public let family: IPFamily
  public let service: Service
  public var description: String { "\(from) → \(to) \(service) \(family)" }
}

public enum Outcome: Hashable, Sendable, CustomStringConvertible {
  case answered(Duration)
  /// Somebody said no (TCP reset, ICMP error); the text says what.
  case refused(String)
  /// Nothing came back before the deadline.
  case silent
  public var isAnswered: Bool { if case .answered = self { true } else { false } }
  public var description: String {
    switch self {
    case .answered: "answered"
    case .refused(let why): "refused (\(why))"
    case .silent: "silent"
    }
  }
}

/// What a stream saw. Index = sequence number.
public struct StreamReport: Sendable {
  public var probe: Probe
  /// Nanoseconds, monotonic clock.
  public var sentAt: [MonotonicInstant] = []
  public var answeredAt: [MonotonicInstant?] = []
  /// Set when the connection ended or an error came back.
  public var failure: String?
  public var sent: Int { sentAt.count }
  public var lost: Int { answeredAt.count { $0 == nil } }
  /// The first request sent at or after `instant` that was answered (or was not).
  public func firstSent(after instant: MonotonicInstant, answered: Bool) -> MonotonicInstant? {
    for (index, sent) in sentAt.enumerated() where sent >= instant && (answeredAt[index] != nil) == answered { return sent }
    return nil
  }
  /// The longest time between two answers that came one after the other.
  public var gapMax: Duration {
    let times = answeredAt.compactMap { $0 }.sorted()
    return zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? .zero
  }
}

/// What a stream that goes on has seen up to now.
public struct StreamProgress: Sendable {
  public let probe: Probe
  public let sent: Int
  public let lost: Int
  public let failure: String?
}

/// The facade: callable from any thread; the work happens on the loop's own.
public final class Traffic: Sendable {
  private let mailbox: EventLoop.Mailbox
  private let engine: TrafficEngine

  /// Opens the servers of every station: echo on each of the ports, both families. ICMP is answered by the kernel.
  public init(stations: [Station], tcpPorts: [UInt16], udpPorts: [UInt16]) throws {
    let loop = try EventLoop()
    let engine = TrafficEngine(loop: loop, stations: stations)
    try engine.openServers(tcpPorts: tcpPorts, udpPorts: udpPorts)
    mailbox = loop.mailbox
    self.engine = engine
    // The loop is handed over whole before it runs; from here on only its thread touches it and the engine.
    nonisolated(unsafe) let handedOver = loop
    try DedicatedThread.start { unsafe handedOver.run() }
  }

  public func close() {
    wait { [engine] in engine.close() }
    mailbox.stop()
  }

  /// Asks all probes at once and returns their outcomes, at the latest after `deadline`.
  public func ask(_ probes: [Probe], deadline: Duration = .milliseconds(700)) throws -> [Probe: Outcome] {
    let result = Mutex<[Probe: Outcome]?>(nil)
    let problem = Mutex<(any Error)?>(nil)
    let done = Gate()
    let engine = engine
    mailbox.post {
      do {
        try engine.ask(probes, deadline: deadline) { outcomes in
          result.withLock { $0 = outcomes }
          done.open()
        }
      } catch {
        problem.withLock { $0 = error }
        done.open()
      }
    }
    done.wait()
    if let error = problem.withLock({ $0 }) { throw error }
    return result.withLock { $0 ?? [:] }
  }

  /// Starts one request every `interval` on each probe, until `stopStreams`.
  public func startStreams(_ probes: [Probe], interval: Duration) throws {
    let problem = Mutex<(any Error)?>(nil)
    wait { [engine] in
      do { try engine.startStreams(probes, interval: interval) } catch { problem.withLock { $0 = error } }
    }
    if let error = problem.withLock({ $0 }) { throw error }
  }

  /// Stops sending, waits `grace` for the last answers, and tells what was seen.
  public func stopStreams(grace: Duration = .milliseconds(500)) -> [StreamReport] {
    let result = Mutex<[StreamReport]>([])
    let done = Gate()
    let engine = engine
    mailbox.post {
      engine.stopStreams(grace: grace) { reports in
        result.withLock { $0 = reports }
        done.open()
      }
    }
    done.wait()
    return result.withLock { $0 }
  }

  /// How each stream does so far; a request counts as lost when it has been without answer for a second.
  public func progress() -> [StreamProgress] {
    let result = Mutex<[StreamProgress]>([])
    wait { [engine] in result.withLock { $0 = engine.progress() } }
    return result.withLock { $0 }
  }

  /// How many answers the stream of `probe` has seen so far.
  public func answersSoFar(_ probe: Probe) -> Int {
    let count = Mutex(0)
    wait { [engine] in count.withLock { $0 = engine.answers(of: probe) } }
    return count.withLock { $0 }
  }

  private func wait(_ work: @escaping @Sendable () -> Void) {
    let done = Gate()
    mailbox.post {
      work()
      done.open()
    }
    done.wait()
  }
}
