/// Gives this node's ends of tunnels their addresses, and takes them back: from the pools into the Node object, where everybody reads them.
///
/// Felix does this itself, since it alone knows at any time which tunnels the pools and settings ask for: nothing has to be restarted when a
/// pool gets its encapsulation. The Node is written by compare-and-swap, and the address stands in its block before the Node names it, so
/// that a crash in between leaves an address that the next start finds by its handle.
import AddressAssignment
import Addresses
import Datastore
import HostPlans
import Logging
import Resources
import Synchronization

final class TunnelAddressKeeper: Sendable {
  private let store: ResourceStore
  private let book: AddressBook
  private let log: Logger
  private let demands = Mutex<[TunnelKind: TunnelDemand]>([:])
  private let failure = Mutex<String?>(nil)
  private let calls: AsyncStream<Void>
  private let call: AsyncStream<Void>.Continuation

  init(_ datastore: any Datastore, _ book: AddressBook, log: Logger) {
    store = ResourceStore(datastore)
    self.book = book
    self.log = log
    (calls, call) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  /// What is wrong now, in words.
  var problem: String? { failure.withLock { $0 } }

  /// All that are needed; what is not named is given back.
  func want(_ demands: [TunnelKind: TunnelDemand]) {
    self.demands.withLock { $0 = demands }
    call.yield()
  }

  /// Until the task is cancelled.
  func run() async {
    var pace = Backoff(first: .milliseconds(200), max: .seconds(30), chance: { .random(in: 0...1) })
    for await _ in calls {
      while !Task.isCancelled {
        do {
          let demands = demands.withLock { $0 }
          for kind in TunnelKind.allCases { try await settle(kind, demands[kind]) }
          failure.withLock { $0 = nil }
          pace.reset()
          break
        } catch {
          let text = "\(error)"
          if problem != text { log.error("\(text)") }
          failure.withLock { $0 = text }
          try? await Task.sleep(for: pace.next())
        }
      }
    }
  }

  struct Shortage: Error, CustomStringConvertible { let description: String }

  private func settle(_ kind: TunnelKind, _ demand: TunnelDemand?) async throws {
    let key = ResourceKey(.node, name: book.node)
    // The Node's absence is for others to mend: who deletes it releases what it had.
    guard let stored = try await store.get(key), case .node(let node) = stored.resource.spec else { return }
    let handle = kind.handle(node: book.node)
    let held = try await book.addresses(heldBy: handle)
    guard let demand else {
      if node[tunnel: kind] != nil { try await write(nil, kind, stored.resource) }
      if !held.isEmpty { try await book.release(handle: handle) }
      return
    }
    func isUsable(_ address: IPAddress) -> Bool { demand.networks.contains { $0.contains(address) } }
    if let address = node[tunnel: kind], held.contains(address), isUsable(address) { return }
    if let address = held.first(where: isUsable) { return try await write(address, kind, stored.resource) }
    guard !demand.pools.isEmpty else {
      throw Shortage(
        description: "\(kind.word): no pool to take the tunnel's address from; give an enabled pool with this encapsulation the use Tunnel")
    }
    // An address of a pool that has gone.
    if !held.isEmpty { try await book.release(handle: handle) }
    do {
      try await write(try await book.tunnelAddress(kind, pools: demand.pools), kind, stored.resource)
    } catch let error as AddressBookError {
      throw Shortage(description: "\(kind.word): the tunnel has no address: \(error)")
    }
  }

  private func write(_ address: IPAddress?, _ kind: TunnelKind, _ resource: Resource) async throws {
    var resource = resource
    guard case .node(var node) = resource.spec else { return }
    node[tunnel: kind] = address
    resource.spec = .node(node)
    // Refused if somebody else has changed the Node since it was read: then all is looked at again.
    _ = try await store.apply(resource)
    log.info("\(kind.word): this host's end has \(address.map(\.description) ?? "no address any more")")
  }
}
