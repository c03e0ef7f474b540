/// The pools that a cluster has from its first node on, where somebody asks for them by Calico's variables (`CALICO_IPV4POOL_CIDR`, …).
///
/// Unlike calico-node we make none unasked: workloads would get addresses that nobody chose, on hosts that may have pools to come.
public import Addresses
import Datastore
import Resources
import Sockets

public struct DefaultPools: Hashable, Sendable {
  public struct Wish: Hashable, Sendable {
    /// Nil: chosen.
    public var cidr: IPPrefix?
    public var blockSize: UInt8?
    public var ipipMode = IPPoolSpec.Encapsulation.never
    public var vxlanMode = IPPoolSpec.Encapsulation.never
    public var natOutgoing: Bool
    public var nodeSelector = "all()"
    public var disableBGPExport = false
    public init(_ family: IPFamily) { natOutgoing = family == .v4 }
  }
  public var wishes: [IPFamily: Wish]
  public init(_ wishes: [IPFamily: Wish]) { self.wishes = wishes }

  static func name(_ family: IPFamily) -> String { family == .v4 ? "default-ipv4-ippool" : "default-ipv6-ippool" }

  /// The networks to choose from, in this order: the first that no interface of the host is in.
  static let candidates = [IPPrefix("192.168.0.0/16")!] + (16...31).map { IPPrefix("172.\($0).0.0/16")! }

  /// `random`: 40 bits for a unique local prefix (RFC 4193, section 3.2.2).
  static func choose(_ family: IPFamily, interfaces: [HostInterface], random: [UInt8]) -> IPPrefix? {
    switch family {
    case .v4:
      let taken = interfaces.flatMap(\.addresses).filter { $0.address.family == .v4 }.map { IPPrefix($0.address, length: $0.length) }
      return candidates.first { candidate in !taken.contains { $0.overlaps(candidate) } }
    case .v6:
      let global = random.prefix(5).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      return IPPrefix(.v6(IPv6Address(high: 0xfd << 56 | global << 16, low: 0)), length: 48)
    }
  }

  func pool(_ family: IPFamily, _ wish: Wish, interfaces: [HostInterface], random: [UInt8]) throws -> Resource {
    guard let cidr = wish.cidr ?? Self.choose(family, interfaces: interfaces, random: random) else {
      throw NodeStartup.Problem(
        description: "no default IPv4 pool: this host's interfaces are in 192.168.0.0/16 and in all of 172.16.0.0/12; say CALICO_IPV4POOL_CIDR")
    }
    var spec = IPPoolSpec(cidr: cidr, blockSize: wish.blockSize)
    (spec.ipipMode, spec.vxlanMode, spec.natOutgoing) = (wish.ipipMode, wish.vxlanMode, wish.natOutgoing)
    (spec.nodeSelector, spec.disableBGPExport) = (wish.nodeSelector, wish.disableBGPExport)
    return Resource(Metadata(name: Self.name(family)), .ipPool(spec))
  }

  /// Of a family of which the cluster has no pool. Of many nodes that start at once, the first one's stands.
  func create(_ store: ResourceStore, interfaces: [HostInterface]) async throws {
    var present: Set<IPFamily> = []
    for item in try await store.list(.ipPool).items {
      if case .ipPool(let spec) = item.resource.spec { present.insert(spec.cidr.family) }
    }
    for (family, wish) in wishes.sorted(by: { $0.key == .v4 && $1.key == .v6 }) where !present.contains(family) {
      let pool = try pool(family, wish, interfaces: interfaces, random: Files.random(5))
      try await createIfMissing(pool, store)
    }
  }

  private func createIfMissing(_ pool: Resource, _ store: ResourceStore) async throws(ResourceStoreError) {
    do throws(ResourceStoreError) {
      _ = try await store.create(pool)
    } catch {
      if case .alreadyExists = error { return }
      throw error
    }
  }
}
