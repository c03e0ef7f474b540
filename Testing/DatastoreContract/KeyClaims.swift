/// Keys, prefixes, transactions.
import Datastore

extension DatastoreContract {
  static let keyClaims: [ContractClaim] = [
    ContractClaim("A fresh store is empty and a missing key is nil") { store in
      try expect(try await store.first.get("/a") == nil, "a key in a fresh store")
      try expectEqual(try await store.first.list(prefix: "").items, [], "keys of a fresh store")
    },
    ContractClaim("A put is read back with its revisions, also through another handle") { store in
      let created = try await store.first.put("/a", "one")
      let written = KeyValue(key: "/a", value: octets("one"), createRevision: created, modRevision: created)
      try expectEqual(try await store.second.get("/a"), written, "after the first put")
      let changed = try await store.second.put("/a", "two")
      try expect(changed > created, "revision \(changed) after \(created)")
      let rewritten = KeyValue(key: "/a", value: octets("two"), createRevision: created, modRevision: changed)
      try expectEqual(try await store.first.get("/a"), rewritten, "after the second put")
    },
    ContractClaim("Values are octets: empty, zero and not UTF-8 survive") { store in
      for value in [[], [0], [0xff, 0, 0xfe], [UInt8](repeating: 7, count: 200_000)] {
        try await store.first.commit([.put("/v", value)])
        try expectEqual(try await store.second.get("/v")?.value, value, "a value of \(value.count) octets")
      }
    },
    ContractClaim("A key deleted and written again is created anew") { store in
      try await store.first.put("/a", "one")
      try await store.first.commit([.delete("/a")])
      try expect(try await store.second.get("/a") == nil, "the key after its deletion")
      let again = try await store.first.put("/a", "two")
      try expectEqual(try await store.second.get("/a")?.createRevision, again, "the create revision")
    },
    ContractClaim("Only a change makes a revision: deleting nothing does not") { store in
      let revision = try await store.first.put("/a", "one")
      try expectEqual(try await store.first.commit([.delete("/missing")]), revision, "the revision after deleting nothing")
      try expectEqual(try await store.first.commit([]), revision, "the revision after doing nothing")
      try expectEqual(try await store.second.list(prefix: "").revision, revision, "the revision of the store")
    },
    ContractClaim("Absent holds only for a missing key, and the conflict shows what is there") { store in
      let revision = try await store.first.commit([.put("/a", octets("one"))], if: [.absent("/a")])
      let refused = try await store.second.transact(if: [.absent("/a")], then: [.put("/a", octets("two"))])
      let present = KeyValue(key: "/a", value: octets("one"), createRevision: revision, modRevision: revision)
      try expectEqual(refused, .conflict([present]), "creating it twice")
      try expectEqual(try await store.first.list(prefix: "").revision, revision, "the revision after a conflict")
    },
    ContractClaim("A modification revision holds only while it is the present one") { store in
      let one = try await store.first.put("/a", "one")
      let two = try await store.first.commit([.put("/a", octets("two"))], if: [.modRevision("/a", equals: one)])
      let stale = try await store.second.transact(if: [.modRevision("/a", equals: one)], then: [.delete("/a")])
      guard case .conflict(let present) = stale else { throw ContractBroken("a stale comparison held") }
      try expectEqual(present.map { $0?.modRevision }, [two], "what the conflict shows")
      let missing = try await store.second.transact(if: [.modRevision("/b", equals: one)], then: [.put("/b", [])])
      try expectEqual(missing, .conflict([nil]), "a modification revision of a missing key")
    },
    ContractClaim("A transaction writes all keys at one revision, or none") { store in
      try await store.first.put("/old", "x")
      let revision = try await store.first.commit(
        [.put("/a", octets("1")), .put("/b", octets("2")), .delete("/old")], if: [.absent("/a"), .absent("/b")])
      let items = try await store.second.list(prefix: "/").items
      try expectEqual(items.map(\.key), ["/a", "/b"], "keys after the transaction")
      try expectEqual(items.map(\.modRevision), [revision, revision], "their revisions")
      let refused = try await store.second.transact(
        if: [.absent("/c"), .absent("/b")], then: [.put("/c", octets("3")), .put("/b", octets("4"))])
      guard case .conflict(let present) = refused else { throw ContractBroken("one comparison failed, and it was written") }
      try expectEqual(present.map { $0?.key }, [nil, "/b"], "what the conflict shows, in the order of the comparisons")
      try expectEqual(try await store.first.keys(prefix: "/"), ["/a", "/b"], "keys after the conflict")
    },
    ContractClaim("Of many transactions that compare the same revision one wins") { store in
      var revision = try await store.first.put("/counter", "0")
      for round in 0..<5 {
        let seen = revision
        let winners = try await withThrowingTaskGroup(of: Revision?.self) { group in
          for index in 0..<16 {
            let handle = index % 2 == 0 ? store.first : store.second
            group.addTask {
              let result = try await handle.transact(
                if: [.modRevision("/counter", equals: seen)], then: [.put("/counter", octets("\(round)-\(index)"))])
              if case .committed(let won) = result { return won } else { return nil }
            }
          }
          return try await group.reduce(into: [Revision]()) { if let won = $1 { $0.append(won) } }
        }
        try expectEqual(winners.count, 1, "winners of round \(round)")
        revision = winners[0]
      }
    },
    ContractClaim("Keys are listed in the order of their octets") { store in
      let keys = ["/b", "/a/b", "/a", "/a-", "/a0", "/Z", "/é", "/e\u{301}", "/\u{ffff}", "/\u{10000}"]
      try await store.first.commit(keys.map { .put($0, []) })
      let sorted = keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      let found = try await store.second.keys(prefix: "/")
      try expectEqual(found.map { Array($0.utf8) }, sorted.map { Array($0.utf8) }, "the order")
    },
    ContractClaim("A prefix selects exactly the keys that begin with its octets") { store in
      let keys = [
        "/p", "/p/", "/p/a", "/p/a/b", "/p/\u{10ffff}", "/p/\u{10ffff}z", "/p0", "/P/a", "/p.", "/q", "/e", "/e\u{301}", "/\u{d7ff}x",
      ]
      try await store.first.commit(keys.map { .put($0, []) })
      for prefix in ["", "/", "/p", "/p/", "/p/a", "/p/a/b", "/p/a/b/c", "/p/\u{10ffff}", "/e", "/\u{d7ff}", "%", "_", "/p/%"] {
        let wanted = keys.filter { $0.utf8.starts(with: prefix.utf8) }.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
        let found = try await store.second.keys(prefix: prefix)
        try expectEqual(found.map { Array($0.utf8) }, wanted.map { Array($0.utf8) }, "keys under '\(prefix)'")
      }
    },
    ContractClaim("The pages of a list are one truth, whatever is written between them, and end with the last key") { store in
      try await store.first.commit((0..<25).map { .put("/p/\($0 + 100)", octets("0")) } + [.put("/q", [])])
      let listed = try await store.first.list(prefix: "/p/")
      var page = try await store.second.page(prefix: "/p/", limit: 10, from: nil)
      var items = page.items
      while let next = page.next {
        try expect(page.items.count <= 10, "\(page.items.count) items in a page of 10")
        // Before and behind the place where the list is.
        try await store.first.commit([.put("/p/100", octets("1")), .put("/p/124", octets("1")), .delete("/p/123"), .put("/p/200", [])])
        page = try await store.second.page(prefix: "/p/", limit: 10, from: next)
        try expectEqual(page.revision, listed.revision, "the revision of a later page")
        items += page.items
      }
      try expectEqual(items, listed.items, "all pages")
      try expectEqual(try await store.second.page(prefix: "/none", limit: 10, from: nil).items, [], "a page of nothing")
      var together: [KeyValue] = []
      let revision = try await store.second.eachPage(prefix: "/p/", limit: 7, restart: { together = [] }) { together += $0 }
      try expectEqual(together, try await store.first.list(prefix: "/p/").items, "each page")
      try expect(revision >= listed.revision, "the revision of each page")
    },
    ContractClaim("A store remembers what was read from it") { store in
      try await store.first.put("/a", "one")
      let item = try await store.second.get("/a")!
      try await store.first.put("/a", "two")
      try expectEqual(try await store.second.remembers(item), true, "an older version of a key")
    },
    ContractClaim("A list tells the revision at which it was true") { store in
      try await store.first.put("/a", "one")
      let later = try await store.first.put("/elsewhere", "x")
      try expectEqual(try await store.second.list(prefix: "/a").revision, later, "the revision of the list")
    },
    ContractClaim("A closed store refuses, and its other handle goes on") { store in
      try await store.first.put("/a", "one")
      guard store.first as AnyObject !== store.second as AnyObject else { return }
      await store.first.close()
      do {
        _ = try await store.first.get("/a")
        throw ContractBroken("a closed handle answers")
      } catch is DatastoreError {}
      try expectEqual(try await store.second.get("/a")?.value, octets("one"), "the other handle")
    },
  ]
}
