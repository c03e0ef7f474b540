/// The wire format of Protocol Buffers, as far as etcd's messages need it: varints and length-delimited fields, written and read by hand.
///
/// Reading follows the format's rule for growth: a field nobody asked for is stepped over, a scalar that comes twice counts the last time.
import Octets

/// A field's header on the wire: number, and what follows.
struct FieldTag: Equatable {
  /// The wire types of the format; groups (3 and 4) are long out of use and refused.
  enum Kind: UInt64 {
    case varint = 0
    case fixed64 = 1
    case delimited = 2
    case fixed32 = 5
  }
  var number: Int
  var kind: Kind
}

enum ProtobufReading {
  static func varint(_ reader: inout OctetReader) throws(WireError) -> UInt64 {
    let start = reader.offset
    var value: UInt64 = 0
    for shift in stride(from: 0, to: 70, by: 7) {
      let octet = try reader.u8()
      // The tenth octet holds the last bit of 64.
      guard shift < 63 || octet <= 1 else { throw WireError(.invalid("a varint beyond 64 bits"), at: start) }
      value |= UInt64(octet & 0x7f) << UInt64(shift)
      if octet & 0x80 == 0 { return value }
    }
    throw WireError(.invalid("a varint of more than ten octets"), at: start)
  }

  static func tag(_ reader: inout OctetReader) throws(WireError) -> FieldTag {
    let start = reader.offset
    let value = try varint(&reader)
    guard let kind = FieldTag.Kind(rawValue: value & 7) else {
      throw WireError(.invalid("wire type \(value & 7)"), at: start)
    }
    guard value >> 3 >= 1, value >> 3 < 1 << 29 else { throw WireError(.invalid("field number \(value >> 3)"), at: start) }
    return FieldTag(number: Int(value >> 3), kind: kind)
  }

  /// The length in front of a delimited field; never more than there is.
  static func length(_ reader: inout OctetReader) throws(WireError) -> Int {
    let start = reader.offset
    let value = try varint(&reader)
    guard value <= UInt64(reader.remaining) else {
      throw WireError(.truncated(needed: Int(clamping: value), available: reader.remaining), at: start)
    }
    return Int(value)
  }

  static func octets(_ reader: inout OctetReader) throws(WireError) -> [UInt8] { try reader.array(length(&reader)) }
  /// Text that a person reads; what is no UTF-8 in it is replaced.
  static func text(_ reader: inout OctetReader) throws(WireError) -> String { String(decoding: try octets(&reader), as: UTF8.self) }
  static func int64(_ reader: inout OctetReader) throws(WireError) -> Int64 { Int64(bitPattern: try varint(&reader)) }
  static func bool(_ reader: inout OctetReader) throws(WireError) -> Bool { try varint(&reader) != 0 }

  static func skip(_ tag: FieldTag, _ reader: inout OctetReader) throws(WireError) {
    switch tag.kind {
    case .varint: _ = try varint(&reader)
    case .fixed64: try reader.skip(8)
    case .delimited: try reader.skip(length(&reader))
    case .fixed32: try reader.skip(4)
    }
  }

  /// Hands every field of one message to `field`, which reads it and answers true, or leaves it and answers false.
  static func fields(
    _ reader: inout OctetReader, _ field: (FieldTag, inout OctetReader) throws(WireError) -> Bool
  ) throws(WireError) {
    while !reader.isAtEnd {
      let tag = try tag(&reader)
      if try !field(tag, &reader) { try skip(tag, &reader) }
    }
  }
}

/// Appends fields to one buffer. Zero and empty are the format's defaults and are left out unless it says otherwise.
struct ProtobufWriter {
  private(set) var octets: [UInt8] = []

  mutating func varint(_ value: UInt64) {
    var rest = value
    while rest > 0x7f {
      octets.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    octets.append(UInt8(rest))
  }
  private mutating func tag(_ number: Int, _ kind: FieldTag.Kind) { varint(UInt64(number) << 3 | kind.rawValue) }

  mutating func int64(_ number: Int, _ value: Int64, evenZero: Bool = false) {
    guard value != 0 || evenZero else { return }
    tag(number, .varint)
    varint(UInt64(bitPattern: value))
  }
  mutating func bool(_ number: Int, _ value: Bool) { int64(number, value ? 1 : 0) }
  mutating func octets(_ number: Int, _ value: some Collection<UInt8>) {
    guard !value.isEmpty else { return }
    delimited(number, count: value.count)
    octets.append(contentsOf: value)
  }
  /// A message inside; written even if it is empty, because its presence says which of several it is.
  mutating func message(_ number: Int, _ body: (inout ProtobufWriter) -> Void) {
    var inner = ProtobufWriter()
    body(&inner)
    delimited(number, count: inner.octets.count)
    octets.append(contentsOf: inner.octets)
  }
  private mutating func delimited(_ number: Int, count: Int) {
    tag(number, .delimited)
    varint(UInt64(count))
  }
}
