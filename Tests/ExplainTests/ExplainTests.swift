/// Questions to a small shop, and what a person is told.
import Addresses
import Datastore
import Documents
import ExplainProgram
import Foundation
import JSON
import PolicyOracle
import Resources
import Sockets
import Tables
import Testing

private func question(
  _ from: String, _ to: String, _ ipProtocol: NetworkProtocol? = nil, port: UInt16? = nil, _ adjust: (inout Question) -> Void = { _ in }
) -> Question {
  var question = Question(from: from, to: to)
  question.ipProtocol = ipProtocol
  question.port = port
  adjust(&question)
  return question
}

struct Asked: Sendable, CustomStringConvertible {
  /// Also the name of the golden.
  var title: String
  var question: Question
  var isAllowed: Bool
  var isComplete = false
  var description: String { title }
}

private let asked: [Asked] = [
  Asked(title: "allowed-alike", question: question("client-1", "shop/web-1", port: 80), isAllowed: true),
  Asked(title: "ping-differs", question: question("client-1", "shop/web-1"), isAllowed: false),
  Asked(title: "outside", question: question("192.0.2.9", "shop/web-1", .tcp, port: 80), isAllowed: false),
  Asked(title: "log-only", question: question("client-1", "db-1", .udp, port: 53), isAllowed: false),
  Asked(title: "to-own-host", question: question("shop/web-1", "node/host2", port: 22), isAllowed: false),
  Asked(title: "from-own-host", question: question("node/host2", "shop/web-1", port: 1), isAllowed: true),
  Asked(title: "missing-profile", question: question("blog/web-1", "192.0.2.1", port: 443), isAllowed: false),
  Asked(title: "unsolicited", question: question("client-1", "shop/web-1", .icmp) { $0.icmpType = 0 }, isAllowed: false),
  Asked(
    title: "complete", question: question("client-1", "shop/web-1", port: 81) { $0.family = .v4 }, isAllowed: false, isComplete: true),
]

@Suite("An explanation")
struct ExplainTests {
  @Test("Reads well", arguments: asked)
  func text(_ asked: Asked) async throws {
    let explanation = try Explanation(asked.question, in: try await Shop.cluster())
    #expect(explanation.isAllowed == asked.isAllowed)
    try expectGolden(explanation.text(Palette(coloured: false), isComplete: asked.isComplete), "\(asked.title).txt")
  }

