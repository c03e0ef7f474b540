/// Where the figures come from: without these they mean nothing.

import Glibc
import JSON
import Sockets

struct Machine {
  /// Of this process, as the kernel counts it.
  static var residentOctets: Int {
    let pages = (try? Files.readText("/proc/self/statm"))?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  var facts: [(name: String, value: String)]

  static func load() -> String {
    let text = (try? Files.readText("/proc/loadavg")) ?? ""
    return text.split(separator: " ").prefix(1).joined()
  }

  static func output(_ words: String...) -> String? {
    guard let result = try? ChildCommand(words[0], Array(words.dropFirst())).runToEnd(), result.code == 0 else { return nil }
    return result.output.split(separator: "\n").first.map(String.init)
  }

  init() {
    facts = []
    func add(_ name: String, _ value: String?) { facts.append((name, value ?? "not found")) }
    add("date", Self.output("date", "-u", "+%Y-%m-%d %H:%M UTC"))
    let changed = Self.output("git", "status", "--porcelain", "--untracked-files=no", "--", ":!Benchmarks/RESULTS.md") != nil
    add("commit", Self.output("git", "rev-parse", "--short=10", "HEAD").map { changed ? "\($0) and local changes" : $0 })
    add("kernel", Self.output("uname", "-srm"))
    let cpus = ((try? Files.readText("/proc/cpuinfo")) ?? "").split(separator: "\n")
    let model = cpus.first { $0.hasPrefix("model name") }?.split(separator: ":").last.map { String($0.drop { $0 == " " }) }
    add("CPUs", "\(cpus.count { $0.hasPrefix("processor") }) × \(model ?? "unknown")")
    let memory = ((try? Files.readText("/proc/meminfo")) ?? "").split(separator: "\n").first.map { $0.split(separator: " ") }
    add("memory", memory.flatMap { Int($0[1]) }.map { "\($0 >> 20) GiB" })
    add("nft", Self.output("nft", "--version"))
    add("ip", Self.output("ip", "-V"))
    add("etcd", Self.output("etcd", "--version"))
    add("BIRD", Self.output("bird", "--version"))
    add("CNI plugins", Self.output("dpkg-query", "-W", "-f", "${Version}\n", "containernetworking-plugins"))
  }
}
