import DaemonLogs
import FelixSettings
import Glibc
import Logging
import Resources
import Sockets
import Testing

@Suite("A daemon's logs")
struct LogTests {
  private func plan(_ values: [String: FelixParameterValue], isHosts: Bool = true) -> LogPlan { LogPlan(FelixConfigurationSpec(values), isHosts: isHosts) }

  @Test("Where a log goes: Calico's places for the host's own daemon, standard error for others, and what settings say for both")
  func plans() {
    #expect(
      plan([:]) == LogPlan(screen: .info, file: .init(path: "/var/log/calico/felix.log", level: .info), system: .info))
    #expect(plan([:], isHosts: false) == LogPlan(screen: .info))
    #expect(plan(["logFilePath": .text("None"), "logSeveritySys": .text("none"), "logSeverityScreen": .text("Fatal")]).file == nil)
    #expect(plan(["logSeveritySys": .text("none")]).system == nil)
    #expect(plan(["logSeverityScreen": .text("none")]).screen == nil)
    #expect(plan(["logSeverityFile": .text("none")]).file == nil)
    let told = plan(["logFilePath": .text("/a"), "logSeverityFile": .text("Warning"), "logSeveritySys": .text("Error")], isHosts: false)
    #expect(told.file == .init(path: "/a", level: .warning) && told.system == .error && told.lowest == .info)
  }

  @Test("Each place has its own level, a rotated file is begun again, and a place that fails is told and stops nothing")
  func places() throws {
    let folder = try Files.makeTemporaryDirectory(prefix: "logs")
    defer { try? Files.removeTree(folder) }
    let path = "\(folder)/deep/felix.log"
    let output = LogOutput(
      program: "felix", LogPlan(screen: nil, file: .init(path: path, level: .debug), system: .warning), systemPath: "\(folder)/syslog")
    var log = Logger(label: "test") { output.handler(label: $0) }
    log[metadataKey: "a"] = "b"
    log.trace("one")
    log.debug("two")
    #expect(try Files.readText(path).hasSuffix("Z debug test: two a=b\n"))
    try Files.rename(path, to: "\(path).1")
    log.info("three")
    #expect(try Files.readText(path).hasSuffix("Z info test: three a=b\n"))
    #expect(try Files.readText("\(path).1").hasSuffix("two a=b\n"))

    // Nobody listens to the syslog, which is a fault only where it was asked for.
    log.error("four")
    #expect(output.problems.isEmpty)
    var asked = LogPlan(screen: nil, file: .init(path: path, level: .debug), system: .warning)
    asked.wantsSystem = true
    output.adopt(asked)
    log.error("five")
    #expect(output.problems.count == 1 && output.problems[0].contains("\(folder)/syslog"))
    let system = try DatagramSocket(path: "\(folder)/syslog")
    log.warning("six")
    log.info("seven")
    #expect(system.receive() == "<28>felix[\(getpid())]: warning test: six a=b")
    #expect(system.receive() == nil)
    #expect(output.problems.isEmpty)

    // A folder in the file's place.
    output.adopt(LogPlan(screen: nil, file: .init(path: folder, level: .info)))
    log.debug("eight")
    log.info("nine")
    #expect(output.problems.count == 1 && output.problems[0].contains(folder))
    output.adopt(LogPlan(screen: nil, file: .init(path: path, level: .error)))
    log.warning("ten")
    log.error("eleven")
    let text = try Files.readText(path)
    #expect(text.contains("five") && text.contains("six") && text.contains("eleven") && !text.contains("ten a=b") && !text.contains("nine"))
    #expect(output.problems.isEmpty)
  }
}

/// What a syslog daemon has.
private final class DatagramSocket {
  private let descriptor: CInt
  init(path: String) throws {
    descriptor = socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8) + [0]) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    try #require(result == 0)
  }
  deinit { close(descriptor) }
  func receive() -> String? {
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = recv(descriptor, &bytes, bytes.count, 0)
    return count < 0 ? nil : String(decoding: bytes[..<count], as: UTF8.self)
  }
}
