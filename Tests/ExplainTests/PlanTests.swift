/// What Felix would program, without a kernel; and that a kernel takes it.
import Addresses
import Calculation
import Documents
import ExplainProgram
import Foundation
import HostPlans
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import RulesetDriver
import Rulesets
import Sockets
import Tables
import Testing

@Suite("A host's plan")
struct PlanTests {
  static func planning(_ host: String = "host2", _ more: [(key: ResourceKey, value: String)] = []) async throws -> HostPlanning {
    try HostPlanning(host: host, blocks: [(IPPrefix("10.65.1.0/26")!, BlockFact(affinity: "host2"))], in: try await Shop.cluster(more))
  }
  static let hostEndpoint = (
    key: ResourceKey(.hostEndpoint, name: "host2-eth0"),
    value: #"{"kind": "HostEndpoint", "metadata": {"name": "host2-eth0", "labels": {"role": "host"}}, "#
      + #""spec": {"node": "host2", "interfaceName": "eth0", "expectedIPs": ["172.30.2.2"]}}"#
  )

  @Test("Has one shape for programs")
  func json() async throws {
    try expectGolden(try await Self.planning().json.text(pretty: true) + "\n", "plan-host2.json")
  }

  @Test("Reads well")
  func text() async throws {
    try expectGolden(try await Self.planning().text(Palette(coloured: false)), "plan-host2.txt")
  }

  @Test("A host that nothing names is asked back for")
  func unknown() async throws {
    let cluster = try await Shop.cluster()
    let problem = #expect(throws: QuestionProblem.self) { try HostPlanning(host: "hots2", in: cluster) }
    #expect(problem?.description == "there is no host \"hots2\"; did you mean host2?")
  }

  @Test("A policy that cannot be read denies its namespace in the plan as well")
  func unreadable() async throws {
    let key = ResourceKey(.networkPolicy, namespace: "shop", name: "odd")
    let planning = try await Self.planning("host2", [(key, "[1, 2]")])
    let web = ResourceKey(.workloadEndpoint, namespace: "shop", name: "host2-k8s-web--1-eth0")
    #expect(planning.plan.endpoints[web]?.ingress.last?.policies.first == key)
    #expect(planning.plan.policies[key]?.ingress.first?.action == .deny)
    #expect(planning.findings.contains { $0.object == key })
  }

  @Test("The script is what the driver programs, in nft's own words", .enabled(if: KernelSandbox.isAvailable), arguments: [true, false])
  func script(hasHostEndpoint: Bool) async throws {
    let planning = try await Self.planning("host2", hasHostEndpoint ? [Self.hostEndpoint] : [])
    let script = RulesetText.script(planning.ruleset)
    let sandbox = KernelSandbox()
    let (byScript, byDriver) = (try sandbox.namespace("s"), try sandbox.namespace("d"))
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("plan-\(UUID().uuidString).nft").path
    defer { try? FileManager.default.removeItem(atPath: file) }
    try Files.writeAtomically(Array(script.utf8), to: file)
    try sandbox.run(byScript, "nft", ["-c", "-f", file])
    try sandbox.run(byScript, "nft", ["-f", file])
    var delta = RulesetDelta()
    delta.chains = planning.ruleset.chains.mapValues { .some($0) }
    delta.sets = planning.ruleset.sets.mapValues { .some($0) }
    delta.elements = planning.ruleset.elements.mapValues { .init(added: $0) }
    let driver = try RulesetDriver(namespace: byDriver.descriptor.borrowed)
    #expect(try driver.apply(delta).failures == [])
    func listed(_ namespace: NetworkNamespace) throws -> [String] {
      let lines = try sandbox.run(namespace, "nft", ["-s", "list", "table", "inet", "margay"]).split(separator: "\n")
      // Quotes within comments are the one thing that the script cannot say; the flags are for who owns the table.
      return lines.map { $0.replacing("\"", with: "'").trimmingCharacters(in: .whitespaces) }
        .filter { !$0.isEmpty && !$0.hasPrefix("flags owner") && !$0.hasPrefix("#") && !$0.hasPrefix("table ") }.sorted()
    }
    let (a, b) = (try listed(byScript), try listed(byDriver))
    #expect(a == b, "\(Set(a).symmetricDifference(Set(b)).sorted().prefix(10))")
    withExtendedLifetime(driver) {}
  }

  private func expectGolden(_ text: String, _ name: String) throws {
    let folder = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Goldens/Explain"
    if ProcessInfo.processInfo.environment["UPDATE_GOLDENS"] != nil { try Files.writeAtomically(Array(text.utf8), to: "\(folder)/\(name)") }
    #expect(try text == Files.readText("\(folder)/\(name)"))
  }
}
