/// What a change of policy means for those who speak to each other now.
import Addresses
import ExplainProgram
import PolicyOracle
import Resources
import Tables
import Testing

@Suite("Verdicts before and after a change")
struct VerdictChangeTests {
  /// `count` clients and as many servers of one namespace, all alike, and one database.
  static func cluster(_ count: Int, _ more: [Resource] = []) -> Cluster {
    func endpoint(_ name: String, _ role: String, _ index: Int) -> Resource {
      var spec = WorkloadEndpointSpec()
      (spec.node, spec.orchestrator, spec.pod, spec.endpoint, spec.interfaceName) = ("n\(index % 7)", "k8s", name, "eth0", "cali\(index)")
      spec.ipNetworks = [IPPrefix("10.\(index >> 16).\(index >> 8 & 255).\(index & 255)/32")!, IPPrefix("fd00::\(String(index + 1, radix: 16))/128")!]
      spec.profiles = ["kns.shop"]
      return Resource(Metadata(name: name, namespace: "shop", labels: ["role": role, "hash": "\(index)"]), .workloadEndpoint(spec))
    }
    var cluster = Cluster()
    cluster.resources = (0..<count).map { endpoint("client-\($0)", "client", $0) } + (0..<count).map { endpoint("web-\($0)", "web", count + $0) }
    cluster.resources.append(endpoint("db-0", "db", 2 * count))
    let open = ProfileSpec(ingress: [Rule(.allow)], egress: [Rule(.allow)])
    cluster.resources += [Resource(Metadata(name: "kns.shop"), .profile(open))] + more
    return cluster
  }
  static func policy(_ role: String, from: String, port: UInt16) -> Resource {
    var spec = PolicySpec()
    spec.selector = "role == '\(role)'"
    spec.types = [.ingress]
    var rule = Rule(.allow, protocol: .tcp)
    rule.source.selector = "role == '\(from)'"
    rule.destination.ports = [.port(port)]
    spec.ingress = [rule]
    return Resource(Metadata(name: role, namespace: "shop"), .networkPolicy(spec))
  }

  @Test("A policy that comes closes what it does not allow, by classes of endpoints")
  func closes() {
    let changes = VerdictChanges(from: Self.cluster(3), to: Self.cluster(3, [Self.policy("db", from: "web", port: 5432)]))
    #expect(changes.endpoints == 7 && changes.classes == 3 && !changes.isSampled)
    // From three clients and from three servers to the one database.
    #expect(changes.pairs == 6)
    #expect(changes.changes.allSatisfy { !$0.isAllowed && $0.to == "shop/db-0" })
    #expect(changes.changes.contains { $0.from == "shop/client-0" && $0.packet.destinationPort == 5432 && $0.fromCount == 3 && $0.pairs == 3 })
    #expect(!changes.changes.contains { $0.from == "shop/web-0" && $0.packet.destinationPort == 5432 })
    #expect(changes.changes.contains { $0.from == "shop/web-0" && $0.packet.icmpType == 8 })
    #expect(changes.text(Palette(coloured: false)).hasPrefix("verdicts: 6 pairs of endpoints may say something else to each other, of 7 endpoints in 3 classes\n"))
  }

  @Test("A port more opens that port only")
  func opens() {
    let changes = VerdictChanges(
      from: Self.cluster(2, [Self.policy("db", from: "web", port: 5432)]), to: Self.cluster(2, [Self.policy("db", from: "web", port: 5433)]))
    #expect(Set(changes.changes.map { "\($0.isAllowed ? "+" : "-")\($0.packet.destinationPort ?? 0)" }) == ["-5432", "+5433"])
    #expect(changes.pairs == 2)
  }

  @Test("A change without effect says so")
  func none() {
    let policy = Self.policy("nobody", from: "web", port: 1)
    let changes = VerdictChanges(from: Self.cluster(2), to: Self.cluster(2, [policy]))
    #expect(changes.changes.isEmpty && changes.pairs == 0)
    #expect(changes.text(Palette(coloured: false)) == "verdicts: none changes, of 5 endpoints in 3 classes\n")
  }

  @Test("Labels of an endpoint, and the networks of a set, are changes like others")
  func surroundings() {
    var set = Resource(Metadata(name: "some", labels: ["kind": "some"]), .globalNetworkSet(NetworkSetSpec(nets: [IPPrefix("10.0.0.0/32")!])))
    var policy = Self.policy("db", from: "web", port: 5432)
    policy.spec.changePolicy { $0.ingress[0].source = { var side = EntityRule(); side.selector = "kind == 'some'"; side.namespaceSelector = "global()"; return side }() }
    let before = Self.cluster(2, [policy, set])
    set.spec = .globalNetworkSet(NetworkSetSpec(nets: [IPPrefix("10.0.0.0/31")!]))
    let changes = VerdictChanges(from: before, to: Self.cluster(2, [policy, set]))
    // The second client is in the set now.
    #expect(changes.changes.map(\.from) == ["shop/client-1"] && changes.changes.allSatisfy(\.isAllowed))
  }

  @Test("Ten thousand endpoints are as many questions as their classes")
  func many() {
    let changes = VerdictChanges(from: Self.cluster(5_000), to: Self.cluster(5_000, [Self.policy("db", from: "web", port: 5432)]))
    #expect(changes.endpoints == 10_001 && changes.classes == 3 && changes.pairs == 10_000)
  }

  @Test("More questions than people wait for are asked in part, and that is said")
  func sampled() {
    let changes = VerdictChanges(from: Self.cluster(2), to: Self.cluster(2, [Self.policy("db", from: "web", port: 5432)]), questionsMax: 4)
    #expect(changes.isSampled && changes.asked > 0 && changes.asked < changes.questions)
    #expect(changes.text(Palette(coloured: false)).contains("questions asked"))
  }
}
