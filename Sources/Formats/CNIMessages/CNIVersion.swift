/// The versions of the Container Network Interface that we speak, and the reply to VERSION.
///
/// This module turns what a container runtime says (environment, network configuration) into values and results into the text that each
/// version prescribes. It also holds the protocol between the plugin, which a runtime starts for each call, and the node process.

public import JSON

/// https://github.com/containernetworking/cni/blob/spec-v1.0.0/SPEC.md
public enum CNIVersion: String, CaseIterable, Comparable, Sendable, CustomStringConvertible {
  case v0_1_0 = "0.1.0"
  case v0_2_0 = "0.2.0"
  case v0_3_0 = "0.3.0"
  case v0_3_1 = "0.3.1"
  case v0_4_0 = "0.4.0"
  case v1_0_0 = "1.0.0"

  /// What a configuration without `cniVersion` means. Calico reads it so; the specification says 0.1.0, whose results look the same.
  public static let unstated = CNIVersion.v0_2_0
  public static let latest = CNIVersion.v1_0_0
  public static func < (a: Self, b: Self) -> Bool { allCases.firstIndex(of: a)! < allCases.firstIndex(of: b)! }
  public var description: String { rawValue }

  /// Of a network configuration; throws error code 1 for a version that we do not speak.
  public init(configuration: JSONValue) throws(CNIError) {
    switch configuration["cniVersion"] {
    case nil, .null?, .string("")?: self = .unstated
    case .string(let text)?:
      guard let version = CNIVersion(rawValue: text) else {
        let known = Self.allCases.map(\.rawValue).joined(separator: ", ")
        throw CNIError(.incompatibleVersion, "cniVersion \"\(text)\" is not supported", details: "supported: \(known)")
      }
      self = version
    case _?: throw CNIError(.decodingFailure, "failed to load netconf: cniVersion is not a string")
    }
  }

  /// The reply to VERSION, in the caller's version where that is known to us: runtimes refuse a reply newer than what they know.
  public static func reply(to configuration: JSONValue?) -> JSONValue {
    let stated = configuration?["cniVersion"]?.string.flatMap(CNIVersion.init(rawValue:))
    return [
      "cniVersion": .string((stated ?? latest).rawValue),
      "supportedVersions": .array(allCases.map { .string($0.rawValue) }),
    ]
  }
}
