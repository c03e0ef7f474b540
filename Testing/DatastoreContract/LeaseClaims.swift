/// Leases: keys that vanish when nobody vouches for them any more.
import Datastore

extension DatastoreContract {
  static let leaseClaims: [ContractClaim] = [
    ContractClaim("Keys under a lease vanish at one revision when its time is over, and watchers hear of it") { store in
      let lease = try await store.first.grantLease(seconds: 5)
      try await store.first.put("/l/a", "1", lease: lease)
      let start = try await store.first.put("/l/b", "1", lease: lease)
      try await store.first.put("/other", "stays")
      try expectEqual(try await store.second.get("/l/a")?.lease, lease, "the lease of the key")
      try await store.elapse(3)
      try expectEqual(try await store.second.keys(prefix: "/l/"), ["/l/a", "/l/b"], "keys before the end")
      async let following = store.second.collect(prefixes: ["/l/"], after: start) { $0.count == 2 }
      try await store.elapse(4)
      let events = try await following
      try expectEqual(Set(events.map(\.key)), ["/l/a", "/l/b"], "the deleted keys")
      try expectEqual(Set(events.map(\.revision)).count, 1, "revisions of the end")
      try expectEqual(try await store.first.keys(prefix: "/"), ["/other"], "keys after the end")
    },
    ContractClaim("Keeping a lease alive moves its end") { store in
      let lease = try await store.first.grantLease(seconds: 5)
      try await store.first.put("/l/a", "1", lease: lease)
      for _ in 0..<3 {
        try await store.elapse(3)
        try await store.second.keepAlive(lease)
      }
      try expectEqual(try await store.first.keys(prefix: "/l/"), ["/l/a"], "keys of a lease kept alive")
      try await store.elapse(7)
      try expectEqual(try await store.first.keys(prefix: "/l/"), [], "keys after its end")
      try await expectError(.leaseNotFound, "keeping an ended lease alive") { try await store.first.keepAlive(lease) }
    },
    ContractClaim("Revoking a lease deletes its keys at once") { store in
      let lease = try await store.first.grantLease(seconds: 600)
      try await store.first.put("/l/a", "1", lease: lease)
      try await store.second.revoke(lease)
      try expectEqual(try await store.first.keys(prefix: "/l/"), [], "keys of a revoked lease")
      try await expectError(.leaseNotFound, "revoking it again") { try await store.first.revoke(lease) }
    },
    ContractClaim("A put under an ended lease fails and writes nothing") { store in
      let lease = try await store.first.grantLease(seconds: 600)
      try await store.first.revoke(lease)
      let revision = try await store.first.put("/other", "1")
      try await expectError(.leaseNotFound, "a put under an ended lease") {
        try await store.first.commit([.put("/plain", []), .put("/l/a", [], lease: lease)])
      }
      try expectEqual(try await store.second.list(prefix: "/").revision, revision, "the revision")
    },
    ContractClaim("The last put decides the lease of a key") { store in
      let lease = try await store.first.grantLease(seconds: 600)
      try await store.first.put("/l/kept", "1", lease: lease)
      try await store.first.put("/l/kept", "2")
      try await store.first.put("/l/given", "1")
      try await store.first.put("/l/given", "2", lease: lease)
      try await store.first.revoke(lease)
      try expectEqual(try await store.second.keys(prefix: "/l/"), ["/l/kept"], "keys after the revocation")
    },
  ]
}
