/// Names made by rule: identifiers of selectors and IP sets, names of host interfaces, UUIDs.

/// `prefix:` and the base64url digest of `prefix:text`: the same text has the same short identifier on every host.
public func uniqueID(prefix: String, text: String) -> String {
  "\(prefix):\(Base64.urlText(SHA224.digest(of: "\(prefix):\(text)".utf8)))"
}

/// Names of workload interfaces on the host; 15 characters, as many as Linux takes.
public enum HostInterfaceName {
  public static let prefix = "cali"
  /// Kubernetes: `cali` and 11 hexadecimal digits of SHA-1("namespace.pod"), so that everybody can compute it.
  public static func forPod(namespace: String, pod: String) -> String {
    prefix + hexadecimalText(SHA1.digest(of: "\(namespace).\(pod)".utf8)).prefix(11)
  }
  /// Other runtimes: `cali` and the first 11 characters of the container's id.
  public static func forContainer(_ containerID: String) -> String { prefix + containerID.prefix(11) }
}

/// A random UUID, version 4 (RFC 9562, section 5.4), from the kernel's generator.
public func randomUUID() -> String {
  var generator = SystemRandomNumberGenerator()
  return randomUUID(using: &generator)
}

/// A UUID, version 4, from the given generator (tests pass a seeded one).
public func randomUUID(using generator: inout some RandomNumberGenerator) -> String {
  let high = generator.next() & 0xffff_ffff_ffff_0fff | 0x4000
  let low = generator.next() & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000
  let digits = Array(
    hexadecimalText([high, low].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) } }))
  return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(digits[$0]) }.joined(separator: "-")
}
