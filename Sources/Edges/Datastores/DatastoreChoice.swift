/// Which datastore is meant: by an option, by Margay's variable, or by the variables that Calico's components read.
///
/// The first of these that says anything decides:
/// 1. the option `--datastore`: `sqlite:PATH`, `etcd://HOST:PORT,…`, `etcds://HOST:PORT,…` (TLS); `http://` and `https://` mean the same two
/// 2. the option `--config`: a file as calicoctl has it (`CalicoctlFile`)
/// 3. `MARGAY_DATASTORE`, in the words of the first
/// 4. `/etc/calico/calicoctl.cfg`, for commands; daemons do not read it, as Calico's do not
/// 5. Calico's `DATASTORE_TYPE` and `ETCD_ENDPOINTS`, or `ETCD_AUTHORITY` and `ETCD_SCHEME`
///
/// Files for TLS and the user come from calicoctl's file if that decides, and from Calico's variables in every other case: a secret on a
/// command line would be there for everybody to see.
public import DatastoreEtcd

public enum DatastoreChoice: Hashable, Sendable {
  case sqlite(path: String)
  case etcd(EtcdConfiguration)

  /// What `--datastore` understands; with the same environment it is the same choice. Holds no secret.
  public var name: String {
    switch self {
    case .sqlite(let path): "sqlite:\(path)"
    case .etcd(let configuration): configuration.name
    }
  }

  public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
  }

  public init(option: String?, environment: @escaping (String) -> String?) throws(Problem) {
    self = try Self.decide(option: option, config: nil, standardFile: nil, environment: environment).choice
  }

  /// Who decided, in the words people use for it: `--datastore`, `MARGAY_DATASTORE`, a file's path, `ETCD_ENDPOINTS`.
  public typealias Decision = (choice: DatastoreChoice, by: String)

  /// - Parameter standardFile: read if it exists; nil for daemons.
  public static func decide(
    option: String?, config: String?, standardFile: String?, environment: @escaping (String) -> String?
  ) throws(Problem) -> Decision {
    let calico = CalicoVariables(environment)
    if let option {
      if config != nil { throw Problem("--datastore and --config both name a datastore; say one of them") }
      return (try DatastoreChoice(text: option, calico), "--datastore")
    }
    if let config { return (try DatastoreChoice(try CalicoctlFile(path: config), environment), "--config \(config)") }
    if let text = environment("MARGAY_DATASTORE"), !text.isEmpty { return (try DatastoreChoice(text: text, calico), "MARGAY_DATASTORE") }
    if let standardFile, CalicoctlFile.exists(standardFile) {
      return (try DatastoreChoice(try CalicoctlFile(path: standardFile), environment), standardFile)
    }
    guard let (endpoints, isTLS) = try calico.endpoints() else {
      throw Problem(
        "no datastore is named; say --datastore sqlite:PATH or --datastore etcd://HOST:PORT, or set MARGAY_DATASTORE or ETCD_ENDPOINTS")
    }
    return (.etcd(try calico.configuration(endpoints, isTLS: isTLS)), calico.origin)
  }

  private init(_ file: CalicoctlFile, _ environment: @escaping (String) -> String?) throws(Problem) {
    let variables = CalicoVariables(file, environment)
    guard let (endpoints, isTLS) = try variables.endpoints() else {
      throw Problem("\(file.path): no datastore is named; set etcdEndpoints, as in http://10.0.0.1:2379")
    }
    self = .etcd(try variables.configuration(endpoints, isTLS: isTLS))
  }

  private init(text: String, _ calico: CalicoVariables) throws(Problem) {
    if text.hasPrefix("sqlite:"), text.utf8.count > 7 {
      self = .sqlite(path: String(text.dropFirst(7)))
      return
    }
    let (endpoints, isTLS) = try EndpointList.parse(text, schemeMissing: nil)
    self = .etcd(try calico.configuration(endpoints, isTLS: isTLS))
  }
}

/// `etcd://a:2379,b:2379`, `https://a:2379,https://b:2379`.
enum EndpointList {
  /// - Parameter schemeMissing: what a list without a scheme means; nil refuses it.
  static func parse(
    _ text: String, schemeMissing: Bool?, from variable: String? = nil
  ) throws(DatastoreChoice.Problem) -> (endpoints: [EtcdEndpoint], isTLS: Bool) {
    // From here on no message repeats what stands before an @: it may be a password.
    let shown = variable ?? "\"\(withoutUser(text))\""
    if text.contains("@") {
      throw DatastoreChoice.Problem(
        "\(shown): user and password do not belong into the name of a datastore, where everybody sees them; set ETCD_USERNAME and ETCD_PASSWORD"
      )
    }
    var endpoints: [EtcdEndpoint] = []
    var isTLS = schemeMissing
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      var rest = part.trimmed
      if let (scheme, after) = rest.cut("://") {
        let partIsTLS: Bool
        switch scheme.lowercased() {
        case "etcd", "http": partIsTLS = false
        case "etcds", "https": partIsTLS = true
        default: throw unknown(shown)
        }
        if !endpoints.isEmpty, isTLS != partIsTLS { throw DatastoreChoice.Problem("\(shown): some endpoints with TLS and some without") }
        isTLS = partIsTLS
        rest = after
      }
      guard isTLS != nil else { throw unknown(shown) }
      while rest.hasSuffix("/") { rest = rest.dropLast() }
      guard let endpoint = EtcdEndpoint(rest) else {
        throw DatastoreChoice.Problem("\(shown): \"\(rest)\" is no endpoint; write HOST:PORT, or [ADDRESS]:PORT for IPv6")
      }
      endpoints.append(endpoint)
    }
    guard let isTLS else { throw unknown(shown) }
    return (endpoints, isTLS)
  }

  private static func unknown(_ shown: String) -> DatastoreChoice.Problem {
    DatastoreChoice.Problem(
      "\(shown) is no datastore that Margay knows; write sqlite:PATH, etcd://HOST:PORT or, with TLS, etcds://HOST:PORT")
  }
  private static func withoutUser(_ text: String) -> String {
    guard let at = text.lastIndex(of: "@") else { return text }
    return "…" + text[at...]
  }
}

extension Substring {
  fileprivate var trimmed: Substring {
    var text = self
    while let first = text.first, first.isWhitespace { text.removeFirst() }
    while let last = text.last, last.isWhitespace { text.removeLast() }
    return text
  }
  fileprivate func cut(_ separator: String) -> (before: Substring, after: Substring)? {
    guard let found = firstRange(of: separator) else { return nil }
    return (self[..<found.lowerBound], self[found.upperBound...])
  }
}