  @Test("Tells what staged policies would change, each alone and all together")
  func staged() async throws {
    func stored(_ kind: Kind, _ name: String, _ spec: String) -> (key: ResourceKey, value: String) {
      let key = ResourceKey(kind, namespace: "shop", name: name)
      let namespace = kind.isNamespaced ? #","namespace":"shop""# : ""
      return (
        key, #"{"apiVersion":"projectcalico.org/v3","kind":"\#(kind.rawValue)","metadata":{"name":"\#(name)"\#(namespace)},"spec":\#(spec)}"#)
    }
    let cluster = try await Shop.cluster([
      stored(.stagedNetworkPolicy, "web", #"{"stagedAction":"Delete"}"#),
      stored(.stagedGlobalNetworkPolicy, "lock", #"{"selector":"app == 'web'","order":1,"types":["Ingress"],"ingress":[{"action":"Deny"}]}"#),
      stored(.stagedGlobalNetworkPolicy, "ignored", #"{"stagedAction":"Ignore","selector":"all()","ingress":[{"action":"Deny"}]}"#),
      stored(.stagedNetworkPolicy, "elsewhere", #"{"selector":"app == 'db'","ingress":[{"action":"Deny"}]}"#),
      stored(.stagedKubernetesNetworkPolicy, "clients", #"{"podSelector":{"matchLabels":{"app":"client"}},"policyTypes":["Egress"]}"#),
    ])
    let explanation = try Explanation(question("client-1", "shop/web-1", port: 80), in: cluster)
    #expect(explanation.isAllowed)
    let lines = explanation.text(Palette(coloured: false)).split(separator: "\n").filter { $0.hasPrefix("staged") }
    #expect(
      lines == [
        "staged StagedGlobalNetworkPolicy lock: would deny: ingress of shop/web-1, lock rule 1 (Deny)",
        "staged StagedKubernetesNetworkPolicy shop/clients: would deny: egress of shop/client-1, end of tier default (Deny)",
        "staged StagedNetworkPolicy shop/web: would allow: ingress of shop/web-1, profile kns.shop",
        "staged all staged policies together: would deny: egress of shop/client-1, end of tier default (Deny)",
      ])
    #expect(explanation.json()["families"]?.array?[0]["staged"]?.array?.count == 4)
  }

  @Test("Has one shape for programs")
  func json() async throws {
    let explanation = try Explanation(question("client-1", "shop/web-1"), in: try await Shop.cluster())
    try expectGolden(explanation.json().text(pretty: true) + "\n", "ping-differs.json")
  }

  @Test("Shows a rule in the words of its document")
  func words() async throws {
    let text = try Explanation(question("client-1", "shop/web-1", port: 80), in: try await Shop.cluster()).text(Palette(coloured: false))
    #expect(text.contains("rule 2 Allow  {action: Allow, protocol: TCP, source: {selector: app == \"client\"}, destination: {ports: [80, 8000:8100]}}"))
  }

  @Test("Tells of objects that cannot be read or enforced")
  func faults() async throws {
    let metadata = #""metadata": {"name": "NAME", "namespace": "shop"}"#
    func document(_ name: String, _ spec: String) -> (key: ResourceKey, value: String) {
      let value = #"{"kind": "NetworkPolicy", \#(metadata.replacing("NAME", with: name)), "spec": \#(spec)}"#
      return (ResourceKey(.networkPolicy, namespace: "shop", name: name), value)
    }
    let odd = document("odd", #"{"order": 1, "selector": "app == 'web'", "ingress": [{"action": "Permit"}]}"#)
    var explanation = try Explanation(question("client-1", "shop/web-1", port: 80), in: try await Shop.cluster([odd]))
    #expect(!explanation.isAllowed)
    #expect(explanation.answers[0].verdict.decidedBy == "shop/odd rule 1 (cannot be enforced, Deny)")
    #expect(explanation.findings.map(\.object) == [odd.key])

    let broken = (key: odd.key, value: "[1, 2]")
    explanation = try Explanation(question("client-1", "shop/web-1", port: 80), in: try await Shop.cluster([broken]))
    #expect(explanation.answers[0].verdict.decidedBy == "shop/odd (cannot be read, Deny)")
    #expect(explanation.findings.first?.text.contains("a host that knew a readable version keeps to that one") ?? false)

    let global = ResourceKey(.globalNetworkPolicy, name: "lost")
    explanation = try Explanation(question("client-1", "shop/web-1", port: 80), in: try await Shop.cluster([(global, "{}")]))
    #expect(explanation.isAllowed)
    #expect(explanation.findings.first.map { "\($0.object): \($0.text)" }?.hasSuffix("it is without effect") ?? false)
  }

  @Test(
    "A place that is not clear is asked back for",
    arguments: [
      ("cleint-1", "there is no workload, node or address \"cleint-1\"; did you mean shop/client-1?"),
      ("web-1", "\"web-1\" is the name of 2 workload endpoints; say which: blog/web-1, shop/web-1"),
      ("blog/client-1", "there is no workload \"blog/client-1\"; did you mean shop/client-1?"),
      ("host1", "\"host1\" is a host, not a workload; write node/host1"),
      ("node/hots1", "there is no node \"hots1\"; did you mean node/host1?"),
      ("10.65.0", "there is no workload, node or address \"10.65.0\"; there are blog/web-1, shop/client-1, shop/db-1, shop/web-1"),
    ])
  func places(_ word: String, _ answer: String) async throws {
    let cluster = try await Shop.cluster()
    let problem = #expect(throws: QuestionProblem.self) { try Explanation(question(word, "db-1", port: 1), in: cluster) }
    #expect(problem?.description == answer)
  }

  @Test("An endpoint answers to its pod, its pod with namespace, its own name, its address")
  func names() async throws {
    let cluster = try await Shop.cluster()
    for word in ["client-1", "shop/client-1", "host1-k8s-client--1-eth0", "shop/host1-k8s-client--1-eth0", "10.65.0.7", "fd65::7"] {
      let explanation = try Explanation(question(word, "shop/web-1", port: 80), in: cluster)
      #expect(explanation.answers[0].from.endpoint?.name == "shop/client-1", "\(word)")
    }
  }

  @Test(
    "A question that makes no sense says why",
    arguments: [
      (question("client-1", "db-1", .tcp), "a question about TCP needs a port; say --port"),
      (question("client-1", "db-1", .icmp, port: 80), "ICMP has no ports; leave them out"),
      (question("client-1", "db-1", .tcp, port: 80) { $0.icmpType = 8 }, "TCP has no ICMP types; leave them out"),
      (question("client-1", "db-1", .icmp) { $0.icmpCode = 0 }, "an ICMP code needs a type; say --icmp-type"),
      (
        question("client-1", "db-1", port: 80) { $0.family = .v6 },
        "there is no IPv6 between the two: shop/client-1 has IPv4 and IPv6, shop/db-1 has IPv4"
      ),
      (
        question("client-1", "shop/web-1", .icmpv6) { $0.family = .v4 },
        "ICMPv6 is a protocol of IPv6; leave --family out or write --family 6"
      ),
    ])
  func senseless(_ question: Question, _ answer: String) async throws {
    let cluster = try await Shop.cluster()
    let problem = #expect(throws: QuestionProblem.self) { try Explanation(question, in: cluster) }
    #expect(problem?.description == answer)
  }

  private func expectGolden(_ text: String, _ name: String) throws {
    let folder = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Goldens/Explain"
    if ProcessInfo.processInfo.environment["UPDATE_GOLDENS"] != nil { try Files.writeAtomically(Array(text.utf8), to: "\(folder)/\(name)") }
    #expect(try text == Files.readText("\(folder)/\(name)"))
  }
}
