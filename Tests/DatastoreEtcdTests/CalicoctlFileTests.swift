/// calicoctl's configuration file as the source of the datastore.
import DatastoreEtcd
import Datastores
import EtcdServer
import Glibc
import Sockets
import Testing

/// A file that is removed with the value.
private final class File {
  let path: String
  init(_ text: String) throws {
    path = "/tmp/margay-cfg-\(getpid())-\(UInt32.random(in: 0 ... .max)).cfg"
    try Files.write(Array(text.utf8), to: path, create: true, mode: 0o600)
  }
  deinit { unsafe unlink(path) }
}
private let head = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n"

private func decide(
  _ file: File, option: String? = nil, isStandard: Bool = false, _ environment: [String: String] = [:]
) throws -> DatastoreChoice.Decision {
  try DatastoreChoice.decide(
    option: option, config: isStandard ? nil : file.path, standardFile: isStandard ? file.path : nil, environment: { environment[$0] })
}
private func problem(_ spec: String, in head: String = head) throws -> String {
  let file = try File(head + spec)
  do { return "no problem: \(try decide(file).choice.name)" } catch { return "\(error)".replacing(file.path, with: "FILE") }
}

@Suite("calicoctl's configuration file")
struct CalicoctlFileTests {
  @Test("Everything of etcd's in it is honoured")
  func fields() throws {
    let file = try File(
      head + """
          datastoreType: "etcdv3"
          etcdEndpoints: "https://e1:2379,https://e2:2379"
          etcdUsername: margay
          etcdPassword: geheim
          etcdCACertFile: /ca
          etcdCertFile: /cert
          etcdKeyFile: /key
          kubeconfig: /left/over
        """)
    var expected = EtcdConfiguration(
      endpoints: [EtcdEndpoint(host: "e1"), EtcdEndpoint(host: "e2")], tls: .init(caFile: "/ca", certificateFile: "/cert", keyFile: "/key"),
      credentials: .init(user: "margay", password: "geheim"))
    #expect(try decide(file).choice == .etcd(expected))
    // Calico's variables say nothing beside a file; our own, which it cannot hold, does.
    expected.tls?.serverName = "etcd"
    let environment = ["ETCD_ENDPOINTS": "http://other:1", "ETCD_CA_CERT_FILE": "/other", "MARGAY_ETCD_SERVER_NAME": "etcd"]
    #expect(try decide(file, environment).choice == .etcd(expected))
    let json = try File(#"{"apiVersion":"projectcalico.org/v3","kind":"CalicoAPIConfig","spec":{"etcdEndpoints":"http://e1:1"}}"#)
    #expect(try decide(json).choice.name == "etcd://e1:1")
  }

  @Test("Who decides: --datastore or --config, MARGAY_DATASTORE, the standard file, Calico's variables")
  func precedence() throws {
    let file = try File(head + "  etcdEndpoints: http://file:1\n")
    let environment = ["MARGAY_DATASTORE": "etcd://margay:1", "ETCD_ENDPOINTS": "http://calico:1"]
    func name(_ decision: DatastoreChoice.Decision) -> String {
      "\(decision.choice.name) by \(decision.by)".replacing(file.path, with: "FILE")
    }
    #expect(name(try decide(file, environment)) == "etcd://file:1 by --config FILE")
    #expect(name(try decide(file, option: "etcd://option:1", isStandard: true, environment)) == "etcd://option:1 by --datastore")
    #expect(name(try decide(file, isStandard: true, environment)) == "etcd://margay:1 by MARGAY_DATASTORE")
    #expect(name(try decide(file, isStandard: true, ["ETCD_ENDPOINTS": "http://calico:1"])) == "etcd://file:1 by FILE")
    let none = try DatastoreChoice.decide(
      option: nil, config: nil, standardFile: "/no/such.cfg", environment: { ["CALICO_ETCD_ENDPOINTS": "http://c:1"][$0] })
    #expect(name(none) == "etcd://c:1 by CALICO_ETCD_ENDPOINTS")
    #expect(throws: DatastoreChoice.Problem.self) { try decide(file, option: "etcd://option:1") }
  }

  @Test("What is wrong in it is named with its place, and nothing secret is repeated")
  func mistakes() throws {
    #expect(try problem("  etcdEndpont: http://e:1\n") == "FILE:5:3: spec.etcdEndpont is not a setting; did you mean etcdEndpoints?")
    #expect(try problem("  etcdPassword: 12345\n") == "FILE:5:3: spec.etcdPassword is not a text; put it in quotes")
    #expect(
      try problem("  datastoreType: kubernetes\n").hasPrefix("spec.datastoreType of FILE=kubernetes: Margay cannot use the Kubernetes API"))
    #expect(try problem("  datastoreType: etcdv3\n").contains("set spec.etcdEndpoints of FILE"))
    #expect(
      try problem("  etcdEndpoints: http://e:1\n  etcdUsername: u\n")
        == "spec.etcdUsername of FILE is set and spec.etcdPassword of FILE is not")
    #expect(try problem("  etcdEndpoints: http://e:1\n  etcdCert: x\n").contains("etcdCert and etcdKey go together"))
    #expect(
      try problem("  etcdEndpoints: http://e:1\n  etcdCACert: x\n  etcdCACertFile: /y\n").contains("etcdCACert and etcdCACertFile both"))
    #expect(try problem("") == "FILE: no datastore is named; set etcdEndpoints, as in http://10.0.0.1:2379")
    #expect(try problem("", in: "kind: Tier\n") == "FILE: not one document of kind CalicoAPIConfig")
    let broken = try problem("  etcdPassword: \"geheim\n etcdKey: [\n")
    #expect(broken.contains("neither YAML nor JSON") && !broken.contains("geheim"))
    let file = try File(head + "  etcdEndpoints: https://e:1\n  etcdCert: geheim1\n  etcdKey: geheim2\n")
    let choice = try decide(file).choice
    var dumped = ""
    dump(choice, to: &dumped)
    #expect(!"\(choice)\(dumped)".contains("geheim"))
    #expect(
      "\(#expect(throws: DatastoreChoice.Problem.self) { try DatastoreChoice.decide(option: nil, config: "/no/such", standardFile: nil, environment: { _ in nil }) }!)"
        .contains("No such file"))
  }

  @Test(
    "Certificates and key inside of the file let us in",
    .enabled(if: EtcdServer.isInstalled && TestCertificates.isPossible, "etcd or openssl is not installed"))
  func inline() async throws {
    let certificates = try TestCertificates(in: try EtcdServer().folder + "-inline")
    defer { certificates.remove() }
    var options = EtcdServer.Options()
    options.tls = certificates
    options.isClientCertificateWanted = true
    try await withServer(options) { server in try await Self.enter(server, certificates) }
  }

  private static func enter(_ server: EtcdServer, _ tls: TestCertificates) async throws {
    func indented(_ path: String) throws -> String {
      try Files.readText(path).split(separator: "\n").map { "    \($0)\n" }.joined()
    }
    let file = try File(
      head + "  etcdEndpoints: https://\(server.endpoints[0])\n  etcdCACert: |\n\(try indented(tls.authority))  etcdCert: |\n"
        + "\(try indented(tls.clientCertificate))  etcdKey: |\n\(try indented(tls.clientKey))")
    let datastore = try decide(file).choice.open()
    #expect(try await datastore.get("/calico/none") == nil)
    await datastore.close()
  }
}
