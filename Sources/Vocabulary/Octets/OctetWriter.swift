/// The writing twin of `OctetReader`: appends to one reusable buffer, in network byte order unless the name says `host`.
public struct OctetWriter: Sendable {
  public private(set) var octets: [UInt8]

  @inlinable public init(capacity: Int = 0) {
    self.init(reusing: [], capacity: capacity)
  }

  public init(reusing buffer: consuming [UInt8], capacity: Int = 0) {
    octets = buffer
    octets.removeAll(keepingCapacity: true)
    if capacity > 0 { octets.reserveCapacity(capacity) }
  }

  public var count: Int { octets.count }
  public mutating func removeAll() { octets.removeAll(keepingCapacity: true) }

  public mutating func u8(_ value: UInt8) { octets.append(value) }
  public mutating func u16(_ value: UInt16) {
    octets.append(UInt8(truncatingIfNeeded: value >> 8))
    octets.append(UInt8(truncatingIfNeeded: value))
  }
  public mutating func u32(_ value: UInt32) {
    u16(UInt16(truncatingIfNeeded: value >> 16))
    u16(UInt16(truncatingIfNeeded: value))
  }
  public mutating func u64(_ value: UInt64) {
    u32(UInt32(truncatingIfNeeded: value >> 32))
    u32(UInt32(truncatingIfNeeded: value))
  }
  public mutating func hostU16(_ value: UInt16) { u16(value.bigEndian) }
  public mutating func hostU32(_ value: UInt32) { u32(value.bigEndian) }
  public mutating func hostU64(_ value: UInt64) { u64(value.bigEndian) }
  public mutating func append(_ bytes: some Sequence<UInt8>) { octets.append(contentsOf: bytes) }
  public mutating func zeros(_ count: Int) { octets.append(contentsOf: repeatElement(0, count: count)) }

  /// Writes a placeholder of two octets and returns its offset, for `patch16(at:_:)`.
  public mutating func reserve16() -> Int {
    defer { u16(0) }
    return octets.count
  }
  public mutating func patch16(at offset: Int, _ value: UInt16) {
    octets[offset] = UInt8(truncatingIfNeeded: value >> 8)
    octets[offset + 1] = UInt8(truncatingIfNeeded: value)
  }
  public mutating func patchHost16(at offset: Int, _ value: UInt16) { patch16(at: offset, value.bigEndian) }
  public mutating func patchHost32(at offset: Int, _ value: UInt32) {
    patch16(at: offset, UInt16(truncatingIfNeeded: value.bigEndian >> 16))
    patch16(at: offset + 2, UInt16(truncatingIfNeeded: value.bigEndian))
  }
}
