/// From fork to exit, our executables beside others that one starts as often.

import Glibc
import Sockets

extension Files {
  static func opened(_ path: String, _ flags: Int32 = O_RDWR) throws(SystemError) -> OwnedDescriptor {
    OwnedDescriptor(owning: try check(open(path, flags | O_CLOEXEC), "open \(path)"))
  }
}

enum StartupBench {
  struct Subject {
    var what: String
    var path: String
    var arguments: [String] = []
    var environment: [String]?
    var input: String?
  }

  static func time(_ subject: Subject) throws -> Cost {
    let null = try Files.null()
    let input = try Files.opened(subject.input ?? "/dev/null", O_RDONLY)
    return try costOfChildren {
      let code = try ChildCommand(
        subject.path, subject.arguments, environment: subject.environment, input: input.borrowed, output: null.borrowed,
        error: null.borrowed
      ).start().wait()
      guard code == 0 else { throw BenchProblem("\(subject.path) \(subject.arguments.joined(separator: " ")): exit code \(code)") }
    }
  }

  static func run(_ report: Report, _ options: Options) async throws {
    let scratch = options.scratch
    let question = "\(scratch)/version.json"
    try Files.writeAtomically(Array(#"{"cniVersion":"1.0.0"}"#.utf8), to: question)
    let asking = ["CNI_COMMAND=VERSION", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    let margay = "\(options.binaries)/margay"
    let store = "sqlite:\(scratch)/startup.db"
    _ = try time(Subject(what: "", path: margay, arguments: ["get", "tiers", "--datastore", store]))

    let nothing = Subject(what: "/bin/true", path: "/bin/true")
    let pairs: [(ours: Subject, peer: Subject, bar: Bar?)] = [
      (
        Subject(what: "margay-cni VERSION", path: "\(options.binaries)/margay-cni", environment: asking, input: question),
        Subject(what: "host-local VERSION", path: "/usr/lib/cni/host-local", environment: asking, input: question), .ratio(1)
      ),
      (Subject(what: "margay --version", path: margay, arguments: ["--version"]),
        Subject(what: "etcdctl version", path: "etcdctl", arguments: ["version"]), .ratio(1)),
      (Subject(what: "margay --version", path: margay, arguments: ["--version"]),
        Subject(what: "ip -V", path: "ip", arguments: ["-V"]), nil),
      (Subject(what: "margay get tiers (SQLite)", path: margay, arguments: ["get", "tiers", "--datastore", store]),
        Subject(what: "etcdctl version", path: "etcdctl", arguments: ["version"]), nil),
    ]
    var floor = Costs()
    var results = pairs.map { _ in (ours: Costs(), peer: Costs()) }
    for round in 0..<41 {
      let base = try time(nothing)
      if round > 0 { floor.add(base) }
      for (index, pair) in pairs.enumerated() {
        let (ours, peer) = (try time(pair.ours), try time(pair.peer))
        // The first round fills the page cache.
        guard round > 0 else { continue }
        results[index].ours.add(ours)
        results[index].peer.add(peer)
      }
    }
    report.add("/bin/true, the floor", "ms wall", floor.wall.scaled(1000))
    for (pair, result) in zip(pairs, results) {
      report.add(
        pair.ours.what, "ms wall", result.ours.wall.scaled(1000), peer: (pair.peer.what, result.peer.wall.scaled(1000)), bar: pair.bar)
      report.add(pair.ours.what, "ms CPU", result.ours.cpu.scaled(1000), peer: (pair.peer.what, result.peer.cpu.scaled(1000)))
    }
  }
}
