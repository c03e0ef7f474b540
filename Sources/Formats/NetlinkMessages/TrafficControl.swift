/// Queues of interfaces and what leads packets into them (rtnetlink's traffic control), as far as limits of bandwidth need them: a token
/// bucket where packets leave, and a detour over another device for what arrives. Numbers are those of `linux/pkt_sched.h`.

public import Octets

public enum TrafficMessageType {
  public static let newQueue: UInt16 = 36, deleteQueue: UInt16 = 37, getQueue: UInt16 = 38
  public static let newFilter: UInt16 = 44, deleteFilter: UInt16 = 45, getFilter: UInt16 = 46
}

/// Octets flow on at a rate, and so many at once after a pause.
public struct TokenBucket: Hashable, Sendable {
  /// Octets per second.
  public var rate: UInt64
  /// Octets. No packet above it ever passes.
  public var burst: UInt32
  /// How fast the burst itself may flow; nil is as fast as it likes. Only above `rate`.
  public var peakRate: UInt64?
  /// Octets at once at the peak rate.
  public var peakBurst: UInt32
  /// Octets that may wait.
  public var limit: UInt32
  public init(rate: UInt64, burst: UInt32, peakRate: UInt64? = nil, peakBurst: UInt32 = 0, limit: UInt32) {
    (self.rate, self.burst, self.peakRate, self.peakBurst, self.limit) = (rate, burst, peakRate, peakBurst, limit)
  }
}

/// A queue as the kernel tells of it.
public struct Queue: Hashable, Sendable {
  /// What it tells of a token bucket: bursts as the time they take at their rate, in units of 64 ns.
  public struct Bucket: Hashable, Sendable {
    public var rate: UInt64 = 0
    public var burstTime: UInt32 = 0
    public var peakRate: UInt64 = 0
    public var peakTime: UInt32 = 0
    public var limit: UInt32 = 0
    public init() {}
  }
  public static let root: UInt32 = 0xffff_ffff
  /// Where packets arrive.
  public static let ingress: UInt32 = 0xffff_fff1
  static let ingressHandle: UInt32 = 0xffff_0000

  public var interface: UInt32
  public var handle: UInt32
  public var parent: UInt32
  /// tbf, ingress, noqueue, …
  public var kind: String
  public var bucket: Bucket?
  public init(interface: UInt32, handle: UInt32, parent: UInt32, kind: String, bucket: Bucket? = nil) {
    (self.interface, self.handle, self.parent, self.kind, self.bucket) = (interface, handle, parent, kind, bucket)
  }

  public static func decode(_ reader: inout OctetReader) throws(WireError) -> Queue? {
    try reader.skip(4)
    var queue = Queue(interface: try reader.hostU32(), handle: try reader.hostU32(), parent: try reader.hostU32(), kind: "")
    try reader.skip(4)
    var bucket = Bucket()
    var isBucket = false
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case TrafficAttribute.kind: queue.kind = try value.text()
      case TrafficAttribute.options where queue.kind == "tbf":
        isBucket = true
        try value.attributes { type, value throws(WireError) in
          switch type {
          case TrafficAttribute.bucketParameters:
            try value.skip(8)
            bucket.rate = max(bucket.rate, UInt64(try value.hostU32()))
            try value.skip(8)
            bucket.peakRate = max(bucket.peakRate, UInt64(try value.hostU32()))
            bucket.limit = try value.hostU32()
            bucket.burstTime = try value.hostU32()
            bucket.peakTime = try value.hostU32()
          case TrafficAttribute.bucketRate64: bucket.rate = try value.hostU64()
          case TrafficAttribute.bucketPeakRate64: bucket.peakRate = try value.hostU64()
          default: break
          }
        }
      default: break
      }
    }
    if isBucket { queue.bucket = bucket }
    return queue
  }
  public static func query(_ writer: inout OctetWriter) { writer.zeros(20) }
}

