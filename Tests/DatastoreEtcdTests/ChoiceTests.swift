/// Which datastore is meant, by option and environment.
import DatastoreEtcd
import Datastores
import Testing

private func choose(_ option: String? = nil, _ environment: [String: String] = [:]) throws -> DatastoreChoice {
  try DatastoreChoice(option: option, environment: { environment[$0] })
}
private func etcd(_ option: String? = nil, _ environment: [String: String] = [:]) throws -> EtcdConfiguration {
  guard case .etcd(let configuration) = try choose(option, environment) else { throw NoEtcd() }
  return configuration
}
private struct NoEtcd: Error {}
private func problem(_ option: String? = nil, _ environment: [String: String] = [:]) -> String {
  do { return "no problem: \(try choose(option, environment).name)" } catch { return "\(error)" }
}

@Suite("Naming the datastore")
struct ChoiceTests {
  @Test(
    "One etcd is named in many ways",
    arguments: [
      ("etcd://h1", ["h1:2379"], false), ("etcd://h1:1234,h2", ["h1:1234", "h2:2379"], false), ("etcds://10.0.0.1:2379", ["10.0.0.1:2379"], true),
      ("http://h1:2379,http://h2:2379", ["h1:2379", "h2:2379"], false), ("https://h1:2379, https://h2:2379/", ["h1:2379", "h2:2379"], true),
      ("etcd://[fd00::1]:2379,[fd00::2]", ["[fd00::1]:2379", "[fd00::2]:2379"], false),
    ])
  func forms(text: String, endpoints: [String], isTLS: Bool) throws {
    let configuration = try etcd(text)
    #expect(configuration.endpoints.map(\.description) == endpoints)
    #expect((configuration.tls != nil) == isTLS)
    // The name means the same again: that is how a daemon's children are told.
    #expect(try etcd(configuration.name) == configuration)
  }

  @Test("SQLite is named by a path")
  func sqlite() throws {
    #expect(try choose("sqlite:/a/b") == .sqlite(path: "/a/b"))
    #expect(try choose("sqlite:/a/b").name == "sqlite:/a/b")
  }

  @Test("The option comes before MARGAY_DATASTORE, and that before Calico's variables")
  func precedence() throws {
    let calico = ["ETCD_ENDPOINTS": "http://c:1"]
    let both = calico.merging(["MARGAY_DATASTORE": "etcd://b:1"]) { $1 }
    #expect(try choose("etcd://a:1", both).name == "etcd://a:1")
    #expect(try choose(nil, both).name == "etcd://b:1")
    #expect(try choose(nil, calico).name == "etcd://c:1")
    #expect(try choose(nil, calico.merging(["MARGAY_DATASTORE": ""]) { $1 }).name == "etcd://c:1")
    // An option that names something else than Calico's type is no contradiction.
    #expect(try choose("etcd://a:1", ["DATASTORE_TYPE": "kubernetes"]).name == "etcd://a:1")
  }

  @Test("Calico's variables: plain, calicoctl's and Felix's, in this order of weight: CALICO_, plain, FELIX_")
  func calicoNames() throws {
    let felix = ["FELIX_ETCDENDPOINTS": "http://f:1", "FELIX_DATASTORETYPE": "etcdv3"]
    let plain = felix.merging(["ETCD_ENDPOINTS": "http://p:1", "DATASTORE_TYPE": "etcdv3"]) { $1 }
    let calicoctl = plain.merging(["CALICO_ETCD_ENDPOINTS": "http://c:1"]) { $1 }
    #expect(try choose(nil, felix).name == "etcd://f:1")
    #expect(try choose(nil, plain).name == "etcd://p:1")
    #expect(try choose(nil, calicoctl).name == "etcd://c:1")
    #expect(try choose(nil, ["ETCD_AUTHORITY": "a:1"]).name == "etcd://a:1")
    #expect(try choose(nil, ["ETCD_AUTHORITY": "a:1", "ETCD_SCHEME": "https"]).name == "etcds://a:1")
    #expect(try choose(nil, ["FELIX_ETCDADDR": "a:1", "FELIX_ETCDSCHEME": "https"]).name == "etcds://a:1")
    #expect(try choose(nil, ["ETCD_AUTHORITY": "a:1", "ETCD_ENDPOINTS": "https://b:1"]).name == "etcds://b:1")
  }

