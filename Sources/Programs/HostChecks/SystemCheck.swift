/// `margay node checksystem`: whether this host can do what a node must, found out by doing it.
///
/// What changes the kernel is tried in a network namespace of its own, which ends with the check. Nothing of the host is changed.
import Addresses
import Glibc
public import JSON
import NetlinkEdge
import NetlinkMessages
import Octets
import PolicyRendering
import Rulesets
import RulesetDriver
import Sockets
import Synchronization

public struct SystemCheck: Sendable {
  public enum Result: Sendable {
    /// With what was seen.
    case ok(String)
    case missing(reason: String, remedy: String)
    /// It could not be tried.
    case unknown(String)
  }
  public struct Finding: Sendable {
    public var name: String
    /// Without it a node does not work; otherwise only what `consequence` says.
    public var isNeeded: Bool
    public var consequence: String
    public var result: Result

    public var isBad: Bool { if case .missing = result { isNeeded } else { false } }
    public var word: String {
      switch result {
      case .ok: "ok"
      case .missing: "missing"
      case .unknown: "unknown"
      }
    }
    public var json: JSONValue {
      var value: JSONValue = [
        "name": .string(name), "result": .string(word), "needed": .bool(isNeeded), "consequence": .string(consequence),
      ]
      switch result {
      case .ok(let seen): value["seen"] = .string(seen)
      case .missing(let reason, let remedy):
        value["reason"] = .string(reason)
        value["remedy"] = .string(remedy)
      case .unknown(let why): value["reason"] = .string(why)
      }
      return value
    }
  }

  private let stateDirectory: String
  private let runDirectory: String
  private var findings: [Finding] = []

  public static func run(stateDirectory: String, runDirectory: String) -> [Finding] {
    var check = SystemCheck(stateDirectory: stateDirectory, runDirectory: runDirectory)
    check.kernel()
    check.sandboxed()
    check.sysctls()
    check.space()
    return check.findings
  }
  private init(stateDirectory: String, runDirectory: String) {
    self.stateDirectory = stateDirectory
    self.runDirectory = runDirectory
  }

  private mutating func note(_ name: String, needed: Bool, without consequence: String, _ result: Result) {
    findings.append(Finding(name: name, isNeeded: needed, consequence: consequence, result: result))
  }

  // MARK: The checks

  private mutating func kernel() {
    let release = (try? Files.readText("/proc/sys/kernel/osrelease"))?.filter { !$0.isWhitespace } ?? "?"
    let parts = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
    let isNew = parts.count == 2 && (parts[0], parts[1]) >= (5, 10)
    note(
      "kernel", needed: true, without: "older kernels lack nftables' verdict maps with intervals and strict netlink dumps",
      isNew ? .ok(release) : .missing(reason: "\(release) is older than 5.10", remedy: "use a kernel from 5.10 on"))
    note(
      "root", needed: false, without: "what needs root could not be tried; a node runs as root",
      geteuid() == 0 ? .ok("uid 0") : .unknown("run as uid \(geteuid()); run the command as root to try everything"))
    do throws(NetlinkError) {
      let links = try RouteNetlink().links()
      note("rtnetlink", needed: true, without: "no interface, route or neighbour can be seen or set", .ok("\(links.count) links"))
    } catch {
      note(
        "rtnetlink", needed: true, without: "no interface, route or neighbour can be seen or set",
        .missing(reason: "\(error)", remedy: "a kernel with CONFIG_NET; in a container, no seccomp filter on netlink sockets"))
    }
  }

  /// What changes something: in a namespace of our own.
  private mutating func sandboxed() {
    let namespace: NetworkNamespace
    do throws(SystemError) {
      namespace = try NetworkNamespace.make()
      note("network namespaces", needed: true, without: "no workload can be attached", .ok("made one"))
    } catch {
      let isRight = error.code == EPERM
      note(
        "network namespaces", needed: true, without: "no workload can be attached",
        isRight
          ? .unknown("making one is not permitted to this user")
          : .missing(reason: "\(error)", remedy: "a kernel with CONFIG_NET_NS; in a container, the capability CAP_SYS_ADMIN"))
      for name in ["nftables", "nftables owner flag", "veth", "VXLAN", "IP-in-IP", "WireGuard", "connection tracking"] {
        note(
          name, needed: ["nftables", "veth", "connection tracking"].contains(name), without: "",
          .unknown("it is tried in a namespace of its own"))
      }
      return
    }
    ruleset(in: namespace)
    links(in: namespace)
    tracking(in: namespace)
  }

