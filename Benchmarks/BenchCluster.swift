/// A cluster of a given size, always the same: workloads in groups, policies for groups, selectors that name workloads elsewhere.
///
/// Ten local workloads share each group's policies. Half of the selectors match workloads of other hosts (single addresses), the other
/// half network sets (prefixes), as in the measurements that the bars come from.

import Addresses
import Calculation
import Resources

struct PolicyScale {
  var endpoints: Int
  var policies: Int
  var selectors: Int
  var members: Int
  static let all: [Int: PolicyScale] = [
    250: PolicyScale(endpoints: 250, policies: 100, selectors: 100, members: 1000),
    1000: PolicyScale(endpoints: 1000, policies: 500, selectors: 500, members: 100),
    5000: PolicyScale(endpoints: 5000, policies: 2000, selectors: 2000, members: 50),
  ]
  var groups: Int { endpoints / 10 }
}

struct BenchCluster {
  static let node = "n1"
  let scale: PolicyScale

  static func address(_ base: UInt32, _ number: Int) -> IPAddress { .v4(IPv4Address(rawValue: base + UInt32(number))) }
  private static func spec(node: String, interface: String, address: IPAddress) -> WorkloadEndpointSpec {
    var spec = WorkloadEndpointSpec()
    spec.orchestrator = "k8s"
    spec.node = node
    spec.endpoint = "eth0"
    spec.interfaceName = interface
    spec.ipNetworks = [address.hostPrefix]
    spec.profiles = ["kns.default"]
    return spec
  }
  static func interface(_ number: Int) -> String {
    let digits = String(number, radix: 16)
    return "cali" + String(repeating: "0", count: 7 - digits.count) + digits
  }

  /// 10.65.0.0 and on.
  static func localEndpoint(_ number: Int, group: Int) -> Resource {
    var spec = spec(node: node, interface: interface(number), address: address(0x0a41_0000, number))
    spec.mac = MACAddress(rawValue: 0x0200_0000_0000 + UInt64(number))
    return Resource(
      Metadata(name: "\(node)-k8s-w\(number)-eth0", namespace: "default", labels: ["app": "a\(group)"]), .workloadEndpoint(spec))
  }
  /// 10.128.0.0 and on.
  static func remoteEndpoint(_ number: Int, selector: Int) -> Resource {
    let spec = spec(node: "n2", interface: "cali1", address: address(0x0a80_0000, number))
    return Resource(
      Metadata(name: "n2-k8s-r\(number)-eth0", namespace: "default", labels: ["peer": "s\(selector)"]), .workloadEndpoint(spec))
  }
  func networkSet(_ selector: Int) -> Resource {
    let nets = (0..<scale.members).map { IPPrefix(Self.address(0x6440_0000, (selector * scale.members + $0) * 32), length: 28) }
    return Resource(
      Metadata(name: "set\(selector)", labels: ["peer": "s\(selector)"]), .globalNetworkSet(NetworkSetSpec(nets: nets)))
  }
  /// Five rules each way; `shift` makes another policy of the same size in the same place.
  func policy(_ number: Int, group: Int? = nil, shift: Int = 0, firstPort: UInt16 = 8000) -> Resource {
    var spec = PolicySpec()
    spec.selector = "app == 'a\(group ?? number % scale.groups)'"
    spec.order = Double(number)
    spec.types = [.ingress, .egress]
    for index in 0..<5 {
      var peer = EntityRule()
      peer.selector = "peer == 's\((number + index + shift) % scale.selectors)'"
      var ports = EntityRule()
      ports.ports = [.port((index == 0 ? firstPort : 8000) + UInt16(index) + UInt16(shift))]
      spec.ingress.append(Rule(.allow, protocol: .tcp, source: peer, destination: ports))
      peer.ports = ports.ports
      spec.egress.append(Rule(.allow, protocol: .tcp, destination: peer))
    }
    return Resource(Metadata(name: "p\(number)"), .globalNetworkPolicy(spec))
  }

  static func input(_ resource: Resource) -> CalculationInput { .resource(resource.key, resource) }

  /// Hands every fact over, one at a time.
  func forEachInput(_ take: (CalculationInput) -> Void) {
    var profile = ProfileSpec(labelsToApply: ["pcns.projectcalico.org/name": "default"])
    profile.ingress = [Rule(.allow)]
    profile.egress = [Rule(.allow)]
    take(Self.input(Resource(Metadata(name: "kns.default"), .profile(profile))))
    take(Self.input(Resource(Metadata(name: "default"), .tier(TierSpec(order: 1_000_000)))))
    for number in 0..<scale.endpoints { take(Self.input(Self.localEndpoint(number, group: number % scale.groups))) }
    for selector in 0..<scale.selectors {
      if selector % 2 == 0 {
        for member in 0..<scale.members { take(Self.input(Self.remoteEndpoint(selector * scale.members + member, selector: selector))) }
      } else {
        take(Self.input(networkSet(selector)))
      }
    }
    for number in 0..<scale.policies { take(Self.input(policy(number))) }
    take(.inSync)
  }
}
