/// The distribution's etcd for tests and benchmarks: members on loopback with free ports, data in a folder of their own, gone afterwards.
///
/// The processes die with this one, however it ends: each is started by a thread that waits for it, and the kernel ends the child with the
/// thread. Needs `etcd` on the path; `EtcdServer.isInstalled` tells.
import CLinux
public import DatastoreEtcd
import Glibc
import Sockets
import Synchronization

public final class EtcdServer: Sendable {
  public struct Fault: Error, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
  }
  public struct Options: Sendable {
    public var members = 1
    public var arguments: [String] = []
    /// Nil: plain TCP.
    public var tls: TestCertificates?
    public var isClientCertificateWanted = false
    /// A network namespace, and the address there on which clients reach the members; nil: ours, and loopback.
    public var namespace: CInt?
    public var address = "127.0.0.1"
    public init() {}
  }
  private struct Member {
    var name: String
    var clientPort: Int
    var peerPort: Int
    var process: Process?
  }
  /// A running etcd, and whoever waits for its end.
  private final class Process: Sendable {
    let pid: Int32
    private let state = Mutex<(isEnded: Bool, waiters: [CheckedContinuation<Void, Never>])>((false, []))
    init(pid: Int32) { self.pid = pid }
    func end() {
      let waiters = state.withLock { state in
        state.isEnded = true
        defer { state.waiters = [] }
        return state.waiters
      }
      for waiter in waiters { waiter.resume() }
    }
    func wait() async {
      await withCheckedContinuation { continuation in
        let isEnded = state.withLock { state in
          if !state.isEnded { state.waiters.append(continuation) }
          return state.isEnded
        }
        if isEnded { continuation.resume() }
      }
    }
  }

  public let folder: String
  private let options: Options
  private let moreArguments = Mutex<[String]>([])
  private let members: Mutex<[Member]>

  public static let path = executable("etcd")
  public static var isInstalled: Bool { path != nil }
  public static let controlPath = executable("etcdctl") ?? "etcdctl"
  static func executable(_ name: String) -> String? {
    for folder in ["/usr/bin", "/usr/local/bin", "/usr/sbin"] where unsafe access("\(folder)/\(name)", X_OK) == 0 { return "\(folder)/\(name)" }
    return nil
  }

  /// Starts nothing yet.
  public init(_ options: Options = Options()) throws {
    self.options = options
    // In memory where possible: etcd waits for each write to be on the disk, and these disks are not what is tested.
    folder = try Files.makeTemporaryDirectory(prefix: "margay-etcd-", in: unsafe access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp")
    try Self.removeAtExit(folder)
    let ports = try Self.freePorts(options.members * 2)
    members = Mutex(
      (0..<options.members).map { Member(name: "m\($0)", clientPort: ports[2 * $0], peerPort: ports[2 * $0 + 1], process: nil) })
  }
  deinit {
    for member in members.withLock({ $0 }) {
      if let process = member.process { kill(process.pid, SIGKILL) }
    }
    try? Files.removeTree(folder)
  }

  /// Removes `folder` when this process has ended, however it ended: a shell waits for the end of a pipe that only we hold.
  public static func removeAtExit(_ folder: String) throws {
    var ends: [CInt] = [-1, -1]
    guard unsafe cl_pipe(&ends) == 0 else { throw Fault("no pipe") }
    defer { close(ends[0]) }
    // A member that is being killed meanwhile may write once more.
    let script = "cat; rm -rf \"$0\"; sleep 1; rm -rf \"$0\""
    // Neither its end nor ours is waited for; the other end of the pipe stays open on purpose.
    _ = try ChildCommand("/bin/sh", ["-c", script, folder], input: ends[0], output: nil, error: nil, newProcessGroup: true).start()
  }

  /// Ports that were free a moment ago.
  public static func freePorts(_ count: Int) throws -> [Int] {
    // All at once, so that no port comes twice.
    var sockets: [CInt] = []
    defer { for descriptor in sockets { close(descriptor) } }
    var ports: [Int] = []
    for _ in 0..<count {
      let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
      guard descriptor >= 0 else { throw Fault("no socket") }
      sockets.append(descriptor)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      let result = unsafe withUnsafeMutablePointer(to: &address) { pointer in
        unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
          unsafe bind(descriptor, pointer, length) == 0 ? getsockname(descriptor, pointer, &length) : -1
        }
      }
      guard result == 0 else { throw Fault("no free port") }
      ports.append(Int(UInt16(bigEndian: address.sin_port)))
    }
    return ports
  }

  public var endpoints: [EtcdEndpoint] { members.withLock { $0 }.map { EtcdEndpoint(host: options.address, port: $0.clientPort) } }
  /// How a client reaches it: with TLS if the server wants it, without user.
  public var configuration: EtcdConfiguration {
    var configuration = EtcdConfiguration(endpoints: endpoints)
    if let tls = options.tls {
      configuration.tls = .init(caFile: tls.authority)
      if options.isClientCertificateWanted {
        configuration.tls?.certificateFile = tls.clientCertificate
        configuration.tls?.keyFile = tls.clientKey
      }
    }
    return configuration
  }

  /// Starts the members that do not run; a member that ran before goes on with its data.
  public func start(_ indices: [Int]? = nil) async throws {
    for index in indices ?? Array(0..<options.members) {
      let all = members.withLock { $0 }
      guard all[index].process == nil else { continue }
      let process = try await run(all[index], all)
      members.withLock { $0[index].process = process }
    }
  }

  private func run(_ member: Member, _ all: [Member]) async throws -> Process {
    guard let path = Self.path else { throw Fault("etcd is not installed") }
    let scheme = options.tls == nil ? "http" : "https"
    let client = "\(scheme)://\(options.address):\(member.clientPort)"
    var arguments = [
      "--name", member.name, "--data-dir", "\(folder)/\(member.name)", "--listen-client-urls", client, "--advertise-client-urls", client,
      "--listen-peer-urls", "http://127.0.0.1:\(member.peerPort)", "--initial-advertise-peer-urls", "http://127.0.0.1:\(member.peerPort)",
      "--initial-cluster", all.map { "\($0.name)=http://127.0.0.1:\($0.peerPort)" }.joined(separator: ","),
      "--initial-cluster-token", folder, "--logger", "zap", "--log-outputs", "\(folder)/\(member.name).log", "--max-txn-ops", "10000",
    ]
    if let tls = options.tls {
      arguments += ["--cert-file", tls.serverCertificate, "--key-file", tls.serverKey, "--trusted-ca-file", tls.authority]
      if options.isClientCertificateWanted { arguments.append("--client-cert-auth") }
    }
    // The last of two equal options counts.
    arguments += options.arguments + moreArguments.withLock { $0 }
    let command = ChildCommand(path, arguments, environment: ["PATH=/usr/bin:/bin"], output: nil, error: nil, networkNamespace: options.namespace,
      deathSignal: SIGKILL)
    return try await withCheckedThrowingContinuation { continuation in
      do {
        try DedicatedThread.start {
          do throws(SystemError) {
            let child = try command.start()
            let process = Process(pid: child.pid)
            continuation.resume(returning: process)
            _ = try? child.wait()
            process.end()
          } catch {
            continuation.resume(throwing: error)
          }
        }
      } catch {
        continuation.resume(throwing: error)
      }
    }
  }

  /// Ends members and returns when they have ended.
  public func stop(_ indices: [Int]? = nil, signal: CInt = SIGKILL) async {
    for index in indices ?? Array(0..<options.members) {
      guard let process = members.withLock({ $0[index].process }) else { continue }
      kill(process.pid, SIGCONT)
      kill(process.pid, signal)
      await process.wait()
      members.withLock { $0[index].process = nil }
    }
  }
  /// A stopped process keeps its connections and answers nothing: to its clients it is a host that vanished.
  public func freeze(_ index: Int) { signal(index, SIGSTOP) }
  public func thaw(_ index: Int) { signal(index, SIGCONT) }
  private func signal(_ index: Int, _ number: CInt) {
    if let process = members.withLock({ $0[index].process }) { kill(process.pid, number) }
  }

  /// Makes another member the leader.
  public func moveLeader() throws {
    for endpoint in endpoints {
      let fields = try control(["endpoint", "status", "--write-out", "fields"], at: [endpoint]).split(separator: "\n")
      func number(_ name: String) -> UInt64? {
        fields.first { $0.hasPrefix("\"\(name)\"") }?.split(separator: " ").last.flatMap { UInt64($0) }
      }
      guard let leader = number("Leader"), number("MemberID") == leader else { continue }
      let others = try control(["member", "list", "--write-out", "simple"]).split(separator: "\n")
        .compactMap { UInt64($0.prefix { $0 != "," }, radix: 16) }.filter { $0 != leader }
      guard let next = others.first else { throw Fault("a leader alone") }
      try control(["move-leader", String(next, radix: 16)], at: [endpoint])
      return
    }
    throw Fault("no leader")
  }

  /// What the first member holds now, in a file that `restore` understands.
  public func snapshot() throws -> String {
    let file = "\(folder)/snapshot"
    try? Files.remove(file)
    try control(["snapshot", "save", file], at: [endpoints[0]])
    return file
  }
  /// Puts the first member, which must be stopped and alone, back to a snapshot. With the same token the cluster keeps its number.
  public func restore(_ file: String, token: String? = nil) throws {
    let member = members.withLock { $0[0] }
    try Files.removeTree("\(folder)/\(member.name)")
    let peer = "http://127.0.0.1:\(member.peerPort)"
    let result = try ChildCommand(
      Self.controlPath,
      [
        "snapshot", "restore", file, "--name", member.name, "--initial-cluster", "\(member.name)=\(peer)", "--initial-advertise-peer-urls", peer,
        "--initial-cluster-token", token ?? folder, "--data-dir", "\(folder)/\(member.name)",
      ], environment: ["PATH=/usr/bin:/bin", "ETCDCTL_API=3", "HOME=/tmp"]
    ).runToEnd()
    guard result.code == 0 else { throw Fault("etcdctl snapshot restore: \(result.output)") }
  }

  /// Arguments of the next start, in place of those given here before.
  public func setArguments(_ arguments: [String]) { moreArguments.withLock { $0 = arguments } }

  /// A number that the first member tells of itself, by its name among Prometheus' metrics. Only without TLS.
  public func metric(_ name: String) throws -> Double {
    let request = "exec 3<>/dev/tcp/127.0.0.1/\(endpoints[0].port); printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    let text = try ChildCommand("/bin/bash", ["-c", request]).runToEnd().output
    for line in text.split(separator: "\n") where line.hasPrefix(name + " ") {
      if let value = Double(line.dropFirst(name.count + 1)) { return value }
    }
    throw Fault("no metric \(name)")
  }

  /// Runs etcdctl against the cluster, or against the given endpoints.
  @discardableResult
  public func control(_ words: [String], user: String? = nil, input: String? = nil, at endpoints: [EtcdEndpoint]? = nil) throws -> String {
    var arguments = ["--endpoints", (endpoints ?? self.endpoints).map { "\(options.tls == nil ? "http" : "https")://\($0)" }.joined(separator: ",")]
    if let tls = options.tls {
      // It is our client that is tested for checking names.
      arguments += ["--insecure-skip-tls-verify", "--cacert", tls.authority, "--cert", tls.clientCertificate, "--key", tls.clientKey]
    }
    if let user { arguments += ["--user", user] }
    // Short enough to lie in the pipe until it is read.
    var ends: [CInt] = [-1, -1]
    guard unsafe cl_pipe(&ends) == 0 else { throw Fault("no pipe") }
    defer { close(ends[0]) }
    try? Files.write(Array((input ?? "").utf8), descriptor: ends[1], name: "etcdctl's input")
    close(ends[1])
    let result = try ChildCommand(
      Self.controlPath, arguments + words, environment: ["PATH=/usr/bin:/bin", "ETCDCTL_API=3", "HOME=/tmp"],
      input: ends[0], networkNamespace: options.namespace
    ).runToEnd()
    guard result.code == 0 else { throw Fault("etcdctl \(words.joined(separator: " ")): \(result.output)") }
    return result.output
  }

  /// Returns when the cluster takes writes.
  public func waitUntilReady(at endpoints: [EtcdEndpoint]? = nil, within limit: Duration = .seconds(30)) async throws {
    let end = ContinuousClock.now + limit
    while true {
      do {
        try control(["put", "margay-test-ready", "1"], at: endpoints)
        try control(["del", "margay-test-ready"], at: endpoints)
        return
      } catch {
        if .now > end { throw error }
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }
}
