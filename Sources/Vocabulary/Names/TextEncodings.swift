/// Octets as text: hexadecimal, base64 and its form for URLs (RFC 4648).

/// Two lower-case hexadecimal digits per octet.
public func hexadecimalText(_ octets: some Sequence<UInt8>) -> String {
  String(decoding: octets.flatMap { [hexadecimalDigits[Int($0 >> 4)], hexadecimalDigits[Int($0 & 15)]] }, as: UTF8.self)
}
private let hexadecimalDigits = Array("0123456789abcdef".utf8)

public enum Base64: Sendable {
  /// RFC 4648, section 4, padded.
  public static func text(_ octets: some Sequence<UInt8>) -> String {
    let unpadded = encode(octets, digits: standard)
    return String(decoding: unpadded + repeatElement(UInt8(ascii: "="), count: (4 - unpadded.count % 4) % 4), as: UTF8.self)
  }
  /// RFC 4648, section 5: `-` and `_`, without padding.
  public static func urlText(_ octets: some Sequence<UInt8>) -> String { String(decoding: encode(octets, digits: url), as: UTF8.self) }

  /// Either alphabet, padded or not; nil for anything else, also for bits set beyond the last octet.
  public static func octets(_ text: some StringProtocol) -> [UInt8]? {
    var digits = Array(text.utf8)
    if digits.count % 4 == 0 {
      for _ in 0..<2 where digits.last == UInt8(ascii: "=") { digits.removeLast() }
    }
    var result: [UInt8] = []
    var pending: UInt32 = 0
    var bits = 0
    for digit in digits {
      guard let value = value(of: digit) else { return nil }
      pending = pending << 6 | value
      bits += 6
      if bits >= 8 {
        bits -= 8
        result.append(UInt8(truncatingIfNeeded: pending >> UInt32(bits)))
        pending &= (1 << UInt32(bits)) - 1
      }
    }
    return bits == 6 || pending != 0 ? nil : result
  }

  private static let standard = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  private static let url = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

  private static func value(of digit: UInt8) -> UInt32? {
    switch digit {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(digit - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(digit - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(digit - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"), UInt8(ascii: "-"): 62
    case UInt8(ascii: "/"), UInt8(ascii: "_"): 63
    default: nil
    }
  }

  private static func encode(_ octets: some Sequence<UInt8>, digits: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    var pending: UInt32 = 0
    var bits = 0
    for octet in octets {
      pending = pending << 8 | UInt32(octet)
      bits += 8
      while bits >= 6 {
        bits -= 6
        result.append(digits[Int(pending >> UInt32(bits) & 63)])
      }
      pending &= (1 << UInt32(bits)) - 1
    }
    if bits > 0 { result.append(digits[Int(pending << UInt32(6 - bits) & 63)]) }
    return result
  }
}
