/// What Felix leaves in files of its host, for programs that ask no socket: the MTU of workloads, and which endpoints are up.
///
/// Lives on the loop's thread.
import Addresses
import Datastore
import HostPlans
import NetlinkEdge
import NetlinkMessages
import Resources

final class HostFiles {
  private(set) var mtu: MTUFile
  private(set) var endpoints = EndpointStatusFiles()
  private let netlink: RouteNetlink
  private let usualPrefix: String
  private let shared: WorkloadMTU

  /// `folder`: where the MTU goes. `usualPrefix`: where endpoints' files go if no setting says.
  init(mtu shared: WorkloadMTU = WorkloadMTU(), folder: String, usualPrefix: String, namespace: NetworkNamespace? = nil) throws {
    self.shared = shared
    mtu = MTUFile(path: "\(folder)/mtu")
    self.usualPrefix = usualPrefix
    netlink = try RouteNetlink(namespace: namespace)
  }

  func note(_ events: [FeedEvent]) {
    for case .resource(let key, let stored) in events { mtu.note(key, stored?.resource) }
  }
  func note(_ event: RouteNetlinkEvent) {
    switch event {
    case .link, .linkRemoved: mtu.linksChanged()
    default: break
    }
  }
  func adopt(_ settings: FelixConfigurationSpec) {
    mtu.adopt(settings)
    endpoints.adopt(prefix: settings.path("endpointStatusPathPrefix", usual: usualPrefix))
  }

  func report(_ changed: [(ResourceKey, EndpointStatus?)], _ plan: HostPlan) {
    endpoints.report(
      changed.map { key, status in
        guard status?.state == .up, let endpoint = plan.endpoints[key] else { return (key, nil) }
        return (
          key,
          EndpointStatusFiles.content(
            interface: endpoint.interfaceName, mac: endpoint.mac?.description, addresses: endpoint.addresses.map { $0.hostPrefix.description })
        )
      })
    endpoints.write()
  }
  func roundEnded() {
    mtu.write(netlink)
    shared.value = mtu.choice?.workloads
  }

  var problems: [String] { [mtu.problem, endpoints.problem].compactMap { $0 } }
}
