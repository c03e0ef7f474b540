/// Which interface each host endpoint means, from what is written and what is seen on the host.
///
/// The name in the endpoint wins; then comes the endpoint that expects one of the interface's addresses; then the one for all interfaces.
/// Where two have the same claim, the first by name has it. A named interface is taken before it exists, so that it is policed from
/// its first packet; an interface that nobody claims is not policed.

public import Addresses
public import HostPlans
import Resources

public struct InterfaceResolution: Equatable, Sendable {
  public private(set) var holders: [String: ResourceKey] = [:]
  /// The endpoint of every interface that has no other, but those of workloads and `excluded`.
  public private(set) var wildcard: ResourceKey?
  /// Interfaces that are nobody's, by configuration.
  public private(set) var excluded: Set<String> = []
  /// Why an endpoint has no interface, or not the one it names.
  public private(set) var findings: [ResourceKey: String] = [:]

  public init() {}

  /// `observed`: the interfaces that exist, with their addresses; nil if nobody looked.
  public init(_ endpoints: [ResourceKey: HostEndpointPlan], observed: [String: Set<IPAddress>]?, _ settings: HostSettings) {
    let exclusion = InterfaceExclusion(settings.excludedInterfaces)
    excluded = exclusion.names.union((observed ?? [:]).keys.filter(exclusion.excludes))
    func isWorkload(_ name: String) -> Bool { settings.interfacePrefixes.contains { name.hasPrefix($0) } }

    for (key, endpoint) in endpoints.sorted(by: { $0.key < $1.key }) {
      switch endpoint.interfaceName {
      case "": break
      case "*":
        if let wildcard {
          findings[key] = "all interfaces belong to \(wildcard), which comes first by name; nothing is policed by this one"
        } else {
          wildcard = key
        }
      case let name:
        if isWorkload(name) {
          findings[key] = "interface \(name): begins as workloads' interfaces do (interfacePrefix); it is not policed as a host's"
        } else if exclusion.excludes(name) {
          findings[key] = "interface \(name): excluded by interfaceExclude; it is not policed"
        } else if let holder = holders[name] {
          findings[key] = "interface \(name): belongs to \(holder), which comes first by name; nothing is policed by this one"
        } else {
          holders[name] = key
          if let observed, observed[name] == nil { findings[key] = "interface \(name): does not exist; policed as soon as it does" }
        }
      }
    }
    let named = holders
    var taken: Set<ResourceKey> = []
    var lost: [ResourceKey: (interface: String, holder: ResourceKey)] = [:]
    for (interface, addresses) in (observed ?? [:]).sorted(by: { $0.key < $1.key })
    where !isWorkload(interface) && !excluded.contains(interface) {
      for (key, endpoint) in endpoints.sorted(by: { $0.key < $1.key }) where endpoint.interfaceName.isEmpty {
        guard endpoint.expectedAddresses.contains(where: addresses.contains) else { continue }
        if let holder = named[interface] ?? holders[interface] {
          lost[key] = (interface, holder)
        } else {
          holders[interface] = key
          taken.insert(key)
        }
      }
    }
    guard observed != nil else { return }
    for (key, endpoint) in endpoints where endpoint.interfaceName.isEmpty && !taken.contains(key) {
      if let (interface, holder) = lost[key] {
        findings[key] = "interface \(interface), which has an expected address: belongs to \(holder); nothing is policed by this one"
      } else {
        let addresses = endpoint.expectedAddresses.map(\.description).joined(separator: ", ")
        findings[key] = "no interface has one of expectedIPs (\(addresses)); nothing is policed by this one"
      }
    }
  }

  /// The interfaces of an endpoint, in order; `*` for all that are left over.
  public func interfaces(of key: ResourceKey) -> [String] {
    (wildcard == key ? ["*"] : []) + holders.filter { $0.value == key }.map(\.key).sorted()
  }
}

/// `interfaceExclude`: names, and regular expressions between slashes.
struct InterfaceExclusion {
  let names: Set<String>
  private let patterns: [Regex<AnyRegexOutput>]

  init(_ entries: [String]) {
    var names: Set<String> = []
    var patterns: [Regex<AnyRegexOutput>] = []
    for entry in entries {
      if entry.count > 2, entry.hasPrefix("/"), entry.hasSuffix("/") {
        // A pattern that does not read excludes nothing: more is policed, not less.
        if let pattern = try? Regex(String(entry.dropFirst().dropLast())) { patterns.append(pattern) }
      } else if !entry.isEmpty {
        names.insert(entry)
      }
    }
    (self.names, self.patterns) = (names, patterns)
  }
  func excludes(_ interface: String) -> Bool { names.contains(interface) || patterns.contains { interface.contains($0) } }
}
