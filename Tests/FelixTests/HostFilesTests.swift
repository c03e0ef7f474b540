import Addresses
import HostPlans
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import Sockets
import Testing

@testable import FelixProgram

@Suite("Files of the host")
struct HostFilesTests {
  private func key(_ name: String, _ namespace: String = "default") -> ResourceKey { ResourceKey(.workloadEndpoint, namespace: namespace, name: name) }

  @Test(
    "A status file has Calico's name: parts escaped as in a URL, blanks between",
    arguments: [
      ("n1-k8s-web--1-eth0", "prod", "k8s default", "k8s prod%2Fweb-1 eth0"),
      ("n1-cni-0a1b-eth0", "default", "", "cni default%2F0a1b eth0"),
      ("n1-openstack-a.b_c-d", "ns", "", "openstack ns%2Fa.b_c d"),
      ("n1-libnetwork-libnetwork-ep", "default", "", "libnetwork libnetwork ep"),
    ])
  func names(name: String, namespace: String, _: String, expected: String) { #expect(EndpointStatusFiles.name(key(name, namespace)) == expected) }

  @Test("The folder says who is up and nothing else, follows the setting, and a folder that cannot be made is told")
  func statusFiles() throws {
    let folder = try Files.makeTemporaryDirectory(prefix: "status")
    defer { try? Files.removeTree(folder) }
    func list(_ prefix: String) -> [String] { ((try? Files.list("\(folder)/\(prefix)/endpoint-status")) ?? []).sorted() }
    try Files.makeDirectories("\(folder)/a/endpoint-status")
    try Files.write([], to: "\(folder)/a/endpoint-status/k8s default%2Fgone eth0", create: true)
    var files = EndpointStatusFiles()
    files.adopt(prefix: "\(folder)/a")
    let content = EndpointStatusFiles.content(interface: "cali1", mac: "ee:ee:ee:ee:ee:ee", addresses: ["10.0.0.1/32", "fd00::1/128"])
    files.report([(key("n1-k8s-a-eth0"), content), (key("n1-k8s-b-eth0"), content), (key("n1-k8s-c-eth0"), nil)])
    files.write()
    #expect(list("a") == ["k8s default%2Fa eth0", "k8s default%2Fb eth0"])
    let document = try JSONValue(parsing: Files.read("\(folder)/a/endpoint-status/k8s default%2Fa eth0"))
    #expect(document == ["ifaceName": "cali1", "mac": "ee:ee:ee:ee:ee:ee", "ipv4Nets": ["10.0.0.1/32"], "ipv6Nets": ["fd00::1/128"]])
    files.report([(key("n1-k8s-a-eth0"), nil)])
    files.write()
    #expect(list("a") == ["k8s default%2Fb eth0"])
    files.adopt(prefix: "\(folder)/b")
    files.write()
    #expect(list("a") == [] && list("b") == ["k8s default%2Fb eth0"])
    try Files.write([], to: "\(folder)/file", create: true)
    files.adopt(prefix: "\(folder)/file")
    files.write()
    #expect(files.problem?.contains("\(folder)/file") == true && list("b") == [])
    files.adopt(prefix: nil)
    files.write()
    #expect(files.problem == nil)
  }

  private static func pool(_ cidr: String, ipip: IPPoolSpec.Encapsulation = .never, vxlan: IPPoolSpec.Encapsulation = .never) -> IPPoolSpec {
    var spec = IPPoolSpec(cidr: IPPrefix(cidr)!)
    (spec.ipipMode, spec.vxlanMode) = (ipip, vxlan)
    return spec
  }

  @Test("The MTU of workloads leaves room for the largest header in use, or is what somebody gives")
  func choice() throws {
    func workloads(_ pools: [IPPoolSpec], _ change: (inout TunnelSettings) -> Void = { _ in }, host: UInt32 = 1500) -> UInt32 {
      var settings = TunnelSettings()
      change(&settings)
      return MTUChoice(
        interfaces: [("eth0", host), ("eth1", 9000), ("cali1", 500)], isNamed: { $0.hasPrefix("eth") },
        in: MTUFile.tunnels(pools, settings, ipv6: true), configured: settings.mtu
      ).workloads
    }
    let plain = Self.pool("10.0.0.0/16")
    #expect(workloads([plain]) == 1500)
    #expect(workloads([plain], host: 8951) == 8951)
    #expect(workloads([plain, Self.pool("10.1.0.0/16", ipip: .crossSubnet)]) == 1480)
    #expect(workloads([plain, Self.pool("10.1.0.0/16", vxlan: .always)]) == 1450)
    #expect(workloads([plain, Self.pool("fd00::/48", vxlan: .always)]) == 1430)
    #expect(workloads([plain], { $0.wireguard = true }) == 1440)
    #expect(workloads([plain], { $0.wireguardV6 = true }) == 1420)
    #expect(workloads([plain], { $0.vxlan = true }) == 1450)
    #expect(workloads([Self.pool("10.1.0.0/16", vxlan: .always)], { $0.vxlan = false }) == 1500)
    #expect(workloads([Self.pool("10.1.0.0/16", vxlan: .always)], { $0.vxlanMTU = 1400 }) == 1400)
    let none = MTUChoice(interfaces: [(name: "x", mtu: 900)], isNamed: { _ in false }, in: [], configured: { _ in 0 })
    #expect(none.workloads == 1500)
  }

  @Test(
    "The file follows the kernel's interfaces, the pools and the pattern; where it is required, its absence is no good health",
    .enabled(if: KernelSandbox.isAvailable))
  func file() throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace("mtu")
    let folder = try Files.makeTemporaryDirectory(prefix: "mtu")
    defer { try? Files.removeTree(folder) }
    func ip(_ line: String) throws { try sandbox.ip(host, line.split(separator: " ").map(String.init)) }
    try ip("link add eth0 mtu 1400 up type bridge")
    try ip("link add eth1 mtu 1300 type bridge")
    try ip("link add lan0 mtu 1200 up type bridge")
    let files = try HostFiles(folder: folder, usualPrefix: "\(folder)/run", namespace: host)
    func read() throws -> String { try Files.readText("\(folder)/mtu") }
    files.adopt(FelixConfigurationSpec())
    files.roundEnded()
    #expect(try read() == "1400\n")
    try ip("link set eth1 up")
    files.roundEnded()
    // Only a change that the kernel tells of, or a setting, makes it look again.
    #expect(try read() == "1400\n")
    var event = try #require(try RouteNetlink(namespace: host).link(named: "eth1"))
    event.flags.insert(.up)
    files.note(.link(event))
    files.roundEnded()
    #expect(try read() == "1300\n")
    files.adopt(FelixConfigurationSpec(["mtuIfacePattern": .text("^lan")]))
    files.roundEnded()
    #expect(try read() == "1200\n")

    let lost = try HostFiles(folder: "/proc/none", usualPrefix: "", namespace: host)
    lost.adopt(FelixConfigurationSpec())
    lost.roundEnded()
    #expect(lost.problems.count == 1 && lost.mtu.fault == nil)
    lost.adopt(FelixConfigurationSpec(["requireMTUFile": .flag(true)]))
    lost.roundEnded()
    #expect(lost.mtu.fault?.contains("/proc/none") == true)
  }
}
