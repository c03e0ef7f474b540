/// Bytes are read through this one bounds-checked cursor, so no decoder carries index arithmetic of its own.
///
/// Multi-byte integers are read in network byte order unless the name says `host`.

/// What went wrong on the wire, and where.
public struct WireError: Error, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Equatable, Sendable {
    /// Fewer octets than the format asks for.
    case truncated(needed: Int, available: Int)
    /// A value that the format forbids; the text names it.
    case invalid(String)
    /// Octets left where the format has none.
    case trailing(Int)
  }
  public let kind: Kind
  /// Offset in octets from the start of the buffer that was given to the outermost reader.
  public let offset: Int
  public init(_ kind: Kind, at offset: Int) {
    self.kind = kind
    self.offset = offset
  }
  public var description: String {
    switch kind {
    case .truncated(let needed, let available): "octet \(offset): needs \(needed) more octets, has \(available)"
    case .invalid(let what): "octet \(offset): \(what)"
    case .trailing(let count): "octet \(offset): \(count) octets too many"
    }
  }
}

/// A cursor over borrowed octets.
public struct OctetReader: ~Escapable {
  @usableFromInline let octets: Span<UInt8>
  /// The offset of `octets[0]` in the outermost buffer: errors of a nested reader point into the whole.
  @usableFromInline let base: Int
  @usableFromInline var position: Int

  @inlinable
  @_lifetime(copy octets)
  public init(_ octets: Span<UInt8>, base: Int = 0) {
    self.octets = octets
    self.base = base
    position = 0
  }

  /// Offset of the next octet in the outermost buffer.
  @inlinable public var offset: Int { base + position }
  /// Octets not yet read.
  @inlinable public var remaining: Int { octets.count - position }
  @inlinable public var isAtEnd: Bool { position == octets.count }

  @inlinable
  func require(_ count: Int) throws(WireError) {
    guard count >= 0, remaining >= count else { throw WireError(.truncated(needed: count, available: remaining), at: offset) }
  }

  @inlinable
  @_lifetime(self: copy self)
  public mutating func u8() throws(WireError) -> UInt8 {
    try require(1)
    defer { position += 1 }
    return octets[position]
  }

  /// The next octet, without moving.
  @inlinable
  public func peek() throws(WireError) -> UInt8 {
    try require(1)
    return octets[position]
  }

  @inlinable
  @_lifetime(self: copy self)
  public mutating func u16() throws(WireError) -> UInt16 {
    try require(2)
    defer { position += 2 }
    return UInt16(octets[position]) << 8 | UInt16(octets[position + 1])
  }

  @inlinable
  @_lifetime(self: copy self)
  public mutating func u32() throws(WireError) -> UInt32 {
    try require(4)
    defer { position += 4 }
    return UInt32(octets[position]) << 24 | UInt32(octets[position + 1]) << 16 | UInt32(octets[position + 2]) << 8
      | UInt32(octets[position + 3])
  }

  @inlinable
  @_lifetime(self: copy self)
  public mutating func u64() throws(WireError) -> UInt64 {
    let high = try u32()
    return try UInt64(high) << 32 | UInt64(u32())
  }

  /// A 16-bit integer in the byte order of this machine (netlink headers).
  @inlinable
  @_lifetime(self: copy self)
  public mutating func hostU16() throws(WireError) -> UInt16 { try u16().bigEndian }

  /// A 32-bit integer in the byte order of this machine (netlink headers).
  @inlinable
  @_lifetime(self: copy self)
  public mutating func hostU32() throws(WireError) -> UInt32 { try u32().bigEndian }

  /// A 64-bit integer in the byte order of this machine (netlink headers).
  @inlinable
  @_lifetime(self: copy self)
  public mutating func hostU64() throws(WireError) -> UInt64 { try u64().bigEndian }

  /// Copies the next `count` octets.
  @inlinable
  @_lifetime(self: copy self)
  public mutating func array(_ count: Int) throws(WireError) -> [UInt8] {
    try require(count)
    defer { position += count }
    // One copy of memory: octet by octet, the checks cost more than the copy.
    return unsafe octets.extracting(position..<(position + count)).withUnsafeBufferPointer { unsafe [UInt8]($0) }
  }

  /// Copies everything that is left.
  @inlinable
  @_lifetime(self: copy self)
  public mutating func rest() -> [UInt8] {
    (try? array(remaining)) ?? []
  }

  @inlinable
  @_lifetime(self: copy self)
  public mutating func skip(_ count: Int) throws(WireError) {
    try require(count)
    position += count
  }

  /// A reader confined to the next `count` octets; this one moves past them.
  @inlinable
  @_lifetime(copy self)
  @_lifetime(self: copy self)
  public mutating func nested(_ count: Int) throws(WireError) -> OctetReader {
    try require(count)
    let reader = OctetReader(octets.extracting(position..<(position + count)), base: base + position)
    position += count
    return reader
  }

  /// Throws unless everything was read.
  @inlinable
  public func expectEnd() throws(WireError) {
    guard isAtEnd else { throw WireError(.trailing(remaining), at: offset) }
  }
}
