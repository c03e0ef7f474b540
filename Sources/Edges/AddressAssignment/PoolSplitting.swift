/// A pool becomes several, in one transaction: at no moment is an address in no pool or in two. Blocks and what is held in them stay as they
/// are: a block lies in one of the parts.
public import AddressPlans
import Addresses
public import Datastore
import JSON
import Names
import Resources

public enum PoolSplitting {
  /// Returns the names and networks of the new pools. Names: `split-<name>-<number>`, as Calico calls them.
  public static func split(
    _ name: String, into count: Int, _ datastore: any Datastore
  ) async throws(AddressBookError) -> [PoolChoice.Pool] {
    let store = ResourceStore(datastore)
    do {
      let key = ResourceKey(.ipPool, name: name)
      guard let stored = try await store.get(key), case .ipPool(let spec) = stored.resource.spec else {
        throw AddressBookError.refused("\(key) does not exist")
      }
      let parts = try PoolSplit.parts(of: spec, count: count)
      var pools: [PoolChoice.Pool] = []
      var comparisons: [Comparison] = [.modRevision(key.path, equals: stored.revision)]
      var operations: [DatastoreOperation] = [.delete(key.path)]
      for (number, cidr) in parts.enumerated() {
        let part = ResourceKey(.ipPool, name: "split-\(name)-\(number)")
        // The stored document with another name and network: what of it is not understood comes along.
        var document = stored.document
        document["metadata"]?["name"] = .string(part.name)
        document["metadata"]?["uid"] = .string(randomUUID())
        document["metadata"]?["creationTimestamp"] = .string(UTCTime.now().text)
        document["metadata"]?["resourceVersion"] = nil
        document["spec"]?["cidr"] = .string(cidr.description)
        comparisons.append(.absent(part.path))
        operations.append(.put(part.path, document.bytes))
        var new = spec
        new.cidr = cidr
        pools.append(PoolChoice.Pool(name: part.name, spec: new))
      }
      guard case .conflict(let present) = try await datastore.transact(if: comparisons, then: operations) else { return pools }
      if let index = present.dropFirst().firstIndex(where: { $0 != nil }) {
        throw AddressBookError.refused("IPPool \(pools[index - 1].name) exists already; nothing was changed")
      }
      throw AddressBookError.refused("\(key) was changed meanwhile; nothing was changed, try again")
    } catch let error as AddressBookError {
      throw error
    } catch let error as PoolSplit.Refusal {
      throw .refused("IPPool \(name): \(error)")
    } catch let error as ResourceStoreError {
      throw AddressBookError(error)
    } catch let error as DatastoreError {
      throw .datastore(error)
    } catch {
      throw .store("\(error)")
    }
  }
}
