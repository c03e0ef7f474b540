/// Waiting for an endpoint: nobody waits too long, and nobody for ever.

import Addresses
import CNIServer
import Resources
import Testing

@testable import FelixProgram

@Suite("Readiness board", .timeLimit(.minutes(1)))
struct ReadinessTests {
  let key = ResourceKey(.workloadEndpoint, name: "h1-k8s-w-eth0")
  let address = IPAddress("10.65.0.1")!
  var endpoint: AttachedEndpoint { AttachedEndpoint(key: key, resourceVersion: "5", interfaceName: "cali1", addresses: [address]) }
  func progress(_ problem: String? = nil, _ addresses: Set<IPAddress>? = nil) -> ReadinessBoard.Progress {
    ReadinessBoard.Progress(addresses: addresses ?? [address], problem: problem)
  }
  func soon(_ delay: Duration = .milliseconds(20)) -> ContinuousClock.Instant { .now + delay }
  func waiting(_ board: ReadinessBoard, _ count: Int) async { while board.waiterCount != count { await Task.yield() } }

  @Test("Protected and programmed are told apart, and neither before the revision of the record has gone through")
  func stages() async throws {
    let board = ReadinessBoard()
    func late(_ all: Bool = false) async -> String? {
      do {
        if all {
          try await board.waitUntilProgrammed(endpoint, deadline: soon())
        } else {
          try await board.waitUntilProtected(endpoint, deadline: soon())
        }
        return nil
      } catch { return "\(error)" }
    }
    #expect(await late()?.contains("has not heard of the endpoint from the datastore") == true)
    board.post(revision: 4, isProtected: true, changed: [key: progress()])
    #expect(await late()?.contains("last change (revision 5)") == true)
    board.post(revision: 5, isProtected: false, changed: [:])
    #expect(await late()?.contains("refused its rules") == true)
    board.post(revision: 5, isProtected: true, changed: [key: progress("interface cali1 is down")])
    #expect(await late() == nil)
    #expect(await late(true)?.contains("interface cali1 is down") == true)
    board.post(revision: 6, isProtected: true, changed: [key: progress()])
    #expect(await late(true) == nil)
    board.post(revision: 7, isProtected: true, changed: [key: progress(nil, [])])
    #expect(await late()?.contains("no address 10.65.0.1") == true)
    board.post(revision: 8, isProtected: true, changed: [key: nil])
    #expect(await late(true)?.contains("has not heard of the endpoint") == true)
    #expect(board.waiterCount == 0)
  }

  @Test("Who waits is woken by the post that brings it, and by no other")
  func wakes() async throws {
    let board = ReadinessBoard()
    let waiter = Task { try await board.waitUntilProgrammed(endpoint, deadline: soon(.seconds(30))) }
    await waiting(board, 1)
    board.post(revision: 5, isProtected: true, changed: [key: progress("the route to 10.65.0.1 is missing")])
    #expect(board.waiterCount == 1)
    board.post(revision: 5, isProtected: true, changed: [key: progress()])
    try await waiter.value
    #expect(board.waiterCount == 0)
  }

  @Test("A cancelled wait ends at once, also one that is cancelled before it begins")
  func cancels() async throws {
    let board = ReadinessBoard()
    let waiter = Task { try await board.waitUntilProtected(endpoint, deadline: soon(.seconds(30))) }
    await waiting(board, 1)
    waiter.cancel()
    await #expect(throws: CancellationError.self) { try await waiter.value }
    let early = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await board.waitUntilProtected(endpoint, deadline: soon(.seconds(30)))
    }
    await #expect(throws: CancellationError.self) { try await early.value }
    #expect(board.waiterCount == 0)
  }

  @Test("Posts, deadlines and cancellations that race lose nobody")
  func races() async throws {
    let board = ReadinessBoard()
    let ends = await withTaskGroup(of: String.self, returning: [String: Int].self) { group in
      for number in 0..<2_000 {
        let key = ResourceKey(.workloadEndpoint, name: "w\(number)")
        let endpoint = AttachedEndpoint(key: key, resourceVersion: "1", interfaceName: "c", addresses: [address])
        let cancelled = number % 3 == 0
        let short = number % 3 == 1
        let posted = Task.detached { [progress = progress()] in
          await Task.yield()
          board.post(revision: 1, isProtected: true, changed: number % 7 == 0 ? [:] : [key: progress])
        }
        group.addTask {
          let wait = Task { try await board.waitUntilProgrammed(endpoint, deadline: .now + (short ? .microseconds(50) : .seconds(5))) }
          if cancelled { wait.cancel() }
          let result = await wait.result
          await posted.value
          // Whoever is not posted is cancelled or late; nobody else may fail but by its short deadline or its cancellation.
          switch result {
          case .success: return number % 7 == 0 ? "unfounded" : "reached"
          case .failure(is CancellationError): return cancelled ? "cancelled" : "unfounded"
          case .failure: return short || number % 7 == 0 ? "late" : "lost"
          }
        }
      }
      var ends: [String: Int] = [:]
      for await end in group { ends[end, default: 0] += 1 }
      return ends
    }
    #expect(ends["lost"] == nil, "\(ends)")
    #expect(ends["unfounded"] == nil, "\(ends)")
    #expect(ends.values.reduce(0, +) == 2_000)
    #expect(board.waiterCount == 0)
  }
}
