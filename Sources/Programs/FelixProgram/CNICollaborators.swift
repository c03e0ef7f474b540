/// The CNI server's view of datastore and IPAM, over the real ones.
///
/// What the datastore itself says comes out as `DatastoreError`, whatever layer it passed: the server tells the runtime to try again
/// later when the store is away, and that it failed when the store refused.
import AddressAssignment
import Addresses
import CNIServer
import Datastore
import Resources

/// Takes the layers of the typed client and of address assignment off an error of the datastore.
private func unwrapping<Value>(_ body: () async throws -> Value) async throws -> Value {
  do {
    return try await body()
  } catch ResourceStoreError.datastore(let error) {
    throw error
  } catch AddressBookError.datastore(let error) {
    throw error
  }
}

struct StoredEndpoints: EndpointRecords {
  let store: ResourceStore

  func isReady() async throws -> Bool {
    let stored = try await unwrapping { try await store.get(ResourceKey(.clusterInformation, name: "default")) }
    guard case .clusterInformation(let information) = stored?.resource.spec else { return false }
    return information.datastoreReady ?? false
  }
  func endpoint(_ key: ResourceKey) async throws -> Resource? { try await unwrapping { try await store.get(key)?.resource } }
  func put(_ endpoint: Resource) async throws -> Resource {
    var endpoint = endpoint
    endpoint.metadata.resourceVersion = nil
    return try await unwrapping { [endpoint] in try await store.apply(endpoint).stored.resource }
  }
  func delete(_ key: ResourceKey, if condition: @Sendable (Resource) -> Bool) async throws {
    try await unwrapping {
      while let stored = try await store.get(key), condition(stored.resource) {
        do throws(ResourceStoreError) {
          return try await store.delete(key, revision: stored.revision)
        } catch .conflict {
          continue
        } catch .doesNotExist {
          return
        }
      }
    }
  }
  func ensureProfile(_ profile: Resource) async throws {
    try await unwrapping {
      guard try await store.get(profile.key) == nil else { return }
      do throws(ResourceStoreError) { try await store.create(profile) } catch .alreadyExists { return }
    }
  }
}

struct BookedAddresses: AddressSource {
  let datastore: any Datastore
  /// What is at hand for assignments of this node; another node's are looked up.
  var desk: AddressDesk?

  private func book(_ node: String? = nil) -> AddressBook {
    if let desk, node == nil || node == desk.book.node { return desk.book }
    return AddressBook(datastore: datastore, node: node ?? "")
  }

  func assign(_ request: AddressRequest) async throws -> [IPAddress] { try await unwrapping { try await assignAll(request) } }

  private func assignAll(_ request: AddressRequest) async throws -> [IPAddress] {
    let book = book(request.node)
    guard !request.exact.isEmpty else {
      let terms = request.families.map { ($0, AssignmentTerms(pools: request.pools[$0] ?? [])) }
      return try await book.assign(Dictionary(terms) { $1 }, handle: request.handle, attributes: request.attributes)
    }
    var assigned: [IPAddress] = []
    do {
      for address in request.exact {
        try await book.assign(address, handle: request.handle, attributes: request.attributes)
        assigned.append(address)
      }
    } catch {
      // All or none. The handle is this attachment's own, so whatever it holds was taken just now.
      if !assigned.isEmpty { try await book.release(handle: request.handle) }
      throw error
    }
    return assigned
  }
  func blockLength(of address: IPAddress) async throws -> UInt8 {
    try await unwrapping { try await book().blockLength(of: address) }
  }
  func addresses(heldBy handle: String) async throws -> [IPAddress] { try await holding(of: handle).held }
  func addresses(sharedBy handle: String) async throws -> [IPAddress] { try await holding(of: handle).shared }
  func holding(of handle: String) async throws -> (held: [IPAddress], shared: [IPAddress]) {
    let holding = try await unwrapping { try await book().holding(of: handle) }
    return (holding.addresses, holding.shared)
  }
  func release(handle: String) async throws { try await unwrapping { _ = try await book().release(handle: handle) } }
}
