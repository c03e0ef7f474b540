/// The traffic control of one namespace, and a fake that refuses what the kernel refuses.

import Glibc
public import NetlinkEdge
public import NetlinkMessages
import Octets

public protocol TrafficKernel: AnyObject {
  func links() throws(NetlinkError) -> [Link]
  func queues() throws(NetlinkError) -> [Queue]
  /// Where the filters behind the interface's ingress lead.
  func detours(from interface: UInt32) throws(NetlinkError) -> [UInt32]
  /// Removing what is not there is success.
  func apply(_ change: TrafficChange) throws(NetlinkError)
}

public final class NetlinkTraffic: TrafficKernel {
  private let netlink: RouteNetlink
  public init(_ netlink: RouteNetlink) { self.netlink = netlink }

  public func links() throws(NetlinkError) -> [Link] { try netlink.links() }
  public func queues() throws(NetlinkError) -> [Queue] {
    try netlink.socket.dump(type: TrafficMessageType.getQueue, what: "read queues", body: { Queue.query(&$0) }) {
      header, body throws(WireError) in try Queue.decode(&body)
    }
  }
  public func detours(from interface: UInt32) throws(NetlinkError) -> [UInt32] {
    try netlink.socket.dump(
      type: TrafficMessageType.getFilter, what: "read filters of interface \(interface)",
      body: { TrafficDetour.query(interface: interface, &$0) }
    ) { header, body throws(WireError) in try TrafficDetour.decode(&body) }
  }
  public func apply(_ change: TrafficChange) throws(NetlinkError) {
    var batch = NetlinkBatch()
    change.encode(into: &batch)
    guard let error = try netlink.socket.request(&batch, what: change.description)[0] else { return }
    // EINVAL: no such queue at that place.
    if change.isDeletion, error.isNotFound || error.code == EINVAL { return }
    throw error
  }
}

public final class FakeTraffic: TrafficKernel {
  public var state: [Link]
  public private(set) var standing: [Queue] = []
  public private(set) var filters: [UInt32: [UInt32]] = [:]
  public private(set) var changes: [TrafficChange] = []
  /// Errors to give to the next changes, first to last.
  public var refusals: [NetlinkError] = []

  public init(links: [Link] = []) { state = links }

  public func links() -> [Link] { state }
  public func queues() -> [Queue] { standing }
  public func detours(from interface: UInt32) -> [UInt32] { filters[interface] ?? [] }

  /// The link goes, and takes along what hangs on it.
  public func remove(link index: UInt32) {
    state.removeAll { $0.index == index }
    standing.removeAll { $0.interface == index }
    filters[index] = nil
    // A detour to a device that is gone leads nowhere: the kernel drops what it meets.
    filters = filters.mapValues { $0.filter { $0 != index } }
  }

  public func apply(_ change: TrafficChange) throws(NetlinkError) {
    func fail(_ code: CInt) -> NetlinkError { NetlinkError(code: code, what: change.description) }
    func exists(_ index: UInt32) -> Bool { state.contains { $0.index == index } }
    func place(_ interface: UInt32, _ parent: UInt32) -> Int? { standing.firstIndex { $0.interface == interface && $0.parent == parent } }
    if !refusals.isEmpty { throw refusals.removeFirst() }
    switch change {
    case .addDevice(let name):
      guard name.utf8.count < 16 else { throw fail(EINVAL) }
      guard !state.contains(where: { $0.name == name }) else { throw fail(EEXIST) }
      state.append(Link(index: (state.map(\.index).max() ?? 0) + 1, name: name, kind: "ifb", flags: [.up, .lowerUp]))
    case .deleteDevice(let interface): if exists(interface) { remove(link: interface) }
    case .setBucket(let interface, let handle, let bucket):
      guard exists(interface) else { throw fail(ENODEV) }
      guard bucket.rate > 0, bucket.peakRate.map({ $0 > bucket.rate }) ?? true else { throw fail(EINVAL) }
      var read = Queue.Bucket()
      (read.rate, read.limit, read.peakRate) = (bucket.rate, bucket.limit, bucket.peakRate ?? 0)
      read.burstTime = UInt32(clamping: Int(Double(bucket.burst) * 1e9 / Double(bucket.rate) / 64))
      if let peak = bucket.peakRate { read.peakTime = UInt32(clamping: Int(Double(bucket.peakBurst) * 1e9 / Double(peak) / 64)) }
      standing.removeAll { $0.interface == interface && $0.parent == Queue.root }
      standing.append(Queue(interface: interface, handle: handle, parent: Queue.root, kind: "tbf", bucket: read))
    case .deleteBucket(let interface, let handle):
      if let index = place(interface, Queue.root), standing[index].handle == handle { standing.remove(at: index) }
    case .addIngress(let interface):
      guard exists(interface) else { throw fail(ENODEV) }
      guard place(interface, Queue.ingress) == nil else { throw fail(EEXIST) }
      standing.append(Queue(interface: interface, handle: 0xffff_0000, parent: Queue.ingress, kind: "ingress"))
    case .deleteIngress(let interface):
      if let index = place(interface, Queue.ingress) { standing.remove(at: index) }
      filters[interface] = nil
    case .addDetour(let from, let to):
      guard exists(from), exists(to) else { throw fail(ENODEV) }
      guard place(from, Queue.ingress) != nil else { throw fail(EINVAL) }
      filters[from, default: []].append(to)
    }
    changes.append(change)
  }
}
