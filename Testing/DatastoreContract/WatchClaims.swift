/// Watches: history, then the present, nothing lost, doubled or out of order.
import Datastore

extension DatastoreContract {
  static let watchClaims: [ContractClaim] = [
    ContractClaim("A watch replays history after its revision and then follows") { store in
      let before = try await store.first.put("/w/a", "before")
      let one = try await store.first.put("/w/a", "one")
      try await store.first.put("/elsewhere", "x")
      let gone = try await store.first.commit([.delete("/w/a")])
      async let following = store.second.collect(prefixes: ["/w/"], after: before) { $0.count == 3 }
      let late = try await store.first.put("/w/b", "late")
      try expectEqual(
        try await following,
        [
          .put(KeyValue(key: "/w/a", value: octets("one"), createRevision: before, modRevision: one)),
          .delete(key: "/w/a", at: gone),
          .put(KeyValue(key: "/w/b", value: octets("late"), createRevision: late, modRevision: late)),
        ], "the events")
    },
    ContractClaim("A watch of several prefixes reports each change once, and no other") { store in
      let start = try await store.first.list(prefix: "").revision
      for key in ["/x/1", "/xx", "/y/1", "/z/1", "/x/2", "/"] { try await store.first.put(key, key) }
      let events = try await store.second.collect(prefixes: ["/x/", "/z", "/x/2"], after: start) { $0.last?.key == "/x/2" }
      try expectEqual(events.map(\.key), ["/x/1", "/z/1", "/x/2"], "the keys")
    },
    ContractClaim("The events of one transaction arrive in one batch") { store in
      let start = try await store.first.list(prefix: "").revision
      let revisions = [
        try await store.first.commit((0..<50).map { .put("/t/\($0)", octets("a")) }),
        try await store.first.commit((0..<2500).map { .put("/t/\($0)", octets("b")) }),
        try await store.first.commit((0..<30).map { .delete("/t/\($0)") }),
      ]
      // `collect` checks that no revision is split.
      let events = try await store.second.collect(prefixes: ["/t/"], after: start) { $0.count >= 2580 }
      try expectEqual(events.count, 2580, "the events")
      try expectEqual(Set(events.map(\.revision)), Set(revisions), "their revisions")
    },
    ContractClaim("What a watch shows, applied to a list, is what a later list shows") { store in
      for index in 0..<20 { try await store.first.put("/m/\(index)", "start") }
      let start = try await store.first.list(prefix: "/m/")
      let writers = Task {
        for index in 0..<200 {
          let handle = index % 2 == 0 ? store.first : store.second
          if index % 7 == 3 {
            try await handle.commit([.delete("/m/\(index % 31)")])
          } else {
            try await handle.commit([.put("/m/\(index % 31)", octets("\(index)")), .put("/m/\(index % 17 + 100)", octets("\(index)"))])
          }
        }
        try await store.first.put("/m/end", "")
      }
      let events = try await store.second.collect(prefixes: ["/m/"], after: start.revision) { $0.last?.key == "/m/end" }
      try await writers.value
      var model = Dictionary(uniqueKeysWithValues: start.items.map { ($0.key, $0) })
      for event in events {
        switch event {
        case .put(let item): model[item.key] = item
        case .delete(let key, _):
          try expect(model[key] != nil, "a delete of \(key), which was not there")
          model[key] = nil
        }
      }
      let present = try await store.first.list(prefix: "/m/").items
      try expectEqual(Set(model.values), Set(present), "the model")
    },
    ContractClaim("Under concurrent writers no event is lost, doubled or out of order, for any of several watchers") { store in
      let start = try await store.first.list(prefix: "").revision
      let (writers, rounds) = (8, 40)
      let watchers = (0..<4).map { index in
        let handle = index % 2 == 0 ? store.first : store.second
        return Task {
          try await handle.collect(prefixes: ["/c/"], after: start) { $0.count >= 2 * writers * rounds }
        }
      }
      let committed = try await withThrowingTaskGroup(of: [Revision].self) { group in
        for writer in 0..<writers {
          let handle = writer % 2 == 0 ? store.first : store.second
          group.addTask {
            var revisions: [Revision] = []
            for round in 0..<rounds {
              revisions.append(
                try await handle.commit([.put("/c/\(writer)/a", octets("\(round)")), .put("/c/\(writer)/b", octets("\(round)"))]))
            }
            return revisions
          }
        }
        return try await group.reduce(into: [Revision]()) { $0 += $1 }
      }
      try expectEqual(Set(committed).count, writers * rounds, "each transaction has a revision of its own")
      for watcher in watchers {
        let events = try await watcher.value
        try expectEqual(events.count, 2 * writers * rounds, "the events")
        try expectEqual(Set(events.map(\.revision)), Set(committed), "the revisions")
        for writer in 0..<writers {
          for side in ["a", "b"] {
            let values = events.compactMap { event -> String? in
              guard case .put(let item) = event, item.key == "/c/\(writer)/\(side)" else { return nil }
              return String(decoding: item.value, as: UTF8.self)
            }
            try expectEqual(values, (0..<rounds).map { "\($0)" }, "the history of writer \(writer)")
          }
        }
      }
    },
    ContractClaim("A watch from before the compaction ends with that error; one from after it goes on") { store in
      let old = try await store.first.put("/k/a", "1")
      let middle = try await store.first.put("/k/a", "2")
      let new = try await store.first.put("/k/a", "3")
      try await store.compact(middle)
      try await expectError(.compacted, "a watch after \(old), compacted at \(middle)") {
        _ = try await store.second.collect(prefixes: ["/k/"], after: old) { !$0.isEmpty }
      }
      let events = try await store.second.collect(prefixes: ["/k/"], after: middle) { !$0.isEmpty }
      try expectEqual(events.map(\.revision), [new], "the events after the compaction")
      try expectEqual(try await store.first.get("/k/a")?.value, octets("3"), "the present value")
    },
    ContractClaim("A cancelled watcher ends at once, and the others go on") { store in
      let start = try await store.first.list(prefix: "").revision
      let cancelled = Task {
        for try await _ in store.second.watch(prefixes: ["/n/"], after: start) {}
      }
      let other = Task { try await store.second.collect(prefixes: ["/n/"], after: start) { !$0.isEmpty } }
      cancelled.cancel()
      try await withDeadline(seconds: 10, "the end of a cancelled watch") { _ = await cancelled.result }
      try await store.first.put("/n/a", "1")
      try expectEqual(try await other.value.count, 1, "events of the other watcher")
    },
    ContractClaim("Closing a store ends its watches with an error") { store in
      let start = try await store.first.put("/n/a", "1")
      let watching = Task {
        for try await _ in store.second.watch(prefixes: ["/n/"], after: start) {}
      }
      await store.second.close()
      let outcome = try await withDeadline(seconds: 10, "the end of a watch on a closed store") { await watching.result }
      guard case .failure(let error) = outcome, error is DatastoreError else { throw ContractBroken("it ended with \(outcome)") }
    },
  ]
}
