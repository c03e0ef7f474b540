/// What leaves a host with its diagnostics, and what does not.
import DatastoreMemory
@testable import HostChecks
import JSON
import Sockets
import Testing

@Suite("Diagnostics of a host")
struct HostChecksTests {
  @Test("Texts under names that mean a secret are left out, each with its path; what only names a secret stays")
  func secrets() {
    let document: JSONValue = [
      "spec": [
        "password": ["secretKeyRef": ["name": "bgp", "key": "rr"]], "nodeMeshPassword": "geheim",
        "peers": [["apiToken": "geheim", "ip": "10.0.0.1"]],
        "asNumber": 1, "wireguardPublicKey": "public",
      ]
    ]
    let (value, left) = Secrets.removed(from: document)
    #expect(!value.text().contains("geheim"))
    #expect(left.map(\.text) == ["spec.nodeMeshPassword", "spec.peers[0].apiToken"])
    #expect(value["spec"]?["password"]?["secretKeyRef"]?["name"] == "bgp" && value["spec"]?["wireguardPublicKey"] == "public")
    #expect(Secrets.removed(fromAddress: "http://user:geheim@h:1") == "http://(left out)@h:1")
    #expect(Secrets.removed(fromAddress: "user:geheim@h:1") == "(left out)" && Secrets.removed(fromAddress: "http://h:1") == "http://h:1")
  }

  @Test("tar reads the archive")
  func tar() throws {
    var archive = TarArchive(time: 1_767_225_600)
    archive.add("folder/empty", [])
    archive.add("folder/some", Array("text\n".utf8))
    archive.add("folder/block", [UInt8](repeating: 65, count: 512))
    let path = "/tmp/margay-tar-\(UInt32.random(in: 0 ... .max)).tar"
    try Files.write(archive.finished, to: path, create: true)
    defer { try? Files.remove(path) }
    let (code, output) = try ChildCommand(
      "/bin/sh", ["-c", "tar tvf \(path) && tar xOf \(path) folder/some && tar xOf \(path) folder/block | wc -c"]
    ).runToEnd()
    #expect(code == 0 && output.contains("text\n512\n") && output.contains("2026-01-01"), "\(output)")
  }

  @Test("An archive holds the objects without secrets, tells what it left out, and is its maker's alone")
  func archive() async throws {
    let datastore = MemoryDatastore()
    let text = #"{"kind":"BGPPeer","metadata":{"name":"tor"},"spec":{"peerIP":"10.0.0.1","password":"geheim"}}"#
    _ = try await datastore.transact(
      if: [], then: [.put("/calico/resources/v3/projectcalico.org/bgppeers/tor", Array(text.utf8), lease: nil)])
    let folder = "/tmp/margay-diags-test-\(UInt32.random(in: 0 ... .max))"
    try Files.makeDirectories(folder)
    defer { _ = try? ChildCommand("/bin/rm", ["-rf", folder]).runToEnd() }
    let options = Diagnostics.Options(
      version: "1", runDirectory: "\(folder)/none", stateDirectory: folder, datastore: datastore, datastoreProblem: nil,
      environment: ["ETCD_PASSWORD=geheim", "ETCD_ENDPOINTS=http://u:geheim@h:1", "HOME=/nowhere"])
    let (path, summary) = try await Diagnostics.collect(options, into: folder)
    #expect(
      summary.leftOut.contains("environment: ETCD_PASSWORD") && summary.leftOut.contains { $0.hasSuffix("bgppeers/tor: spec.password") })
    #expect(summary.missing.contains { $0.hasPrefix("status-felix.json: nobody answers") })
    let (code, output) = try ChildCommand("/bin/sh", ["-c", "tar xzOf \(path); stat -c %a \(path)"]).runToEnd()
    #expect(
      code == 0 && output.contains("peerIP: 10.0.0.1") && !output.contains("geheim") && !output.contains("/nowhere")
        && output.hasSuffix("600\n"))
  }

  @Test("Every check has a result, and says what is lost without what it is about")
  func checks() {
    let findings = SystemCheck.run(stateDirectory: "/no/such/place", runDirectory: "/proc")
    #expect(findings.count >= 14)
    for finding in findings {
      if case .missing(let reason, let remedy) = finding.result {
        #expect(!reason.isEmpty && !remedy.isEmpty && !finding.consequence.isEmpty, "\(finding.name)")
      }
    }
    // Nothing can be kept in /proc, whatever this machine is like.
    let run = findings.first { $0.name == "space in /proc" }
    #expect(run?.isBad == true)
  }
}