  /// The frame of our own table, as felix would load it: sets, maps, connection tracking, logging and what else it uses.
  private mutating func ruleset(in namespace: NetworkNamespace) {
    let without = "no policy can be enforced, and no packet of a workload passes"
    let ownerWithout = "other programs could change the table unnoticed until felix looks again"
    do {
      let kernel = try NetlinkRuleset(namespace: namespace.descriptor.borrowed)
      let driver = RulesetDriver(kernel: kernel)
      var renderer = PolicyRenderer()
      let report = try driver.apply(renderer.apply([]))
      guard let table = try kernel.read() else {
        note(
          "nftables", needed: true, without: without,
          .missing(reason: "the table is not there after it was made", remedy: "report this kernel"))
        return
      }
      if let failure = report.failures.first {
        note("nftables", needed: true, without: without, .missing(reason: "\(failure)", remedy: Self.tablesRemedy))
      } else {
        let rules = table.chains.values.reduce(0) { $0 + $1.rules.count }
        note(
          "nftables", needed: true, without: without,
          .ok("our table: \(table.chains.count) chains, \(rules) rules, \(table.sets.count) sets and maps"))
      }
      note(
        "nftables owner flag", needed: false, without: ownerWithout,
        table.flags.contains(.owner)
          ? .ok(table.flags.contains(.persist) ? "owner and persist" : "owner; persist came with Linux 6.9")
          : .missing(reason: "this kernel does not know it", remedy: "use a kernel from 5.12 on (persist: 6.9)"))
    } catch {
      note("nftables", needed: true, without: without, .missing(reason: "\(error)", remedy: Self.tablesRemedy))
      note("nftables owner flag", needed: false, without: ownerWithout, .unknown("there is no table to try it with"))
    }
  }
  private static let tablesRemedy =
    "modprobe nf_tables nft_ct nft_log nft_limit nft_fib_inet; a kernel with CONFIG_NF_TABLES_INET and these as modules"

  private mutating func links(in namespace: NetworkNamespace) {
    let probes: [(name: String, needed: Bool, without: String, module: String, link: NewLink)] = [
      (
        "veth", true, "no workload can be attached", "veth",
        NewLink(name: "probe0", kind: .veth(peer: NewLink(name: "probe1", kind: .peer)))
      ),
      ("VXLAN", false, "pools with vxlanMode do not carry traffic", "vxlan", NewLink(name: "probe2", kind: .other("vxlan"))),
      ("IP-in-IP", false, "pools with ipipMode do not carry traffic", "ipip", NewLink(name: "probe3", kind: .other("ipip"))),
      ("WireGuard", false, "traffic between hosts cannot be encrypted", "wireguard", NewLink(name: "probe4", kind: .other("wireguard"))),
    ]
    for probe in probes {
      let result: Result
      do throws(NetlinkError) {
        try RouteNetlink(namespace: namespace).apply(.addLink(probe.link))
        result = .ok("made one")
      } catch {
        // A kind that the kernel knows refuses only for want of its own settings; an unknown one is "not supported".
        switch error.code {
        case EOPNOTSUPP, ENODEV, ENOENT:
          result = .missing(reason: "the kernel does not know this kind of link", remedy: "modprobe \(probe.module)")
        case EPERM, EACCES: result = .unknown("not permitted")
        default: result = .ok("the kernel knows it")
        }
      }
      note(probe.name, needed: probe.needed, without: probe.without, result)
    }
  }