  @Test("Files and user come from Calico's variables, however the endpoints were named")
  func filesAndUser() throws {
    let environment = [
      "ETCD_CA_CERT_FILE": "/ca", "ETCD_CERT_FILE": "/cert", "ETCD_KEY_FILE": "/key", "ETCD_USERNAME": "margay", "ETCD_PASSWORD": "geheim",
    ]
    let configuration = try etcd("etcds://a:1", environment)
    #expect(configuration.tls == .init(caFile: "/ca", certificateFile: "/cert", keyFile: "/key"))
    #expect(configuration.credentials == .init(user: "margay", password: "geheim"))
    let felix = ["FELIX_ETCDCAFILE": "/ca", "FELIX_ETCDCERTFILE": "/cert", "FELIX_ETCDKEYFILE": "/key", "ETCD_ENDPOINTS": "https://a:1"]
    #expect(try etcd(nil, felix).tls == configuration.tls)
    let empty = environment.mapValues { _ in "" }
    #expect(try etcd("etcds://a:1", empty) == EtcdConfiguration(endpoints: [EtcdEndpoint(host: "a", port: 1)], tls: .init()))
  }

  @Test("Mistakes are answered with what to write")
  func mistakes() {
    #expect(problem().contains("--datastore sqlite:PATH") && problem().contains("MARGAY_DATASTORE") && problem().contains("ETCD_ENDPOINTS"))
    #expect(problem("mongodb://x").contains("\"mongodb://x\"") && problem("mongodb://x").contains("etcd://HOST:PORT"))
    #expect(problem("").contains("sqlite:PATH") && problem("sqlite:").contains("sqlite:PATH") && problem("h:2379").contains("etcd://"))
    #expect(problem("etcd://").contains("HOST:PORT") && problem("etcd://a:99999").contains("a:99999"))
    #expect(problem("etcd://fd00::1:2379").contains("IPv6"))
    #expect(problem("http://a:1,https://b:1").contains("some endpoints with TLS"))
    #expect(problem(nil, ["DATASTORE_TYPE": "kubernetes"]).contains("yet"))
    #expect(problem(nil, ["DATASTORE_TYPE": "mysql"]).contains("DATASTORE_TYPE=mysql"))
    #expect(problem(nil, ["DATASTORE_TYPE": "etcdv3"]).contains("ETCD_ENDPOINTS"))
    #expect(problem(nil, ["ETCD_DISCOVERY_SRV": "x"]).contains("ETCD_ENDPOINTS"))
    #expect(problem(nil, ["ETCD_AUTHORITY": "a:1", "ETCD_SCHEME": "ftp"]).contains("ETCD_SCHEME=ftp"))
    #expect(problem("etcd://a:1", ["ETCD_USERNAME": "u"]).contains("ETCD_PASSWORD"))
    #expect(problem("etcd://a:1", ["ETCD_PASSWORD": "geheim"]).contains("ETCD_USERNAME"))
  }

  @Test("No secret is repeated: neither in messages nor in names")
  func secrets() throws {
    for text in ["etcd://root:geheim@a:1", "etcds://root:geheim@a:1,b:1", "root:geheim@a"] {
      #expect(!problem(text).contains("geheim") && problem(text).contains("ETCD_PASSWORD"))
      #expect(!problem(nil, ["ETCD_ENDPOINTS": text]).contains("geheim"))
    }
    let configuration = try etcd("etcd://a:1", ["ETCD_USERNAME": "margay", "ETCD_PASSWORD": "geheim"])
    var dumped = ""
    dump(configuration, to: &dumped)
    #expect(!"\(configuration)\(configuration.name)\(String(reflecting: configuration))\(dumped)".contains("geheim"))
  }
}
