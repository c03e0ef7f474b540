/// calicoctl's configuration file (`kind: CalicoAPIConfig`), read as the variables that mean the same.
///
/// The file may hold secrets: messages name its fields and never repeat their values.
import Documents
import Glibc
import JSON

public struct CalicoctlFile: Sendable {
  public static let standardPath = "/etc/calico/calicoctl.cfg"

  let path: String
  /// By the name of the variable.
  private(set) var variables: [String: String] = [:]
  /// `etcdCACert`, `etcdCert`, `etcdKey`: the PEM text itself, which no variable holds.
  private(set) var inline: [String: String] = [:]

  private static let names: [(field: String, variable: String)] = [
    ("datastoreType", "DATASTORE_TYPE"), ("etcdEndpoints", "ETCD_ENDPOINTS"), ("etcdAuthority", "ETCD_AUTHORITY"),
    ("etcdScheme", "ETCD_SCHEME"),
    ("etcdDiscoverySrv", "ETCD_DISCOVERY_SRV"), ("etcdUsername", "ETCD_USERNAME"), ("etcdPassword", "ETCD_PASSWORD"),
    ("etcdCACertFile", "ETCD_CA_CERT_FILE"), ("etcdCertFile", "ETCD_CERT_FILE"), ("etcdKeyFile", "ETCD_KEY_FILE"),
  ]
  /// What belongs to the other datastore of Calico's; calicoctl's files often hold some of it beside etcd's settings.
  private static let foreign: Set<String> = [
    "kubeconfig", "kubeconfigInline", "k8sAPIEndpoint", "k8sKeyFile", "k8sCertFile", "k8sCAFile", "k8sAPIToken", "k8sToken",
    "k8sInsecureSkipTLSVerify",
    "k8sDisableNodePoll", "k8sUsePodCIDR", "k8sCurrentContext", "k8sClientQPS", "k8sServiceAccountTokenFile", "calicoAPIGroup",
    "etcdFIPSModeEnabled",
  ]

  static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

  public init(path: String) throws(DatastoreChoice.Problem) {
    self.path = path
    let documents: [PositionedDocument]
    do throws(DocumentErrors) { documents = try DocumentReader.read(path: path) } catch {
      // The reader's sentence holds what it stumbled over only if it is no YAML; a syntax error is told by its place alone.
      let place = error.errors.first.map { $0.position.map { ":\($0)" } ?? "" } ?? ""
      let reason = unsafe access(path, R_OK) == 0 ? "this is neither YAML nor JSON" : unsafe String(cString: strerror(errno))
      throw DatastoreChoice.Problem("\(path)\(place): \(reason); it should be calicoctl's configuration, kind: CalicoAPIConfig")
    }
    guard documents.count == 1, let document = documents.first?.value, document["kind"]?.string == "CalicoAPIConfig" else {
      throw DatastoreChoice.Problem("\(path): not one document of kind CalicoAPIConfig")
    }
    if let version = document["apiVersion"]?.string, version != "projectcalico.org/v3" {
      throw DatastoreChoice.Problem("\(path): apiVersion \(version) is not projectcalico.org/v3")
    }
    for member in document["spec"]?.object?.members ?? [] {
      if member.value.isNull { continue }
      let place = documents[0].positions.namePosition(of: JSONPath("spec").member(member.name))
      func text() throws(DatastoreChoice.Problem) -> String {
        guard let text = member.value.string else {
          throw DatastoreChoice.Problem("\(path):\(place): spec.\(member.name) is not a text; put it in quotes")
        }
        return text
      }
      if let name = Self.names.first(where: { $0.field == member.name }) {
        variables[name.variable] = try text()
      } else if ["etcdCACert", "etcdCert", "etcdKey"].contains(member.name) {
        let pem = try text()
        if !pem.isEmpty { inline[member.name] = pem }
      } else if !Self.foreign.contains(member.name) {
        let known = Self.names.map(\.field) + ["etcdCACert", "etcdCert", "etcdKey"]
        let hint = nearest(member.name, among: known).map { "did you mean \($0)?" } ?? "known: \(known.joined(separator: ", "))"
        throw DatastoreChoice.Problem("\(path):\(place): spec.\(member.name) is not a setting; \(hint)")
      }
    }
    for (text, file) in [("etcdCACert", "etcdCACertFile"), ("etcdCert", "etcdCertFile"), ("etcdKey", "etcdKeyFile")] {
      let variable = Self.names.first { $0.field == file }!.variable
      if inline[text] != nil, !(variables[variable] ?? "").isEmpty {
        throw DatastoreChoice.Problem("\(path): \(text) and \(file) both give it; keep one of them")
      }
    }
    if (inline["etcdCert"] == nil) != (inline["etcdKey"] == nil) {
      throw DatastoreChoice.Problem("\(path): etcdCert and etcdKey go together; one of them is missing")
    }
  }

  /// `spec.etcdEndpoints of /etc/calico/calicoctl.cfg`
  func title(of variable: String) -> String {
    Self.names.first { $0.variable == variable }.map { "spec.\($0.field) of \(path)" } ?? variable
  }
}
