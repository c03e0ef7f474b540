/// Limits the bandwidth of workloads that ask for it, by token buckets of the kernel's traffic control.
///
/// What a workload receives leaves the host through the host's end of its cable: a bucket there. What it sends arrives there, where nothing
/// can queue: it takes a detour over a device of its own (ifb, one per workload that asks), whose bucket holds it back, and returns as if
/// it arrived now, so that rules see the interface that it came from.
///
/// Hazards and the answers:
/// - An interface with limits may be another one by now (same name, new index): everything is compared anew.
/// - Others set queues as well (the bandwidth plugin, an administrator). Ours are known: the bucket by its handle, the detour by the device's
///   name. What is not ours goes only where a limit of ours must stand; without a limit nothing is touched and nothing is read.
/// - A cable that goes leaves its device behind: devices of ours that nobody wants are deleted, also those of an agent that died.
/// - A bucket smaller than one packet lets nothing pass: it holds at least a packet of the interface's size.
/// - While a limit is being set, traffic goes on without it; a limit that cannot be set is told, and the traffic stays.

import Names
public import NetlinkEdge
public import NetlinkMessages

/// What one workload may send and receive; nil does not limit.
public struct TrafficLimits: Hashable, Sendable {
  public var toWorkload: TokenBucket?
  public var fromWorkload: TokenBucket?
  public init(toWorkload: TokenBucket? = nil, fromWorkload: TokenBucket? = nil) {
    (self.toWorkload, self.fromWorkload) = (toWorkload, fromWorkload)
  }
}

public final class TrafficDriver {
  public struct Report: Equatable, Sendable {
    public var changed = 0
    /// By interface: a limit that does not stand, and why.
    public var problems: [String] = []
    public init() {}
  }

  private let kernel: any TrafficKernel
  private var wanted: [String: TrafficLimits] = [:]
  /// Interfaces as they were when their limits were set.
  private var settled: [String: UInt32] = [:]
  private var isDirty = true

  static let devicePrefix = "mqos-"
  /// "Mg": nobody chooses it by chance.
  static let handle: UInt32 = 0x4d67_0000

  public init(_ kernel: any TrafficKernel) { self.kernel = kernel }

  /// Nil: no limits.
  public func want(_ limits: TrafficLimits?, for interface: String) {
    guard wanted[interface] != limits else { return }
    wanted[interface] = limits
    settled[interface] = nil
    isDirty = true
  }

  public func handle(_ event: RouteNetlinkEvent) {
    switch event {
    case .link(let link):
      if wanted[link.name] != nil, settled[link.name] != link.index { isDirty = true }
      if link.name.hasPrefix(Self.devicePrefix), !link.isUp { isDirty = true }
    case .linkRemoved(let link):
      guard settled[link.name] == link.index || link.name.hasPrefix(Self.devicePrefix) else { return }
      settled[link.name] = nil
      isDirty = true
    default: break
    }
  }

  /// Everything is compared anew with the next `apply`.
  public func resync() { isDirty = true }

  /// The device over which packets from the interface take their detour.
  static func device(for interface: String) -> String { devicePrefix + Base64.urlText(SHA256.digest(of: interface.utf8)).prefix(10) }

  public func apply() throws(NetlinkError) -> Report {
    var report = Report()
    guard isDirty else { return report }
    let links = try kernel.links()
    let queues = Dictionary(grouping: try kernel.queues(), by: \.interface)
    let byName = Dictionary(links.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    func change(_ change: TrafficChange) throws(NetlinkError) {
      try kernel.apply(change)
      report.changed += 1
    }
    var devices: Set<String> = []
    for (name, limits) in wanted.sorted(by: { $0.key < $1.key }) {
      guard let link = byName[name] else { continue }
      if limits.fromWorkload != nil { devices.insert(Self.device(for: name)) }
      do throws(NetlinkError) {
        try settle(link, limits, queues[link.index] ?? [], byName[Self.device(for: name)], queues, change)
        settled[name] = link.index
      } catch {
        if error.isNotFound { continue }
        report.problems.append("interface \(name): \(error)")
      }
    }
    // What nobody wants any more.
    for link in links where wanted[link.name] == nil {
      if (queues[link.index] ?? []).contains(where: { $0.parent == Queue.root && $0.handle == Self.handle && $0.kind == "tbf" }),
        !link.name.hasPrefix(Self.devicePrefix)
      {
        try change(.deleteBucket(interface: link.index, handle: Self.handle))
      }
      if let device = byName[Self.device(for: link.name)], (queues[link.index] ?? []).contains(where: { $0.parent == Queue.ingress }),
        try kernel.detours(from: link.index).contains(device.index)
      {
        try change(.deleteIngress(interface: link.index))
      }
    }
    for link in links where link.name.hasPrefix(Self.devicePrefix) && link.kind == "ifb" && !devices.contains(link.name) {
      try change(.deleteDevice(interface: link.index))
    }
    isDirty = !report.problems.isEmpty
    return report
  }

  private func settle(
    _ link: Link, _ limits: TrafficLimits, _ queues: [Queue], _ device: Link?, _ allQueues: [UInt32: [Queue]],
    _ change: (TrafficChange) throws(NetlinkError) -> Void
  ) throws(NetlinkError) {
    try bucket(limits.toWorkload, of: link.index, queues, mtu: link.mtu, change)
    let ingress = queues.first { $0.parent == Queue.ingress }
    let isLed = if ingress != nil, let device { try kernel.detours(from: link.index) == [device.index] } else { false }
    guard let limit = limits.fromWorkload else {
      // The device goes with those that nobody wants.
      if isLed { try change(.deleteIngress(interface: link.index)) }
      return
    }
    var device = device
    if device == nil || device!.kind != "ifb" || !device!.isUp {
      if let wrong = device { try change(.deleteDevice(interface: wrong.index)) }
      try change(.addDevice(name: Self.device(for: link.name)))
      device = try kernel.links().first { $0.name == Self.device(for: link.name) }
    }
    guard let device else { throw NetlinkError(code: 0, what: "the queue device of \(link.name) vanished") }
    try bucket(limit, of: device.index, allQueues[device.index] ?? [], mtu: link.mtu, change)
    if ingress != nil, try kernel.detours(from: link.index) == [device.index] { return }
    if ingress != nil { try change(.deleteIngress(interface: link.index)) }
    try change(.addIngress(interface: link.index))
    try change(.addDetour(from: link.index, to: device.index))
  }

  private func bucket(
    _ limit: TokenBucket?, of interface: UInt32, _ queues: [Queue], mtu: UInt32, _ change: (TrafficChange) throws(NetlinkError) -> Void
  ) throws(NetlinkError) {
    let root = queues.first { $0.parent == Queue.root }
    let isOurs = root?.handle == Self.handle && root?.kind == "tbf"
    guard let limit = limit?.holding(packet: mtu + 18) else {
      if isOurs { try change(.deleteBucket(interface: interface, handle: Self.handle)) }
      return
    }
    if isOurs, let standing = root?.bucket, limit.equals(standing) { return }
    try change(.setBucket(interface: interface, handle: Self.handle, limit))
  }
}

extension TokenBucket {
  /// With room for a packet and its header.
  func holding(packet octets: UInt32) -> TokenBucket {
    var bucket = self
    bucket.burst = max(burst, octets)
    bucket.limit = max(limit, octets)
    if peakRate != nil { bucket.peakBurst = max(peakBurst, octets) }
    return bucket
  }
}
