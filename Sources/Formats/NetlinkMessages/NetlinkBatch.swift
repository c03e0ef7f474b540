/// The frame of every netlink message: header and attributes, for rtnetlink and nfnetlink alike.
///
/// A message is `nlmsghdr` (16 octets: length, type, flags, sequence, port), a fixed header of its family, and attributes
/// (length, type, payload), everything aligned to four octets and in the byte order of the machine.

public import Octets

/// NLM_F_* of a message's header.
public struct NetlinkFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt16
  @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }
  public static let request = NetlinkFlags(rawValue: 0x1)
  public static let multi = NetlinkFlags(rawValue: 0x2)
  public static let acknowledge = NetlinkFlags(rawValue: 0x4)
  public static let echo = NetlinkFlags(rawValue: 0x8)
  /// The dump saw a change of what it walked: what it told may be wrong.
  public static let dumpInterrupted = NetlinkFlags(rawValue: 0x10)
  // To a GET:
  public static let root = NetlinkFlags(rawValue: 0x100)
  public static let match = NetlinkFlags(rawValue: 0x200)
  public static let dump: NetlinkFlags = [.root, .match]
  // To a NEW:
  public static let replace = NetlinkFlags(rawValue: 0x100)
  public static let exclusive = NetlinkFlags(rawValue: 0x200)
  public static let create = NetlinkFlags(rawValue: 0x400)
  public static let append = NetlinkFlags(rawValue: 0x800)
  // To a DELETE (nftables): all of them in one message.
  public static let nonRecursive = NetlinkFlags(rawValue: 0x100)
  public static let bulk = NetlinkFlags(rawValue: 0x200)
}

/// nlmsghdr.
public struct NetlinkHeader: Equatable, Sendable {
  public static let size = 16
  /// Types below 0x10 are of the frame itself.
  public static let errorType: UInt16 = 2
  public static let doneType: UInt16 = 3
  public static let overrunType: UInt16 = 4

  /// Of the whole message, this header included.
  public var length: UInt32
  public var type: UInt16
  public var flags: NetlinkFlags
  public var sequence: UInt32
  public var port: UInt32

  public init(decoding reader: inout OctetReader) throws(WireError) {
    length = try reader.hostU32()
    type = try reader.hostU16()
    flags = NetlinkFlags(rawValue: try reader.hostU16())
    sequence = try reader.hostU32()
    port = try reader.hostU32()
  }
}

/// Messages that go to the kernel in one call. Sequence numbers are given by the socket that sends them.
public struct NetlinkBatch: Sendable {
  public private(set) var writer: OctetWriter
  /// Where each message begins in `octets`.
  public private(set) var offsets: [Int] = []

  public init(capacity: Int = 0) { writer = OctetWriter(capacity: capacity) }

  public var octets: [UInt8] { writer.octets }
  public var count: Int { offsets.count }
  public var octetCount: Int { writer.count }
  public var isEmpty: Bool { offsets.isEmpty }
  public mutating func removeAll() {
    writer.removeAll()
    offsets.removeAll(keepingCapacity: true)
  }

  /// Appends a message whose body (family header and attributes) `body` writes. `request` is always set.
  @discardableResult
  public mutating func add(type: UInt16, flags: NetlinkFlags, body: (inout OctetWriter) -> Void) -> Int {
    let start = writer.count
    offsets.append(start)
    writer.hostU32(0)
    writer.hostU16(type)
    writer.hostU16(flags.union(.request).rawValue)
    writer.hostU32(0)
    writer.hostU32(0)
    body(&writer)
    writer.patchHost32(at: start, UInt32(writer.count - start))
    writer.align4()
    return offsets.count - 1
  }

  /// The kernel answers errors unasked, and handles messages in order: an acknowledgement of the last tells that all others succeeded.
  /// Each acknowledgement that is not sent spares a system call to receive it.
  public mutating func acknowledgeOnlyLast() {
    for offset in offsets.dropLast() { writer.patchHost16(at: offset + 6, hostU16(offset + 6) & ~NetlinkFlags.acknowledge.rawValue) }
  }

