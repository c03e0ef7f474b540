/// Objects over keys: what many writers do to one object, and what two of them may not do at once.
import Addresses
import Datastore
import JSON
import Resources

private func refused(_ body: () async throws -> Void) async throws -> Bool {
  do {
    try await body()
    return false
  } catch ResourceStoreError.refused {
    return true
  }
}

/// Whether what may lose a race did not: a refusal or a missing object is an answer, everything else an error.
private func wins(_ body: @Sendable () async throws -> Void) async throws -> Bool {
  do {
    try await body()
    return true
  } catch ResourceStoreError.refused {
    return false
  }
}

extension DatastoreContract {
  static let objectClaims: [ContractClaim] = [
    ContractClaim("Twenty writers that read, change and write one object lose nothing") { under in
      let stores = [ResourceStore(under.first), ResourceStore(under.second)]
      let key = try await stores[0].create(Resource(Metadata(name: "shared"), .globalNetworkSet(NetworkSetSpec()))).resource.key
      let (writers, rounds) = (20, 5)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for writer in 0..<writers {
          group.addTask {
            for round in 0..<rounds {
              try await stores[writer % 2].modify(key) { resource in
                resource.metadata.annotations["sum"] = "\((Int(resource.metadata.annotations["sum"] ?? "") ?? 0) + 1)"
                resource.metadata.labels["writer-\(writer)-\(round)"] = "was-here"
              }
            }
          }
        }
        try await group.waitForAll()
      }
      let metadata = try await stores[1].get(key)?.resource.metadata
      try expectEqual(metadata?.annotations["sum"], "\(writers * rounds)", "the sum")
      try expectEqual(metadata?.labels.count, writers * rounds, "the labels")
    },
    ContractClaim("A change based on an older revision is a conflict that names both") { under in
      let (first, second) = (ResourceStore(under.first), ResourceStore(under.second))
      let read = try await first.create(Resource(Metadata(name: "a"), .globalNetworkSet(NetworkSetSpec())))
      var other = read.resource
      other.metadata.labels = ["a": "b"]
      let present = try await second.update(other).revision
      var late = read.resource
      late.metadata.labels = ["c": "d"]
      for write in [
        { try await first.update(late) as Any }, { try await first.apply(late) as Any },
        { try await first.delete(late.key, revision: read.revision) as Any },
      ] {
        do {
          _ = try await write()
          throw ContractBroken("a change of revision \(read.revision) was written over \(present)")
        } catch let error as ResourceStoreError {
          guard case .conflict(late.key, base: "\(read.revision)", present: present) = error else {
            throw ContractBroken("\(error) instead of a conflict of \(read.revision) and \(present)")
          }
        }
      }
    },
    ContractClaim("Of pools that overlap and are made at the same time, one comes into being") { under in
      let stores = [ResourceStore(under.first), ResourceStore(under.second)]
      for round in 0..<5 {
        let made = try await withThrowingTaskGroup(of: Bool.self) { group in
          for index in 0..<4 {
            group.addTask {
              let spec = IPPoolSpec(cidr: IPPrefix("10.\(round).0.0/\(16 + index)")!)
              return try await wins { try await stores[index % 2].create(Resource(Metadata(name: "p\(round)-\(index)"), .ipPool(spec))) }
            }
          }
          return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        try expectEqual(made, 1, "pools made in round \(round)")
      }
    },
    ContractClaim("A tier is not deleted under a policy that is made at the same time") { under in
      let (first, second) = (ResourceStore(under.first), ResourceStore(under.second))
      for round in 0..<10 {
        let tier = try await first.create(Resource(Metadata(name: "t\(round)"), .tier(TierSpec(order: 1)))).resource.key
        var spec = PolicySpec()
        spec.tier = tier.name
        let policy = Resource(Metadata(name: "p\(round)"), round % 2 == 0 ? .globalNetworkPolicy(spec) : .stagedGlobalNetworkPolicy(.init(spec)))
        async let isMade = wins { try await first.create(policy) }
        async let isDeleted = wins { try await second.delete(tier) }
        let (made, deleted) = try await (isMade, isDeleted)
        try expect(made != deleted, "round \(round): policy made \(made), tier deleted \(deleted)")
        try expectEqual(try await first.get(tier) == nil, try await second.get(policy.key) == nil, "whether tier and policy are gone")
      }
    },
    ContractClaim("The configuration of address assignment is a view of Calico's record, which keeps what neither knows") { under in
      let (first, second) = (ResourceStore(under.first), ResourceStore(under.second))
      let key = ResourceKey(.ipamConfiguration, name: "default")
      try expect(try await first.get(key) == nil, "a configuration that nobody wrote")
      try await under.first.put(key.path, #"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4,"future":{"a":1}}"#)
      guard case .ipamConfiguration(var spec)? = try await second.get(key)?.resource.spec else { throw ContractBroken("no configuration") }
      try expect(spec.strictAffinity && spec.autoAllocateBlocks && spec.maxBlocksPerHost == 4, "\(spec)")
      spec.maxBlocksPerHost = 5
      spec.ipCooldownSeconds = 30
      try await second.update(Resource(Metadata(name: "default", labels: ["a": "b"]), .ipamConfiguration(spec)))
      let record = try JSONValue(parsing: try await under.first.get(key.path)?.value ?? [])
      let wanted: JSONValue = [
        "strict_affinity": true, "auto_allocate_blocks": true, "maxBlocksPerHost": 5, "future": ["a": 1], "ipCooldownSeconds": 30,
        "metadata": ["labels": ["a": "b"]],
      ]
      try expectEqual(record, wanted, "the record")
      try expectEqual(try await first.list(.ipamConfiguration).items.map(\.resource.metadata.labels), [["a": "b"]], "the list")
      try await first.delete(key)
      try expect(try await under.second.get(key.path) == nil, "the record after the deletion")
    },
  ]
}
