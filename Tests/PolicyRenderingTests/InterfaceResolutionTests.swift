/// Which interface each host endpoint gets.

import Addresses
import HostPlans
import Resources
import Testing

@testable import PolicyRendering

func hostKey(_ name: String) -> ResourceKey { ResourceKey(.hostEndpoint, name: name) }

@Suite("Interfaces of host endpoints")
struct InterfaceResolutionTests {
  /// `eth0`, `*`, or addresses.
  static func endpoints(_ claims: [String: String]) -> [ResourceKey: HostEndpointPlan] {
    Dictionary(
      uniqueKeysWithValues: claims.map { name, claim in
        let addresses = claim.split(separator: " ").compactMap { IPAddress(String($0)) }
        return (hostKey(name), HostEndpointPlan(interfaceName: addresses.isEmpty ? claim : "", expectedAddresses: addresses))
      })
  }
  static let observed: [String: Set<IPAddress>] = [
    "eth0": [address("192.0.2.1"), address("fd00:2::1")], "eth1": [address("198.51.100.1")], "cali1": [address("10.0.0.1")],
    "kube-ipvs0": [address("10.96.0.1")],
  ]

  struct Case: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var claims: [String: String]
    var holders: [String: String] = [:]
    var wildcard: String?
    /// Endpoint, and what its finding says.
    var findings: [String: String] = [:]
  }
  static let cases: [Case] = [
    Case(testDescription: "A name is taken", claims: ["a": "eth0"], holders: ["eth0": "a"]),
    Case(
      testDescription: "A name is taken before its interface exists", claims: ["a": "eth7"], holders: ["eth7": "a"],
      findings: ["a": "does not exist"]),
    Case(testDescription: "An expected address names its interface", claims: ["a": "192.0.2.9 fd00:2::1"], holders: ["eth0": "a"]),
    Case(
      testDescription: "Addresses of two interfaces name both", claims: ["a": "192.0.2.1 198.51.100.1"],
      holders: ["eth0": "a", "eth1": "a"]),
    Case(
      testDescription: "A name comes before an expected address", claims: ["a": "192.0.2.1", "b": "eth0"], holders: ["eth0": "b"],
      findings: ["a": "belongs to HostEndpoint b"]),
    Case(
      testDescription: "Of two names the first endpoint has it", claims: ["b": "eth0", "a": "eth0"], holders: ["eth0": "a"],
      findings: ["b": "belongs to HostEndpoint a"]),
    Case(
      testDescription: "Of two expected addresses the first endpoint has it", claims: ["b": "192.0.2.1", "a": "fd00:2::1"],
      holders: ["eth0": "a"],
      findings: ["b": "belongs to HostEndpoint a"]),
    Case(
      testDescription: "Nobody has the address", claims: ["a": "192.0.2.77"],
      findings: ["a": "no interface has one of expectedIPs (192.0.2.77)"]),
    Case(
      testDescription: "All the others beside one by name", claims: ["z": "*", "a": "eth0"], holders: ["eth0": "a"], wildcard: "z"),
    Case(
      testDescription: "Only one is for all", claims: ["b": "*", "a": "*"], wildcard: "a",
      findings: ["b": "all interfaces belong to HostEndpoint a"]),
    Case(
      testDescription: "A workload's interface is no host's", claims: ["a": "cali1", "b": "10.0.0.1"],
      findings: ["a": "interfacePrefix", "b": "no interface"]),
    Case(
      testDescription: "What is excluded is nobody's", claims: ["a": "kube-ipvs0", "b": "10.96.0.1"],
      findings: ["a": "excluded by interfaceExclude", "b": "no interface"]),
  ]

  @Test("Names, then addresses, then all the others", arguments: cases)
  func resolution(_ one: Case) {
    let resolution = InterfaceResolution(Self.endpoints(one.claims), observed: Self.observed, HostSettings())
    #expect(resolution.holders == one.holders.mapValues(hostKey))
    #expect(resolution.wildcard == one.wildcard.map(hostKey))
    #expect(Set(resolution.findings.keys) == Set(one.findings.keys.map(hostKey)))
    for (name, words) in one.findings { #expect(resolution.findings[hostKey(name)]?.contains(words) == true, "\(resolution.findings)") }
  }

  @Test("Excluded are names and regular expressions between slashes; one that does not read excludes nothing")
  func exclusion() {
    var settings = HostSettings()
    settings.excludedInterfaces = ["eth1", "/^veth.*$/", "/(/", ""]
    let observed: [String: Set<IPAddress>] = ["eth0": [], "eth1": [], "veth12": [], "xveth": []]
    let resolution = InterfaceResolution(Self.endpoints(["a": "*"]), observed: observed, settings)
    #expect(resolution.excluded == ["eth1", "veth12"])
  }
}