  /// Numbers the messages `first`, `first + 1`, ... (wrapping).
  public mutating func setSequences(from first: UInt32) {
    for (index, offset) in offsets.enumerated() {
      writer.patchHost32(at: offset + 8, first &+ UInt32(truncatingIfNeeded: index))
    }
  }
  public func type(ofMessage index: Int) -> UInt16 { hostU16(offsets[index] + 4) }
  public func flags(ofMessage index: Int) -> NetlinkFlags { NetlinkFlags(rawValue: hostU16(offsets[index] + 6)) }
  private func hostU16(_ offset: Int) -> UInt16 { (UInt16(octets[offset]) << 8 | UInt16(octets[offset + 1])).bigEndian }
}

extension OctetWriter {
  /// Zeros up to the next multiple of four. Netlink buffers begin aligned, so the count of octets is the alignment.
  public mutating func align4() { zeros(-count & 3) }

  /// One attribute whose payload `body` writes. A payload above 65,531 octets cannot be told in the header: split before.
  public mutating func attribute(_ type: UInt16, body: (inout OctetWriter) -> Void) {
    let start = count
    hostU16(0)
    hostU16(type)
    body(&self)
    precondition(count - start <= 0xffff, "a netlink attribute has at most 65,535 octets")
    patchHost16(at: start, UInt16(count - start))
    align4()
  }
  /// A nested attribute, marked as such (NLA_F_NESTED).
  public mutating func nest(_ type: UInt16, body: (inout OctetWriter) -> Void) { attribute(type | 0x8000, body: body) }
  public mutating func attribute(_ type: UInt16, _ bytes: some Sequence<UInt8>) { attribute(type) { $0.append(bytes) } }
  /// A text with its terminating zero.
  public mutating func attribute(_ type: UInt16, text: String) {
    attribute(type) {
      $0.append(text.utf8)
      $0.u8(0)
    }
  }
  public mutating func attribute(_ type: UInt16, u8 value: UInt8) { attribute(type) { $0.u8(value) } }
  public mutating func attribute(_ type: UInt16, hostU16 value: UInt16) { attribute(type) { $0.hostU16(value) } }
  public mutating func attribute(_ type: UInt16, hostU32 value: UInt32) { attribute(type) { $0.hostU32(value) } }
  public mutating func attribute(_ type: UInt16, hostU64 value: UInt64) { attribute(type) { $0.hostU64(value) } }
  /// In network byte order, as nfnetlink has its integers.
  public mutating func attribute(_ type: UInt16, u16 value: UInt16) { attribute(type) { $0.u16(value) } }
  public mutating func attribute(_ type: UInt16, u32 value: UInt32) { attribute(type) { $0.u32(value) } }
  public mutating func attribute(_ type: UInt16, u64 value: UInt64) { attribute(type) { $0.u64(value) } }
}

/// The type in an attribute's header, its two flag bits removed.
public typealias NetlinkAttributeType = UInt16

extension OctetReader {
  /// Walks the attributes up to the end of this reader. `body` sees each payload confined; what it does not read is skipped.
  /// An attribute whose length is below its header or beyond the rest throws: the walk cannot go on behind it.
  public mutating func attributes(_ body: (NetlinkAttributeType, inout OctetReader) throws(WireError) -> Void) throws(WireError) {
    while remaining >= 4 {
      let length = Int(try hostU16())
      let type = try hostU16() & 0x3fff
      guard length >= 4 else { throw WireError(.invalid("attribute of \(length) octets"), at: offset - 4) }
      var payload = try nested(length - 4)
      try body(type, &payload)
      try skip(min(-length & 3, remaining))
    }
  }
  /// The rest as a text, up to its first zero.
  public mutating func text() throws(WireError) -> String {
    String(decoding: try array(remaining).prefix { $0 != 0 }, as: UTF8.self)
  }
}
