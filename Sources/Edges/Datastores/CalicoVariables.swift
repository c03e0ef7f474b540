/// The variables by which Calico's components are told their datastore.
///
/// One deployment names the same things up to three ways: plain (calico-node, CNI, controllers), with the prefix `CALICO_` (calicoctl reads
/// both, this one first) and as Felix's parameters (`FELIX_ETCDENDPOINTS`). The first that is set and not empty counts, in the order
/// `CALICO_…`, plain, `FELIX_…`. An empty variable is as good as none: manifests set them all.
import DatastoreEtcd

struct CalicoVariables {
  private let environment: (String) -> String?
  /// Nil: the process's own. Otherwise the file whose settings stand in for them.
  private let file: CalicoctlFile?
  init(_ environment: @escaping (String) -> String?) {
    self.environment = environment
    file = nil
  }
  /// The settings of calicoctl's file under the names of the variables that mean the same.
  init(_ file: CalicoctlFile, _ environment: @escaping (String) -> String?) {
    self.environment = { file.variables[$0] ?? ($0.hasPrefix("MARGAY_") ? environment($0) : nil) }
    self.file = file
  }

  /// The value and the name it was found under.
  private func value(_ name: String, felix: String? = nil) -> (text: String, name: String)? {
    for candidate in ["CALICO_" + name, name, felix].compactMap({ $0 }) {
      if let text = environment(candidate), !text.isEmpty { return (text, file?.title(of: candidate) ?? candidate) }
    }
    return nil
  }

  /// The variable that names the members.
  var origin: String {
    value("ETCD_ENDPOINTS", felix: "FELIX_ETCDENDPOINTS")?.name ?? value("ETCD_AUTHORITY", felix: "FELIX_ETCDADDR")?.name
      ?? "the environment"
  }

  /// Nil if nothing is said about a datastore.
  func endpoints() throws(DatastoreChoice.Problem) -> (endpoints: [EtcdEndpoint], isTLS: Bool)? {
    let type = value("DATASTORE_TYPE", felix: "FELIX_DATASTORETYPE")
    switch type?.text {
    case nil, "etcdv3": break
    case "kubernetes":
      throw DatastoreChoice.Problem(
        "\(type!.name)=kubernetes: Margay cannot use the Kubernetes API as its datastore yet; name an etcd with --datastore etcd://HOST:PORT"
      )
    case let other?:
      throw DatastoreChoice.Problem("\(type!.name)=\(other): no datastore that Margay knows; etcdv3 is one")
    }
    if let found = value("ETCD_ENDPOINTS", felix: "FELIX_ETCDENDPOINTS") {
      return try EndpointList.parse(found.text, schemeMissing: isSchemeTLS(), from: "\(found.name)=\(shown(found.text))")
    }
    if let found = value("ETCD_AUTHORITY", felix: "FELIX_ETCDADDR") {
      return try EndpointList.parse(found.text, schemeMissing: isSchemeTLS(), from: "\(found.name)=\(shown(found.text))")
    }
    if let found = value("ETCD_DISCOVERY_SRV") {
      throw DatastoreChoice.Problem("\(found.name): Margay does not look up etcd in DNS yet; name the members in ETCD_ENDPOINTS")
    }
    guard let type else { return nil }
    throw DatastoreChoice.Problem(
      "\(type.name) is etcdv3, but no etcd is named; set \(title("ETCD_ENDPOINTS")), as in http://10.0.0.1:2379")
  }
  /// How whoever reads a message knows the variable.
  private func title(_ name: String) -> String { file?.title(of: name) ?? name }
  private func shown(_ text: String) -> String {
    text.contains("@") ? "…" : text
  }
  private func isSchemeTLS() throws(DatastoreChoice.Problem) -> Bool {
    guard let (text, name) = value("ETCD_SCHEME", felix: "FELIX_ETCDSCHEME") else { return false }
    switch text {
    case "http": return false
    case "https": return true
    default: throw DatastoreChoice.Problem("\(name)=\(text): no scheme; http or https")
    }
  }

  func configuration(_ endpoints: [EtcdEndpoint], isTLS: Bool) throws(DatastoreChoice.Problem) -> EtcdConfiguration {
    var configuration = EtcdConfiguration(endpoints: endpoints)
    if isTLS {
      configuration.tls = EtcdConfiguration.TLS(
        caFile: value("ETCD_CA_CERT_FILE", felix: "FELIX_ETCDCAFILE")?.text,
        certificateFile: value("ETCD_CERT_FILE", felix: "FELIX_ETCDCERTFILE")?.text,
        keyFile: value("ETCD_KEY_FILE", felix: "FELIX_ETCDKEYFILE")?.text, serverName: environment("MARGAY_ETCD_SERVER_NAME"))
      configuration.tls?.caText = file?.inline["etcdCACert"].map { EtcdConfiguration.PEMText($0) }
      configuration.tls?.certificateText = file?.inline["etcdCert"].map { EtcdConfiguration.PEMText($0) }
      configuration.tls?.keyText = file?.inline["etcdKey"].map { EtcdConfiguration.PEMText($0) }
    }
    switch (value("ETCD_USERNAME"), value("ETCD_PASSWORD")) {
    case (nil, nil): break
    case (let user?, let password?): configuration.credentials = .init(user: user.text, password: password.text)
    case (let user?, nil): throw DatastoreChoice.Problem("\(user.name) is set and \(title("ETCD_PASSWORD")) is not")
    case (nil, let password?): throw DatastoreChoice.Problem("\(password.name) is set and \(title("ETCD_USERNAME")) is not")
    }
    return configuration
  }
}
