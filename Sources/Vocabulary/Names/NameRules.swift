/// What may be a name, a label, a part of a key: each rule answers nil for a good text, or the reason against it in words an operator can
/// act upon.

public enum NameRules {
  private static func isLowerAlphanumeric(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }
  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    isLowerAlphanumeric(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
  }

  /// A DNS label (RFC 1123): at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit.
  public static func dnsLabelFault(_ text: some StringProtocol) -> String? {
    if text.isEmpty { return "it is empty" }
    if text.utf8.count > 63 { return "it has \(text.utf8.count) characters; at most 63 are allowed" }
    return dnsFault(text)
  }

  /// DNS labels of any length up to 253 in total, joined by dots.
  public static func dnsSubdomainFault(_ text: some StringProtocol) -> String? {
    if text.isEmpty { return "it is empty" }
    if text.utf8.count > 253 { return "it has \(text.utf8.count) characters; at most 253 are allowed" }
    for part in text.split(separator: ".", omittingEmptySubsequences: false) {
      if part.isEmpty { return "a dot must stand between letters or digits" }
      if let fault = dnsFault(part) { return fault }
    }
    return nil
  }

  private static func dnsFault(_ text: some StringProtocol) -> String? {
    for scalar in text.unicodeScalars {
      guard scalar.isASCII, isLowerAlphanumeric(UInt8(scalar.value)) || scalar == "-" else {
        if scalar.properties.isUppercase { return "'\(scalar)' is an upper-case letter; write \"\(text.lowercased())\"" }
        return "'\(scalar)' is not allowed; use a-z, 0-9 and '-'"
      }
    }
    if text.first == "-" || text.last == "-" { return "it must begin and end with a letter or digit" }
    return nil
  }

  /// The key of a label or annotation: an optional DNS subdomain and '/', then a qualified name.
  public static func labelKeyFault(_ key: String) -> String? {
    let parts = key.split(separator: "/", omittingEmptySubsequences: false)
    if parts.count > 2 { return "it has more than one '/'" }
    if parts.count == 2 {
      if parts[0].isEmpty { return "the prefix before '/' is empty" }
      if let fault = dnsSubdomainFault(parts[0]) { return "the prefix \"\(parts[0])\" is no DNS subdomain: \(fault)" }
    }
    if parts[parts.count - 1].isEmpty { return parts.count == 2 ? "the name after '/' is empty" : "it is empty" }
    return qualifiedNameFault(parts[parts.count - 1])
  }

  /// The value of a label: empty, or a qualified name.
  public static func labelValueFault(_ value: String) -> String? { value.isEmpty ? nil : qualifiedNameFault(value) }

  /// At most 63 of letters, digits, '-', '_' and '.', beginning and ending with a letter or digit.
  private static func qualifiedNameFault(_ text: some StringProtocol) -> String? {
    if text.utf8.count > 63 { return "it has \(text.utf8.count) characters; at most 63 are allowed" }
    for scalar in text.unicodeScalars {
      guard scalar.isASCII, isAlphanumeric(UInt8(scalar.value)) || scalar == "-" || scalar == "_" || scalar == "." else {
        return "'\(scalar)' is not allowed; use letters, digits, '-', '_' and '.'"
      }
    }
    if let first = text.utf8.first, let last = text.last?.asciiValue, !isAlphanumeric(first) || !isAlphanumeric(last) {
      return "it must begin and end with a letter or digit"
    }
    return nil
  }

  /// The name of an interface: 1 to 15 of letters, digits, '_', '.' and '-'.
  public static func interfaceNameFault(_ text: String) -> String? {
    if text.isEmpty { return "it is empty" }
    if text.utf8.count > 15 { return "it has \(text.utf8.count) characters; Linux takes at most 15" }
    if text == "." || text == ".." { return "Linux reserves it" }
    for scalar in text.unicodeScalars {
      guard scalar.isASCII, isAlphanumeric(UInt8(scalar.value)) || scalar == "-" || scalar == "_" || scalar == "." else {
        return "'\(scalar)' is not allowed; use letters, digits, '_', '.' and '-'"
      }
    }
    return nil
  }

  /// The name of a port: 1 to 128 of letters, digits, '_', '.' and '-'.
  public static func portNameFault(_ text: String) -> String? {
    if text.isEmpty { return "it is empty" }
    if text.utf8.count > 128 { return "it has \(text.utf8.count) characters; at most 128 are allowed" }
    for scalar in text.unicodeScalars {
      guard scalar.isASCII, isAlphanumeric(UInt8(scalar.value)) || scalar == "-" || scalar == "_" || scalar == "." else {
        return "'\(scalar)' is not allowed; use letters, digits, '_', '.' and '-'"
      }
    }
    return nil
  }

  /// Kubernetes' stricter name of a port (RFC 6335, section 5.1): 1 to 15 of a-z, 0-9 and single '-', with a letter among them.
  public static func kubernetesPortNameFault(_ text: String) -> String? {
    if text.utf8.count > 15 { return "it has \(text.utf8.count) characters; at most 15 are allowed" }
    if let fault = dnsLabelFault(text) { return fault }
    if text.contains("--") { return "two '-' must not follow each other" }
    return text.utf8.contains { $0 >= UInt8(ascii: "a") } ? nil : "it has no letter"
  }
}

/// One part of a datastore key: '%' and '/' are escaped so that the part never splits.
public enum KeyPart {
  public static func escape(_ text: String) -> String {
    guard text.utf8.contains(where: { $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "/") }) else { return text }
    var result: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "%"): result.append(contentsOf: "%25".utf8)
      case UInt8(ascii: "/"): result.append(contentsOf: "%2f".utf8)
      default: result.append(byte)
      }
    }
    return String(decoding: result, as: UTF8.self)
  }
  /// Undoes `escape`; a '%' that begins neither escape stands for itself.
  public static func unescape(_ text: some StringProtocol) -> String {
    guard text.utf8.contains(UInt8(ascii: "%")) else { return String(text) }
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    var index = 0
    while index < bytes.count {
      if bytes[index] == UInt8(ascii: "%"), index + 2 < bytes.count {
        switch (bytes[index + 1], bytes[index + 2]) {
        case (UInt8(ascii: "2"), UInt8(ascii: "5")):
          result.append(UInt8(ascii: "%"))
          index += 3
          continue
        case (UInt8(ascii: "2"), UInt8(ascii: "f")), (UInt8(ascii: "2"), UInt8(ascii: "F")):
          result.append(UInt8(ascii: "/"))
          index += 3
          continue
        default: break
        }
      }
      result.append(bytes[index])
      index += 1
    }
    return String(decoding: result, as: UTF8.self)
  }
}