/// Where the filter behind an interface's ingress sends every packet; nil for any other filter.
public enum TrafficDetour {
  public static func decode(_ reader: inout OctetReader) throws(WireError) -> UInt32? {
    try reader.skip(20)
    var kind = ""
    var target: UInt32?
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case TrafficAttribute.kind: kind = try value.text()
      case TrafficAttribute.options where kind == "u32":
        try value.attributes { type, value throws(WireError) in
          guard type == TrafficAttribute.matchAction else { return }
          try value.attributes { _, action throws(WireError) in
            try action.attributes { type, value throws(WireError) in
              guard type == TrafficAttribute.options else { return }
              try value.attributes { type, value throws(WireError) in
                guard type == TrafficAttribute.mirrorParameters else { return }
                try value.skip(24)
                target = try value.hostU32()
              }
            }
          }
        }
      default: break
      }
    }
    return target
  }
  public static func query(interface: UInt32, _ writer: inout OctetWriter) {
    writer.zeros(4)
    writer.hostU32(interface)
    writer.hostU32(0)
    writer.hostU32(Queue.ingressHandle)
    writer.hostU32(0)
  }
}

enum TrafficAttribute {
  static let kind: UInt16 = 1, options: UInt16 = 2
  static let bucketParameters: UInt16 = 1, bucketRate64: UInt16 = 4, bucketPeakRate64: UInt16 = 5
  static let bucketBurst: UInt16 = 6, bucketPeakBurst: UInt16 = 7
  static let matchSelector: UInt16 = 5, matchAction: UInt16 = 7
  static let mirrorParameters: UInt16 = 2
}

public enum TrafficChange: Hashable, Sendable, CustomStringConvertible {
  /// A device whose only purpose is its queue (ifb); up from the start.
  case addDevice(name: String)
  case deleteDevice(interface: UInt32)
  /// Takes the place of whatever queue the interface has, or changes its bucket in place.
  case setBucket(interface: UInt32, handle: UInt32, TokenBucket)
  case deleteBucket(interface: UInt32, handle: UInt32)
  /// Packets that arrive are looked at by filters from now on.
  case addIngress(interface: UInt32)
  /// Its filters go along.
  case deleteIngress(interface: UInt32)
  /// Everything that arrives goes through the queue of another device, and comes back from there as if it arrived now.
  case addDetour(from: UInt32, to: UInt32)

  public var isDeletion: Bool {
    switch self {
    case .deleteDevice, .deleteBucket, .deleteIngress: true
    default: false
    }
  }
  public var description: String {
    switch self {
    case .addDevice(let name): "make queue device \(name)"
    case .deleteDevice(let interface): "delete queue device \(interface)"
    case .setBucket(let interface, _, let bucket): "limit what interface \(interface) sends to \(bucket.rate) octets per second"
    case .deleteBucket(let interface, _): "end the limit of what interface \(interface) sends"
    case .addIngress(let interface): "filter what arrives at interface \(interface)"
    case .deleteIngress(let interface): "filter no longer what arrives at interface \(interface)"
    case .addDetour(let from, let to): "lead what arrives at interface \(from) through interface \(to)"
    }
  }

