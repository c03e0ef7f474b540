/// Certificates for one test: an authority, a server on 127.0.0.1, a client; made with the `openssl` command, gone with their folder.
import Glibc
import Sockets

public struct TestCertificates: Sendable {
  public let folder: String
  private let serverNames: String
  public var authority: String { "\(folder)/ca.pem" }
  public var serverCertificate: String { "\(folder)/server.pem" }
  public var serverKey: String { "\(folder)/server.key" }
  public var clientCertificate: String { "\(folder)/client.pem" }
  public var clientKey: String { "\(folder)/client.key" }

  public static var isPossible: Bool { EtcdServer.executable("openssl") != nil }

  /// - Parameter serverNames: what the server's certificate is for, as openssl writes it.
  public init(in folder: String, serverNames: String = "IP:127.0.0.1,DNS:etcd.test") throws {
    self.serverNames = serverNames
    self.folder = folder
    try Files.makeDirectories(folder)
    let authority = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=test-ca"]
    try Self.run(authority + ["-keyout", "\(folder)/ca.key", "-out", self.authority])
    try issue("server", days: 2)
    try issue("client", days: 2)
  }

  /// Makes the server's or the client's certificate and key anew, in place; with fewer than 0 days it ended yesterday.
  public func issue(_ name: String, days: Int) throws {
    let (subject, extensions) =
      name == "server"
      ? ("/CN=etcd", "subjectAltName=\(serverNames)\nextendedKeyUsage=serverAuth,clientAuth") : ("/CN=margay", "extendedKeyUsage=clientAuth")
    try Self.run([
      "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-keyout", "\(folder)/\(name).key",
      "-out", "\(folder)/\(name).csr",
    ])
    try Files.write(Array(extensions.utf8), to: "\(folder)/\(name).ext", create: true)
    try Self.run([
      "x509", "-req", "-days", "\(days)", "-in", "\(folder)/\(name).csr", "-CA", self.authority, "-CAkey", "\(folder)/ca.key", "-CAcreateserial",
      "-extfile", "\(folder)/\(name).ext", "-out", "\(folder)/\(name).pem",
    ])
  }
  public func remove() { try? Files.removeTree(folder) }
  private static func run(_ words: [String]) throws {
    let result = try ChildCommand("/usr/bin/openssl", words).runToEnd()
    guard result.code == 0 else { throw EtcdServer.Fault("openssl \(words[0]): \(result.output)") }
  }
}
