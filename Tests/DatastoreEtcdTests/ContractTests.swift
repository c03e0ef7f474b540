/// The contract on the distribution's etcd.
import Datastore
import DatastoreContract
import DatastoreEtcd
import EtcdServer
import Testing

/// One server for the claims of a suite, emptied before each.
actor SharedServer {
  static let plain = SharedServer(isSecure: false)
  static let secure = SharedServer(isSecure: true)
  private let isSecure: Bool
  private var server: EtcdServer?
  init(isSecure: Bool) { self.isSecure = isSecure }

  private func running() async throws -> EtcdServer {
    if let server { return server }
    var options = EtcdServer.Options()
    if isSecure {
      let folder = try EtcdServer().folder + "-certificates"
      try EtcdServer.removeAtExit(folder)
      options.tls = try TestCertificates(in: folder)
      options.isClientCertificateWanted = true
    }
    let server = try EtcdServer(options)
    try await server.start()
    try await server.waitUntilReady()
    if isSecure {
      // With a client certificate and no user in the request, etcd takes the certificate's name for the user.
      try server.control(["user", "add", "root:secret"])
      try server.control(["user", "grant-role", "root", "root"])
      try server.control(["auth", "enable"])
    }
    self.server = server
    return server
  }

  func store() async throws -> StoreUnderTest {
    let server = try await running()
    var configuration = server.configuration
    if isSecure { configuration.credentials = .init(user: "root", password: "secret") }
    let (first, second) = (try EtcdDatastore(configuration), try EtcdDatastore(configuration))
    for item in try await first.list(prefix: "").items { _ = try await first.transact(if: [], then: [.delete(item.key)]) }
    let compactor = try EtcdDatastore(configuration)
    return StoreUnderTest(
      first: first, second: second, compact: { try await compactor.compact(upTo: $0) },
      // etcd's leases count by etcd's own clock.
      elapse: { try await Task.sleep(for: .seconds($0)) },
      dispose: {
        await first.close()
        await second.close()
        await compactor.close()
      })
  }
}

@Suite("Datastore contract: etcd", .serialized, .enabled(if: EtcdServer.isInstalled, "etcd is not installed"))
struct EtcdContractTests {
  @Test("The contract holds", arguments: DatastoreContract.promptClaims)
  func contract(claim: ContractClaim) async throws {
    try await claim.check { try await SharedServer.plain.store() }
  }

  @Test("It holds where time passes: leases and elections")
  func waiting() async throws {
    // Side by side, each on a server of its own: what is waited for is etcd's clock.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for claim in DatastoreContract.waitingClaims {
        group.addTask {
          let server = SharedServer(isSecure: false)
          do { try await claim.check { try await server.store() } } catch { Issue.record("\(claim): \(error)") }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test(
    "It holds with TLS, client certificates and a password, too",
    .enabled(if: TestCertificates.isPossible, "openssl is not installed"),
    arguments: DatastoreContract.claims.filter { claim in
      ["A transaction writes all", "Values are octets", "A watch replays", "Closing a store"].contains { claim.description.hasPrefix($0) }
    })
  func secure(claim: ContractClaim) async throws {
    try await claim.check { try await SharedServer.secure.store() }
  }
}