  public func encode(into batch: inout NetlinkBatch) {
    typealias A = TrafficAttribute
    func header(_ writer: inout OctetWriter, _ interface: UInt32, _ handle: UInt32, _ parent: UInt32, info: UInt32 = 0) {
      writer.zeros(4)
      for value in [interface, handle, parent, info] { writer.hostU32(value) }
    }
    switch self {
    case .addDevice(let name):
      RouteNetlinkChange.addLink(NewLink(name: name, kind: .other("ifb"), isUp: true)).encode(into: &batch)
    case .deleteDevice(let interface): RouteNetlinkChange.deleteLink(index: interface).encode(into: &batch)
    case .setBucket(let interface, let handle, let bucket):
      batch.add(type: TrafficMessageType.newQueue, flags: [.create, .replace, .acknowledge]) {
        header(&$0, interface, handle, Queue.root)
        $0.attribute(A.kind, text: "tbf")
        $0.nest(A.options, body: bucket.encode)
      }
    case .deleteBucket(let interface, let handle):
      batch.add(type: TrafficMessageType.deleteQueue, flags: .acknowledge) { header(&$0, interface, handle, Queue.root) }
    case .addIngress(let interface):
      batch.add(type: TrafficMessageType.newQueue, flags: [.create, .exclusive, .acknowledge]) {
        header(&$0, interface, Queue.ingressHandle, Queue.ingress)
        $0.attribute(A.kind, text: "ingress")
      }
    case .deleteIngress(let interface):
      batch.add(type: TrafficMessageType.deleteQueue, flags: .acknowledge) {
        header(&$0, interface, Queue.ingressHandle, Queue.ingress)
      }
    case .addDetour(let from, let to):
      batch.add(type: TrafficMessageType.newFilter, flags: [.create, .exclusive, .acknowledge]) {
        // Priority 1, every protocol (ETH_P_ALL in network order).
        header(&$0, from, 0, Queue.ingressHandle, info: 1 << 16 | UInt32(UInt16(3).bigEndian))
        $0.attribute(A.kind, text: "u32")
        $0.nest(A.options) { options in
          // One key whose mask is empty: every packet. The flag ends the search there.
          options.attribute(A.matchSelector) {
            $0.append([1, 0, 1, 0])
            $0.zeros(12 + 16)
          }
          options.nest(A.matchAction) {
            $0.nest(1) { action in
              action.attribute(A.kind, text: "mirred")
              action.nest(A.options) { $0.attribute(A.mirrorParameters, Self.redirect(to: to)) }
            }
          }
        }
      }
    }
  }

  /// tc_mirred: the packet is taken (TC_ACT_STOLEN) and sent out of the interface (TCA_EGRESS_REDIR).
  private static func redirect(to interface: UInt32) -> [UInt8] {
    var writer = OctetWriter()
    for value in [0, 0, 4, 0, 0, 1, interface] as [UInt32] { writer.hostU32(value) }
    return writer.octets
  }
}

extension TokenBucket {
  func encode(_ writer: inout OctetWriter) {
    typealias A = TrafficAttribute
    func rate(_ rate: UInt64, _ writer: inout OctetWriter) {
      // The link layer is Ethernet's (1): without a table of its own the kernel reckons from the rate.
      writer.append([0, 1])
      writer.zeros(6)
      writer.hostU32(UInt32(clamping: rate))
    }
    writer.attribute(A.bucketParameters) {
      rate(self.rate, &$0)
      rate(peakRate ?? 0, &$0)
      $0.hostU32(limit)
      $0.zeros(8)
    }
    writer.attribute(A.bucketBurst, hostU32: burst)
    if self.rate > UInt64(UInt32.max) { writer.attribute(A.bucketRate64, hostU64: self.rate) }
    if let peakRate {
      writer.attribute(A.bucketPeakBurst, hostU32: peakBurst)
      if peakRate > UInt64(UInt32.max) { writer.attribute(A.bucketPeakRate64, hostU64: peakRate) }
    }
  }

  /// Whether a queue that was read back is this one. The kernel reckons in whole nanoseconds by a multiplier: near is equal.
  public func equals(_ read: Queue.Bucket) -> Bool {
    func isNear(_ time: UInt32, _ octets: UInt32, _ rate: UInt64) -> Bool {
      let wanted = Double(octets) * 1e9 / Double(rate) / 64
      return abs(Double(time) - wanted) <= max(4, wanted / 1000)
    }
    return read.rate == rate && read.limit == limit && isNear(read.burstTime, burst, rate) && read.peakRate == peakRate ?? 0
      && (peakRate.map { isNear(read.peakTime, peakBurst, $0) } ?? true)
  }
}
