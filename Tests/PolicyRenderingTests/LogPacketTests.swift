/// Log rules in a real kernel: the lines that people grep for.

import Glibc
import HostPlans
import KernelSandbox
import NetlinkEdge
import Resources
import Sockets
import Testing

@testable import PolicyRendering

/// The kernel's log from now on. Lines of packets in other namespaces than the first appear only with net.netfilter.nf_log_all_netns; what it
/// was is put back.
private final class KernelLog {
  private static let switchPath = "/proc/sys/net/netfilter/nf_log_all_netns"
  private let descriptor: CInt
  private let before: String

  /// Needs a readable /dev/kmsg and the switch, which a container may lack.
  static var isAvailable: Bool {
    KernelSandbox.isAvailable && access("/dev/kmsg", R_OK) == 0 && access(switchPath, W_OK) == 0
      && [nil, "0", "1"].contains((try? Files.readText(switchPath))?.trimmed)
  }

  init() throws {
    before = try Files.readText(Self.switchPath).trimmed
    try Self.set("1")
    descriptor = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0, lseek(descriptor, 0, SEEK_END) >= 0 else { throw SystemError(code: errno, operation: "read /dev/kmsg") }
  }
  deinit {
    close(descriptor)
    try? Self.set(before)
  }
  private static func set(_ value: String) throws {
    let file = open(switchPath, O_WRONLY | O_CLOEXEC)
    guard file >= 0 else { throw SystemError(code: errno, operation: "open \(switchPath)") }
    defer { close(file) }
    guard write(file, value, value.utf8.count) > 0 else { throw SystemError(code: errno, operation: "write \(switchPath)") }
  }

  /// New lines that contain `word`.
  func lines(with word: String) -> [String] {
    var found: [String] = []
    var buffer = [UInt8](repeating: 0, count: 8192)
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      // EPIPE: older lines were overwritten before we came to them.
      if count < 0, errno == EPIPE || errno == EINTR { continue }
      guard count > 0 else { return found }
      let line = String(decoding: buffer[..<count], as: UTF8.self)
      if line.contains(word) { found.append(line) }
    }
  }
}

extension String {
  fileprivate var trimmed: String { String(filter { !$0.isNewline }) }
}

@Suite(
  "The kernel's log",
  .enabled(if: KernelLog.isAvailable, "needs root, /dev/kmsg and net.netfilter.nf_log_all_netns"), .serialized)
struct LogPacketTests {
  @Test("A Log rule writes a line with the configured prefix and goes on; prefix and limit change in place")
  func lines() throws {
    let fabric = try Fabric()
    let log = try KernelLog()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    let mark = "margay-\(getpid())"
    var settings = HostSettings()
    settings.logPrefix = "\(mark) %t %k %p"
    let watched = [TierPlan(name: "security", policies: [policyKey("watch")])]
    try fabric.apply(
      .settings(settings), .policy(profileKey("kns.default"), PacketTests.allowAll),
      .policy(
        policyKey("watch"),
        PolicyPlan(ingress: [rule(.log) { $0.ipProtocol = .tcp; $0.destination.ports = [80...80] }, rule(.allow)], tier: "security")),
      fabric.endpoint(1), fabric.endpoint(2, ingress: watched))
    func seen(_ count: Int) -> [String] {
      var lines: [String] = []
      _ = eventually(within: Fabric.patience) {
        lines += log.lines(with: mark)
        return lines.count >= count
      }
      return lines
    }

    for (target, source) in [("10.65.0.2", "SRC=10.65.0.1"), ("fd65::2", "SRC=fd65:0000:0000:0000:0000:0000:0000:0001")] {
      #expect(try fabric.connects(one, two, target, 80, expecting: true))
      let lines = seen(1)
      #expect(lines.count == 1)
      let line = lines.first ?? ""
      for part in ["\(mark) security np default/watch: IN=cali1 OUT=cali2", source, "PROTO=TCP", "DPT=80"] {
        #expect(line.contains(part), "\(part) in \(line)")
      }
    }
    // What the rule does not match is not logged, and passes as well.
    #expect(try fabric.connects(one, two, "10.65.0.2", 81, expecting: true))
    #expect(log.lines(with: mark) == [])

    settings.logPrefix = "\(mark) again"
    settings.logLimit = LogLimit("1/day")
    settings.logLimit?.burst = 2
    try fabric.apply(.settings(settings))
    for _ in 0..<5 { #expect(try fabric.connects(one, two, "10.65.0.2", 80, expecting: true)) }
    #expect(try fabric.count("policy-in-np/default/watch", "rule 1") == 5, "the counter counts what is not written too")
    let lines = seen(3)
    #expect(lines.count == 2, "two at once and no more today")
    #expect(lines.allSatisfy { $0.contains("\(mark) again: IN=cali1") })
  }

  @Test("A policy that only logs denies at the end of its tier")
  func onlyLogs() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    try fabric.apply(
      .policy(profileKey("kns.default"), PacketTests.allowAll), .policy(policyKey("web"), PolicyPlan(ingress: [rule(.log)])),
      fabric.endpoint(1), fabric.endpoint(2, ingress: PacketTests.tier))
    #expect(try !fabric.connects(one, two, "10.65.0.2", 80, expecting: false))
    #expect(try fabric.count("policy-in-np/default/web", "rule 1") > 0)
  }
}
