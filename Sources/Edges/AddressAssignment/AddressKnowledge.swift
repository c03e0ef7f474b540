/// What assignment has to know beside blocks: pools, the node's labels, the namespace's, the configuration, reservations.
import AddressPlans
public import Addresses
import Datastore
import JSON
import Names
import Resources

extension AddressBook {
  func pools() async throws(AddressBookError) -> [PoolChoice.Pool] {
    do throws(ResourceStoreError) {
      return try await ResourceStore(datastore).list(.ipPool).items.compactMap { PoolChoice.Pool(stored: $0) }
    } catch {
      throw AddressBookError(error)
    }
  }
  /// Nil for an owner that is no node.
  func nodeLabels() async throws(AddressBookError) -> [String: String]? {
    guard owner.isHost else { return nil }
    do throws(ResourceStoreError) {
      return try await ResourceStore(datastore).get(ResourceKey(.node, name: owner.name))?.resource.metadata.labels ?? [:]
    } catch {
      throw AddressBookError(error)
    }
  }
  /// The profile of the namespace tells its labels, each with `pcns.` before it.
  func labels(ofNamespace name: String) async throws(AddressBookError) -> [String: String] {
    var labels = ["projectcalico.org/name": name]
    guard let item = try await get(ResourceKey(.profile, name: "kns.\(name)").path) else { return labels }
    for member in (try? JSONValue(parsing: item.value))?["spec"]?["labelsToApply"]?.object?.members ?? [] {
      labels[member.name.hasPrefix("pcns.") ? String(member.name.dropFirst(5)) : member.name] = member.value.string
    }
    return labels
  }
  public func configuration() async throws(AddressBookError) -> AddressConfiguration {
    if let known = desk?.configuration { return known }
    guard let item = try await get(AddressKeys.configuration) else { return AddressConfiguration() }
    guard let document = try? JSONValue(parsing: item.value) else {
      throw .store("\(item.key) cannot be read; correct or delete it")
    }
    return AddressConfiguration(parsing: document)
  }
  /// Changes the configuration; what of it is not understood stays. Throws what `change` throws, and the reason if the result is none.
  public func configure(_ change: (inout AddressConfiguration) -> Void) async throws(AddressBookError) -> AddressConfiguration {
    for _ in 0..<Self.attempts {
      let item = try await get(AddressKeys.configuration)
      let document = item.flatMap { try? JSONValue(parsing: $0.value) }
      var configuration = document.map { AddressConfiguration(parsing: $0) } ?? AddressConfiguration()
      change(&configuration)
      if let fault = configuration.fault { throw .refused(fault) }
      if let document, configuration.json() == document { return configuration }
      let comparison = item.map { Comparison.modRevision($0.key, equals: $0.modRevision) } ?? .absent(AddressKeys.configuration)
      do throws(DatastoreError) {
        let put = DatastoreOperation.put(AddressKeys.configuration, configuration.json().bytes)
        if case .committed = try await datastore.transact(if: [comparison], then: [put]) { return configuration }
      } catch {
        throw .datastore(error)
      }
    }
    throw .contention(AddressKeys.configuration)
  }
  /// What IPReservations keep out of automatic assignment. One that cannot be read reserves what of it can be.
  public func reserved() async throws(AddressBookError) -> [IPPrefix] {
    try await list(AddressKeys.reservations).flatMap { item in (try? JSONValue(parsing: item.value)).map(Self.reserved) ?? [] }
  }
  static func reserved(_ document: JSONValue) -> [IPPrefix] {
    (document["spec"]?["reservedCIDRs"]?.array ?? []).compactMap { $0.string.flatMap { IPPrefix($0) } }
  }

  func pool(of address: IPAddress) async throws(AddressBookError) -> IPPoolSpec? {
    let pools: [PoolChoice.Pool]
    if let known = desk?.pools { pools = known } else { pools = try await self.pools() }
    return pools.first { $0.spec.cidr.contains(address) }?.spec
  }
  /// The block that holds the address: of its pool's size, or (the pool is gone, or had another size) whichever covers it.
  func blockCIDR(of address: IPAddress) async throws(AddressBookError) -> IPPrefix? {
    if let pool = try await pool(of: address), PoolChoice.sizeFault(pool) == nil {
      let cidr = IPPrefix(address, length: pool.blockSize)
      if desk?.block(cidr) != nil { return cidr }
      if try await get(AddressKeys.block(cidr)) != nil { return cidr }
    }
    return try await list(AddressKeys.blocks(address.family)).lazy.compactMap { AddressKeys.cidr(ofKey: $0.key) }
      .first { $0.contains(address) }
  }
}

extension PoolChoice.Pool {
  init?(stored: StoredResource) {
    self.init(stored.resource)
    isDeleting = stored.document["metadata"]?["deletionTimestamp"]?.string != nil
  }
}
