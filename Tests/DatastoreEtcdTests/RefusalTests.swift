/// What etcd refuses, in words that say what to do.
import Datastore
import DatastoreEtcd
import EtcdServer
import Testing

@Suite("etcd: refusals", .serialized, .enabled(if: EtcdServer.isInstalled, "etcd is not installed"), .timeLimit(.minutes(2)))
struct RefusalTests {
  @Test("Nobody there: the endpoint and the reason, at once")
  func nobody() async throws {
    let ports = try EtcdServer.freePorts(2)
    let one = try EtcdDatastore(EtcdConfiguration(endpoints: [EtcdEndpoint(host: "127.0.0.1", port: ports[0])]))
    let started = ContinuousClock.now
    #expect(
      await one.failure { _ = try await $0.get("/a") }
        == "the datastore is not available: etcd://127.0.0.1:\(ports[0]): connection refused: nothing listens there")
    let two = try EtcdDatastore(EtcdConfiguration(endpoints: ports.map { EtcdEndpoint(host: "127.0.0.1", port: $0) }))
    let why = await two.failure { _ = try await $0.list(prefix: "/a") }
    #expect(why.contains("127.0.0.1:\(ports[0]): connection refused") && why.contains("127.0.0.1:\(ports[1]): connection refused"), "\(why)")
    let nameless = try EtcdDatastore(EtcdConfiguration(endpoints: [EtcdEndpoint(host: "nobody.invalid", port: 1)]))
    #expect(await nameless.failure { _ = try await $0.get("/a") }.contains("the name nobody.invalid does not resolve"))
    #expect(ContinuousClock.now - started < .seconds(8))
  }

  @Test("Too many operations, too large a value, a full store: the limit and the way out")
  func limits() async throws {
    var options = EtcdServer.Options()
    options.arguments = ["--max-txn-ops", "128", "--quota-backend-bytes", "4000000"]
    try await withServer(options) { server in
      let store = try EtcdDatastore(server.configuration)
      let many = await store.failure { _ = try await $0.transact(if: [], then: (0..<129).map { .put("/m/\($0)", []) }) }
      #expect(many.contains("128") && many.contains("--max-txn-ops") && many.contains("/m/0 and 128 more"), "\(many)")
      let large = await store.failure { try await $0.put("/large", [UInt8](repeating: 1, count: 1_700_000)) }
      #expect(large.contains("/large (1700000 octets)") && large.contains("--max-request-bytes"), "\(large)")
      let huge = await store.failure { try await $0.put("/large", [UInt8](repeating: 1, count: 3_000_000)) }
      #expect(huge.contains("/large (3000000 octets)") && huge.contains("--max-request-bytes"), "\(huge)")
      var full = ""
      for index in 0..<200 where full.isEmpty || full == "no error" {
        full = await store.failure { try await $0.put("/fill/\(index)", [UInt8](repeating: 1, count: 1_000_000)) }
      }
      #expect(full.contains("NOSPACE") && full.contains("defragment"), "\(full)")
      // Reading goes on.
      #expect(try await store.get("/fill/0") != nil)
      await store.close()
    }
  }

  @Test("Users: no password, a wrong one, a permission that lacks; and a token that etcd forgot is renewed unseen")
  func users() async throws {
    try await withServer { server in
      try server.control(["user", "add", "root:secret"])
      try server.control(["user", "grant-role", "root", "root"])
      try server.control(["user", "add", "reader:geheim"])
      try server.control(["role", "add", "reading"])
      try server.control(["role", "grant-permission", "reading", "read", "--prefix=true", "/open/"])
      try server.control(["user", "grant-role", "reader", "reading"])
      try server.control(["auth", "enable"])
      func store(_ user: String?, _ password: String = "") throws -> EtcdDatastore {
        var configuration = server.configuration
        configuration.credentials = user.map { .init(user: $0, password: password) }
        return try EtcdDatastore(configuration)
      }
      #expect(await (try store(nil)).failure { _ = try await $0.get("/open/a") }.contains("set ETCD_USERNAME and ETCD_PASSWORD"))
      let wrong = await (try store("reader", "falsch")).failure { _ = try await $0.get("/open/a") }
      #expect(wrong.contains("does not know user reader") && !wrong.contains("falsch"), "\(wrong)")
      let (root, reader) = (try store("root", "secret"), try store("reader", "geheim"))
      let start = try await root.put("/open/a", "1")
      #expect(try await reader.text("/open/a") == "1")
      let forbidden = await reader.failure { try await $0.put("/open/a", "2") }
      #expect(forbidden.contains("user reader lacks permission for writing /open/a") && forbidden.contains("grant-permission"), "\(forbidden)")
      let watch = await reader.failure { for try await _ in $0.watch(prefixes: ["/closed/"], after: start) {} }
      #expect(watch.contains("user reader lacks permission for watching /closed/"), "\(watch)")

      // etcd keeps its tokens in memory: after a restart it knows none of them.
      await server.stop()
      try await server.start()
      try await eventually("reads after the restart") {
        do { return try await reader.text("/open/a") == "1" } catch DatastoreError.unavailable { return false }
      }
      // Here the first thing after a restart is a watch.
      await server.stop()
      try await server.start()
      try await eventually("a server") {
        do { return try await root.text("/open/a") == "1" } catch DatastoreError.unavailable { return false }
      }
      async let event = within(.seconds(20), "an event for a watch with a forgotten token") {
        while true {
          do {
            for try await batch in reader.watch(prefixes: ["/open/"], after: start) { return batch.events.count }
          } catch DatastoreError.unavailable {
            try await Task.sleep(for: .milliseconds(50))
          }
        }
      }
      try await root.put("/open/a", "2")
      #expect(try await event == 1)
      await root.close()
      await reader.close()
    }
  }

  /// What a client with this configuration meets.
  private static func failure(_ configuration: EtcdConfiguration, _ change: @Sendable (inout EtcdConfiguration) -> Void) async -> String {
    var configuration = configuration
    change(&configuration)
    do {
      let store = try EtcdDatastore(configuration)
      let text = await store.failure { _ = try await $0.get("/a") }
      await store.close()
      return text
    } catch {
      return "\(error)"
    }
  }

  @Test(
    "TLS: every mistake says which file or which word is wrong", .enabled(if: TestCertificates.isPossible, "openssl is not installed"))
  func tls() async throws {
    let folder = try EtcdServer().folder
    let (right, other) = (try TestCertificates(in: folder + "-tls-a"), try TestCertificates(in: folder + "-tls-b", serverNames: "DNS:else"))
    defer { for certificates in [right, other] { certificates.remove() } }
    var options = EtcdServer.Options()
    options.tls = right
    options.isClientCertificateWanted = true
    try await withServer(options) { server in
      let failure = { (change: @Sendable (inout EtcdConfiguration) -> Void) in
        await Self.failure(server.configuration, change)
      }
      let good = await failure { _ in }
      #expect(good == "no error")
      let named = await failure {
        $0.endpoints = [EtcdEndpoint(host: "localhost", port: server.endpoints[0].port)]
        $0.tls?.serverName = "etcd.test"
      }
      #expect(named == "no error")
      let stranger = await failure { $0.tls?.caFile = other.authority }
      #expect(stranger.contains(other.authority) && stranger.contains("ETCD_CA_CERT_FILE"), "\(stranger)")
      let machine = await failure { $0.tls?.caFile = nil }
      #expect(machine.contains("this machine's list") && machine.contains("ETCD_CA_CERT_FILE"), "\(machine)")
      let bare = await failure { $0.tls = .init(caFile: right.authority) }
      #expect(bare.contains("wants a client certificate") && bare.contains("ETCD_CERT_FILE"), "\(bare)")
      let foreign = await failure {
        $0.tls?.certificateFile = other.clientCertificate
        $0.tls?.keyFile = other.clientKey
      }
      #expect(foreign.contains("refuses our certificate") && foreign.contains(other.clientCertificate), "\(foreign)")
      let mixed = await failure { $0.tls?.keyFile = other.clientKey }
      #expect(mixed.contains(other.clientKey) || mixed.contains(right.clientCertificate), "\(mixed)")
      let keyless = await failure { $0.tls?.keyFile = nil }
      #expect(keyless.contains("ETCD_KEY_FILE"), "\(keyless)")
      let missing = await failure { $0.tls?.caFile = "/no/such/ca.pem" }
      #expect(missing.contains("/no/such/ca.pem"), "\(missing)")
      let plain = await failure { $0.tls = nil }
      #expect(plain.contains("etcds://"), "\(plain)")
    }
    // A certificate for a name alone: neither our address nor another name will do.
    options.tls = other
    try await withServer(options) { server in
      for (name, isRight) in [(nil, false), ("wrong.test", false), ("else", true)] {
        let text = await Self.failure(server.configuration) { $0.tls?.serverName = name }
        #expect(isRight ? text == "no error" : text.contains("not for this name") && text.contains("MARGAY_ETCD_SERVER_NAME"), "\(text)")
      }
    }
    try await withServer { server in
      var configuration = server.configuration
      configuration.tls = .init(caFile: right.authority)
      let store = try EtcdDatastore(configuration)
      let deaf = await store.failure { _ = try await $0.get("/a") }
      #expect(deaf.contains("does it speak TLS?") || deaf.contains("does not speak TLS"), "\(deaf)")
      await store.close()
    }
  }
}
