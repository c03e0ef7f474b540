/// Export and import, and calicoctl's own file.
import Datastore
import DatastoreMemory
import DatastoreProgram
import Documents
import Foundation
import JSON
import Resources
import Testing

@Suite("Export and import")
struct ImportTests {
  /// Where calicoctl differs from `margay export`: no workload endpoints, a list for each kind even if it is empty, TTLs.
  private func calicoctlFile() throws -> [UInt8] {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/calicoctl-migration/export.yaml")
    return Array(try Data(contentsOf: file))
  }

  @Test("What is exported and imported is exported again as the same text")
  func roundTrip() async throws {
    let store = MemoryDatastore()
    try await fill(store, endpoints: 5)
    let (text, unreadable, others) = ExportFile.text(try await StoreContent.read(store))
    #expect(unreadable.isEmpty && others == 2)
    let target = MemoryDatastore(name: "target")
    let (objects, addresses) = try await ImportFile(parsing: octets(text), file: "f").write(to: target)
    #expect(objects == 11 && addresses == 4)
    #expect(ExportFile.text(try await StoreContent.read(target)).text == text)
    #expect(try await target.get(TransferMarker.path) == nil)
    #expect(StoreReview(try await target.list(prefix: "").items, revision: .zero).findings.isEmpty)
  }

  @Test("calicoctl's migration file: objects, ClusterInformation and IPAM arrive under Calico's keys, and the datastore is locked as it was")
  func calicoctl() async throws {
    let file = try ImportFile(parsing: try calicoctlFile(), file: "etcd-data")
    #expect(file.isLocked)
    let target = MemoryDatastore()
    let (objects, addresses) = try await file.write(to: target)
    #expect(objects == 6 && addresses == 4)
    let store = ResourceStore(target)
    for key in [
      ResourceKey(.ipPool, name: "default-ipv4-ippool"), ResourceKey(.tier, name: "security"), ResourceKey(.globalNetworkPolicy, name: "security.deny-all"),
      ResourceKey(.networkPolicy, namespace: "shop", name: "default.web"), ResourceKey(.node, name: "node1"), ResourceKey(.felixConfiguration, name: "default"),
    ] { #expect(try await store.get(key) != nil, "\(key)") }
    let information = try #require(try await store.get(ResourceKey(.clusterInformation, name: "default")))
    #expect(information.document["spec"]?["clusterGUID"]?.string == "0123456789abcdef0123456789abcdef")
    #expect(information.document["spec"]?["datastoreReady"]?.bool == false)
    let block = try #require(try await target.get("/calico/ipam/v2/assignment/ipv4/block/192.168.5.0-26"))
    #expect(try JSONValue(parsing: block.value)["affinity"]?.string == "host:node1")
    #expect(try await target.get("/calico/ipam/v2/host/node1/ipv4/block/192.168.5.0-26") != nil)
    #expect(try await target.get("/calico/ipam/v2/handle/k8s-pod-network.abc") != nil)
    #expect(try await target.get("/calico/ipam/v2/config") != nil)
  }

  @Test("One mistake anywhere in the file: every mistake is told with its line, and nothing is written")
  func strict() async throws {
    let text = String(decoding: try calicoctlFile(), as: UTF8.self)
    let line = 1 + text[..<(try #require(text.range(of: "cidr: 192.168.0.0/16")).lowerBound)].count { $0 == "\n" }
    let wrong = text.replacingOccurrences(of: "cidr: 192.168.0.0/16", with: "cidr: 192.168.0.0/99").replacingOccurrences(of: "action: Deny", with: "action: Forbid")
    let errors = try #require(throws: DocumentErrors.self) { try ImportFile(parsing: octets(wrong), file: "etcd-data") }
    #expect(errors.errors.count == 2)
    #expect(errors.description.contains("etcd-data:\(line):") && errors.description.contains("Forbid"), "\(errors)")
    // JSON parts, and a file of two parts.
    let cut = text.replacingOccurrences(of: #""kind": "ClusterInformation","#, with: #""kind": "ClusterInformation" "#)
    #expect(throws: DocumentErrors.self) { try ImportFile(parsing: octets(cut), file: "f") }
    #expect(throws: DocumentErrors.self) { try ImportFile(parsing: octets("===\n{}\n"), file: "f") }
    let elsewhere = text.replacingOccurrences(of: "/calico/ipam/v2/handle/", with: "/calico/v1/handle/")
    #expect(throws: DocumentErrors.self) { try ImportFile(parsing: octets(elsewhere), file: "f") }
  }

  @Test("Killed after any number of transactions, an import goes on when repeated")
  func interrupted() async throws {
    let target = MemoryDatastore()
    var attempts = 0
    while true {
      attempts += 1
      do {
        _ = try await ImportFile(parsing: try calicoctlFile(), file: "f").write(to: MortalDatastore(target, transactions: attempts))
        break
      } catch DatastoreError.unavailable {
      } catch ResourceStoreError.datastore(.unavailable) {}
      #expect(attempts < 20)
    }
    #expect(attempts > 3)
    #expect(try await target.list(prefix: "").items.filter { !$0.key.hasPrefix("/calico/margay/") }.count == 11)
    #expect(await { do { _ = try await ImportFile(parsing: try calicoctlFile(), file: "f").write(to: target); return "" } catch { return "\(error)" } }()
      .contains("is not empty"))
  }
}
