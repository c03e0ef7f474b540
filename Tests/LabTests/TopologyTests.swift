import Addresses
import Documents
import Glibc
import JSON
import Sockets
import Testing

@testable import LabProgram

let repository = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" }
let examples = ["smallest", "datacenter", "two-racks", "two-spines", "reflectors", "margay-router", "as-per-host", "etcd"]

func example(_ name: String) throws -> Topology { try TopologyReader.read(path: "\(repository)/Examples/\(name).yaml") }

func topology(_ spec: String) throws -> Topology {
  try TopologyReader.read(Array("apiVersion: lab.margay/v1\nkind: Topology\nspec: \(spec)\n".utf8), file: "t.yaml")
}

func faults(_ spec: String) -> [String] {
  do {
    _ = try topology(spec)
    return []
  } catch { return "\(error)".split(separator: "\n").map(String.init) }
}

@Suite("Topology files") struct TopologyTests {
  @Test("Two lines are a lab: three hosts in a rack, a workload on each, a mesh")
  func everythingHasADefault() throws {
    let topology = try TopologyReader.read(Array("apiVersion: lab.margay/v1\nkind: Topology\n".utf8), file: "t.yaml")
    #expect(topology.hosts.map(\.name) == ["host1", "host2", "host3"])
    #expect(topology.routers.map(\.name) == ["rack"])
    #expect(topology.workloads.map(\.host) == ["host1", "host2", "host3"])
    #expect(topology.arrangement == .mesh && topology.datastore == .sqlite)
  }

  @Test("Numbers stand for numbered names, and counted hosts fill the racks in order")
  func counts() throws {
    let topology = try topology("{racks: 2, hosts: 4, workloads: 5}")
    #expect(topology.racks.map(\.name) == ["rack1", "rack2"])
    #expect(topology.hosts.map(\.rack) == ["rack1", "rack1", "rack2", "rack2"])
    #expect(topology.routers.last?.name == "spine", "racks that no link joins hang on a spine")
    #expect(topology.workloads.map(\.host) == ["host1", "host2", "host3", "host4", "host1"])
  }

  @Test("The demo's datacenter and its policies are those of Examples")
  func datacenterIsAnExample() throws {
    var read = try example("datacenter")
    #expect(read.documents.map { $0.split(separator: "/").last } == ["datacenter-policies.yaml"])
    read.documents = []
    #expect(read == Topology.datacenter)
    #expect(try Files.readText("\(repository)/Examples/datacenter-policies.yaml") == DemoDocuments.policies)
  }

  @Test("Every mistake is told at its place, with the value, the rule and a fix", arguments: ["mistakes"])
  func mistakes(_ name: String) throws {
    let folder = "\(repository)/Tests/Goldens/Lab"
    var said = ""
    do {
      _ = try TopologyReader.read(Files.read("\(folder)/\(name).yaml"), file: "\(name).yaml", directory: ".")
    } catch { said = "\(error)\n" }
    if unsafe getenv("UPDATE_GOLDENS") != nil { try Files.writeAtomically(Array(said.utf8), to: "\(folder)/\(name).txt") }
    #expect(said == (try Files.readText("\(folder)/\(name).txt")))
  }

  @Test(
    "What fits together in parts need not as a whole",
    arguments: [
      ("{racks: 3, links: [{between: [rack1, rack2]}]}", "rack3 without a way to rack1"),
      ("{arrangement: reflectors}", "needs reflectors"),
      ("{arrangement: mesh, reflectors: [host1]}", "no effect with arrangement mesh"),
      ("{hosts: 3, reflectors: [{node: host1, clients: 'role == \"host\"'}]}", "leave rack without a session"),
      ("{hosts: [{name: a, asNumber: 65001}]}", "with arrangement mesh all are one AS"),
      ("{arrangement: as-per-host, hosts: [{name: a, asNumber: 7}, {name: b, asNumber: 7}]}", "AS 7 to a and b"),
      ("{hosts: 201}", "not a whole number from 0 to 200"),
    ])
  func wholes(_ spec: String, _ words: String) {
    #expect(faults(spec).contains { $0.contains(words) }, "\(faults(spec))")
  }

  @Test("A topology's own document, every default spelled out, is that topology", arguments: examples)
  func roundTrip(_ name: String) throws {
    var topology = try example(name)
    topology.documents = []
    topology.objects = []
    let text = topology.document().text(pretty: true)
    #expect(try TopologyReader.read(Array(text.utf8), file: "again.json") == topology)
  }
}