  private mutating func tracking(in namespace: NetworkNamespace) {
    let without = "replies cannot be told from new flows, so that policy does not work"
    do {
      let socket = try namespace.netlink(.netfilter)
      var batch = NetlinkBatch()
      // nfnetlink(7): subsystem 1 is connection tracking, message 1 of it GET; behind the header family, version and resource.
      batch.add(type: 1 << 8 | 1, flags: .dump) { writer in
        writer.u8(2)
        writer.u8(0)
        writer.u16(0)
      }
      if let error = try socket.request(&batch, what: "list flows")[0] { throw error }
      let limit = (try? Sysctls.read("netfilter/nf_conntrack_max")).flatMap { Int($0) }
      let count = (try? Sysctls.read("netfilter/nf_conntrack_count")).flatMap { Int($0) }
      if let limit, let count, count * 10 > limit * 9 {
        note(
          "connection tracking", needed: true, without: without,
          .missing(reason: "\(count) of \(limit) flows are in use", remedy: "sysctl -w net.netfilter.nf_conntrack_max=\(limit * 4)"))
      } else {
        note(
          "connection tracking", needed: true, without: without,
          .ok(limit.map { "\(count ?? 0) of \($0) flows in use" } ?? "flows can be listed"))
      }
    } catch {
      note(
        "connection tracking", needed: true, without: without,
        .missing(reason: "\(error)", remedy: "modprobe nf_conntrack nf_conntrack_netlink"))
    }
  }

  private mutating func sysctls() {
    let wanted: [(key: String, name: String, values: [String], needed: Bool, without: String)] = [
      ("ipv4/ip_forward", "IPv4 forwarding", ["1"], true, "packets of workloads go nowhere; felix sets it when it starts"),
      (
        "ipv6/conf/all/forwarding", "IPv6 forwarding", ["1"], false,
        "packets of workloads with IPv6 go nowhere; felix sets it when it starts"
      ),
      ("ipv4/conf/all/rp_filter", "reverse path filter", ["0", "1", "2"], false, ""),
    ]
    for sysctl in wanted {
      let path = Sysctls.path(sysctl.key)
      guard let value = try? Sysctls.read(sysctl.key) else {
        if sysctl.key.hasPrefix("ipv6") {
          note(
            "IPv6", needed: false, without: "workloads have IPv4 only",
            .missing(reason: "\(path) does not exist", remedy: "boot without ipv6.disable=1"))
        } else {
          note(sysctl.name, needed: sysctl.needed, without: sysctl.without, .unknown("\(path) cannot be read"))
        }
        continue
      }
      // Felix switches forwarding on, so it must be possible; that it is off before is no fault.
      let isWritable = unsafe access(path, W_OK) == 0
      if sysctl.values.contains(value) {
        note(sysctl.name, needed: sysctl.needed, without: sysctl.without, .ok(value))
      } else if isWritable {
        note(sysctl.name, needed: sysctl.needed, without: sysctl.without, .ok("\(value); it can be set, and felix does"))
      } else if geteuid() != 0 {
        note(sysctl.name, needed: sysctl.needed, without: sysctl.without, .unknown("\(value); whether it can be set only root can say"))
      } else {
        note(
          sysctl.name, needed: sysctl.needed, without: sysctl.without,
          .missing(reason: "it is \(value), and \(path) cannot be written", remedy: "mount /proc/sys writable, or set it from outside"))
      }
    }
  }

  private mutating func space() {
    for (directory, least, without) in [
      (stateDirectory, 64, "what must survive a restart cannot be kept"), (runDirectory, 16, "sockets and process ids have no place"),
    ] {
      // Of a folder that is still to be made, the one it will be made in.
      var place = directory
      while !Files.isDirectory(place), place != "/", place != "." { place = Files.parent(of: place) }
      var status = statvfs()
      guard unsafe statvfs(place, &status) == 0 else {
        note("space in \(directory)", needed: true, without: without, .unknown("\(place) cannot be asked"))
        continue
      }
      let free = UInt64(status.f_bavail) * UInt64(status.f_frsize) / (1 << 20)
      let isReadOnly = status.f_flag & 1 != 0
      note(
        "space in \(directory)", needed: true, without: without,
        isReadOnly
          ? .missing(reason: "\(place) is mounted read-only", remedy: "mount it writable, or name another folder")
          : free >= UInt64(least)
            ? .ok("\(free) MiB free")
            : .missing(reason: "\(free) MiB free, at least \(least) are needed", remedy: "make room, or name another folder"))
    }
  }
}
