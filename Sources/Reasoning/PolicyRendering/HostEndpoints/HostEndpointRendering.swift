/// Host endpoints in the ruleset: the interfaces that they hold, as elements of maps, and what the frame must have for them.
///
/// A host has few interfaces of its own, so everything is worked out anew when an endpoint, an interface or a setting changes, and only
/// what differs is told.

public import Addresses
import HostPlans
public import Resources
import Rulesets

struct HostRendering {
  var endpoints: [ResourceKey: HostEndpointPlan] = [:]
  /// Nil until somebody has looked.
  var observed: [String: Set<IPAddress>]?
  var isDirty = false
  // What follows and is in the ruleset.
  var resolution = InterfaceResolution()
  var frame = HostFrame()
  var groups: [PolicyGroup] = []
  var elements: Set<PolicyRenderer.Placed> = []
}

extension PolicyRenderer {
  /// The host's interfaces with their addresses, as they are now; takes effect with the next `apply`. Those of workloads may be left out.
  public mutating func observe(interfaces: [String: Set<IPAddress>]) {
    guard hosts.observed != interfaces else { return }
    hosts.observed = interfaces
    if !hosts.endpoints.isEmpty { hosts.isDirty = true }
  }

  /// Which interface each host endpoint has, as of the last `apply`.
  public var interfaceResolution: InterfaceResolution { hosts.resolution }

  mutating func take(host key: ResourceKey, _ plan: HostEndpointPlan?) {
    hosts.endpoints[key] = plan
    hosts.isDirty = true
  }

  mutating func resolveHosts() {
    guard hosts.isDirty else { return }
    hosts.isDirty = false
    hosts.resolution = InterfaceResolution(hosts.endpoints, observed: hosts.observed, settings)
    let resolution = hosts.resolution
    let holders = resolution.holders.compactMap { name, key in
      KeyOctets.interfaceName(name).map { (name: $0, endpoint: hosts.endpoints[key]!) }
    }
    let excluded = resolution.excluded.compactMap(KeyOctets.interfaceName)
    let wildcard = resolution.wildcard.map { hosts.endpoints[$0]! }
    var frame = HostFrame()
    frame.hasWildcard = wildcard != nil
    var groups: [PolicyGroup] = []
    var elements: Set<Placed> = []
    for place in HostPlace.allCases {
      func group(_ endpoint: HostEndpointPlan) -> PolicyGroup? { place.group(of: endpoint, settings) }
      let general = wildcard.flatMap(group)
      if let general {
        groups.append(general)
        frame.wildcard[place] = general.name
        frame.places.insert(place)
      }
      for holder in holders {
        guard let own = group(holder.endpoint) else { continue }
        groups.append(own)
        frame.places.insert(place)
        elements.insert(Placed(set: place.map, element: SetElement(holder.name, data: .verdict(.jump(own.name)))))
      }
      guard frame.has(place) else { continue }
      // Who has nothing to say here is let through, and not led to the endpoint for all; so is what is excluded.
      let silent = holders.filter { group($0.endpoint) == nil }.map(\.name)
      for name in silent + (general == nil ? [] : excluded) {
        elements.insert(Placed(set: place.map, element: SetElement(name, data: .verdict(.accept))))
      }
    }
    for holder in holders { elements.insert(Placed(set: HostFrame.interfaces, element: SetElement(holder.name))) }
    if wildcard != nil { for name in excluded { elements.insert(Placed(set: HostFrame.excluded, element: SetElement(name))) } }
    for group in groups { retain(group) }
    for group in hosts.groups { release(group) }
    hosts.groups = groups
    hosts.frame = frame
    let before = hosts.elements
    for item in before.subtracting(elements) where base?.sets[item.set] != nil { delta.remove(item.element, from: item.set) }
    for item in elements.subtracting(before) { delta.add(item.element, to: item.set) }
    hosts.elements = elements
  }
}
