/// The program as a whole: what its socket and its pages say.
import Datastore
import DatastoreMemory
import JSON
import Logging
import Sockets
import Testing

@testable import ControllersProgram

@Suite("margay controllers", .serialized, .timeLimit(.minutes(1)))
struct ProgramTests {
  @Test("Its socket tells who leads and what was done, and at its end the leader resigns")
  func socket() async throws {
    let datastore = MemoryDatastore()
    let directory = try Files.makeTemporaryDirectory(prefix: "controllers-", in: "/tmp")
    defer { try? Files.removeTree(directory) }
    let loop = try EventLoop()
    let mailbox = loop.mailbox
    nonisolated(unsafe) let handed = loop
    let ended = Task {
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        try! DedicatedThread.start {
          var options = ControllersProgram.Options(
            nodeName: "host1", runDirectory: directory, datastore: datastore, loop: handed, log: Logger(label: "t") { _ in SwiftLogNoOpLogHandler() })
          options.handlesSignals = false
          options.environment = ["MARGAY_CONTROLLERS_PORT": "0"]
          do { try ControllersProgram.run(options) } catch { Issue.record(error) }
          continuation.resume()
        }
      }
    }
    // Its trigger is the first task's first deed.
    var iterator = datastore.watch(prefixes: [HistoryCompaction.triggerKey], after: .zero).makeAsyncIterator()
    #expect(try await iterator.next()?.events.count == 1)
    let key = Election.root + Housekeeping.electionName
    #expect(try await datastore.get(key).flatMap { Election.holder(of: $0).name } == "host1")
    let document = try await document("\(directory)/controllers.sock")
    #expect(document["node"]?.string == "host1" && document["leads"]?.bool == true && document["health"]?["ok"]?.bool == true)
    #expect(document["tasks"]?.array?.first?["periodSeconds"]?.integer == 600)
    mailbox.stop()
    await ended.value
    #expect(try await datastore.get(key) == nil)
    #expect(!Files.exists("\(directory)/controllers.sock"))
  }

  private func document(_ path: String) async throws -> JSONValue {
    let result = try ChildCommand("/usr/bin/python3", [
      "-c", "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nwhile b:=s.recv(65536): sys.stdout.buffer.write(b)", path,
    ]).runToEnd()
    return try JSONValue(parsing: result.output)
  }
}
